"""What is installed: one package, `unpaired`, that does everything without the project's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.project import ROOT

SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_of_the_project_is_installed() -> None:
    there = {".".join(["unpaired", *file.parent.relative_to(ROOT / "pipeline").parts]) for file in (ROOT / "pipeline").rglob("__init__.py")}
    assert set(SETUP["tool"]["setuptools"]["packages"]) == there


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT / "pipeline", source / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", built, source], check=True)
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(built / "site")
    return built / "site"


def run(installed: Path, here: Path, *command: str) -> str:
    """What a command prints that is run far from the project, with what the wheel holds."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "UNPAIRED_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, *command], cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_wheel_installs_one_package_with_all_that_it_reads(installed: Path) -> None:
    assert {path.name for path in installed.iterdir()} == {"unpaired", f"unpaired-{SETUP['project']['version']}.dist-info"}
    of_project = {file.relative_to(ROOT / "pipeline") for file in (ROOT / "pipeline").rglob("*") if file.is_file()}
    expected = {file for file in of_project if "__pycache__" not in file.parts}
    assert {file.relative_to(installed / "unpaired") for file in (installed / "unpaired").rglob("*") if file.is_file()} == expected


def test_what_is_installed_fits_and_captions_without_the_project(installed: Path, tmp_path: Path, tiny_clip_folder: Path) -> None:
    (tmp_path / "sentences.txt").write_text("".join(f"a red dog on street {number}\n" for number in range(80)))
    Image.new("RGB", (64, 64), "red").save(tmp_path / "photo.png")
    made = run(installed, tmp_path, "-m", "unpaired.cli", "fit", "sentences.txt", "--clip", str(tiny_clip_folder), "--out", "captioner",
               "--steps", "2", "--pictures", "photo.png")
    code = ("import sys; from unpaired import Captioner; print(*Captioner.load('captioner').caption(['photo.png'])); "
            "assert not {'pipeline', 'stages'} & sys.modules.keys()")
    assert f"photo.png: {run(installed, tmp_path, '-c', code).strip()}" == made.splitlines()[-1].strip()


def test_the_same_code_has_the_same_digest_whatever_it_is_called(installed: Path, tmp_path: Path) -> None:
    code = "from {0}.core.code import code_digest; print(code_digest('{0}.training', '{0}.methods.knight', '{0}.report.page'))"
    assert run(installed, tmp_path, "-c", code.format("unpaired")) == run(ROOT, tmp_path, "-c", code.format("pipeline"))
