"""Data sets of one's own, versioned with DVC: pushed, pulled and kept as anybody's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.project import ROOT, Project

OWN = ("data/raw/mine", "data/raw/mixed/images", "data/raw/mixed/captions.json", "data/foundation/theirs")


def test_what_was_added_to_dvc_is_pushed_pulled_and_outlives_a_clean_up(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.folder.mkdir()
    for name in (".gitignore", ".dvcignore", "data/raw/.gitignore", "data/raw/README.md"):
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, project.folder / name)
    files = [project.folder / "data" / name for name in ("raw/mine/captions.txt", "raw/mine/images/1.png", "raw/mixed/images/1.png",
                                                         "raw/mixed/captions.json", "foundation/theirs/config.json", "raw/not-added/1.png")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.as_posix())
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("dvc", "init", "--quiet")
    project.run("dvc", "add", "--quiet", *OWN)
    project.run("dvc", "remote", "add", "--default", "local", str(tmp_path / "remote"))
    project.run("dvc", "push", "--quiet")
    project.commit("my data")
    tracked = set(project.run("git", "ls-files").stdout.split())
    assert {f"{name}.dvc" for name in OWN} <= tracked
    assert not {file.relative_to(project.folder).as_posix() for file in files} & tracked, "data were committed to git"

    project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run("dvc", "pull", "--quiet")
    for file in files[:-1]:
        assert (clone.folder / file.relative_to(project.folder)).read_text() == file.as_posix()

    project.run("dvc", "gc", "--workspace", "--force")
    shutil.rmtree(project.folder / "data/raw/mine")
    project.run("dvc", "checkout")
    assert files[0].read_text() == files[0].as_posix()


def test_a_folder_without_git_is_said_before_the_installation(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")

    def make() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", "repository", f"PYTHON={sys.executable}"], cwd=tmp_path, capture_output=True, text=True, check=False)

    refused = make()
    assert refused.returncode != 0
    assert "DVC needs a git repository" in refused.stderr
    assert "git init" in refused.stderr
    (tmp_path / ".git").mkdir()
    assert make().returncode == 0
