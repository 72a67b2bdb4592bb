"""A tiny copy of the project to run for real: the same code and dvc.yaml, small pools and few steps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
_COPIED = ("pipeline", "stages", "dvc.yaml", ".dvcignore", ".gitignore", "data/foundation")
_YAML = YAML(typ="safe", pure=True)


def tiny_params() -> dict[str, Any]:
    """params.yaml as shipped, with sizes cut down and three systems left."""
    params = _YAML.load(ROOT / "params.yaml")
    for dataset in params["world"].values():
        dataset.update(corpus=60, unlabelled=2, val=4, test=12)
    params["index"]["neighbours"] = 6
    params["decoders"]["small"].update(layers=1, heads=2, width=32)
    params["recipes"]["small"].update(steps=12, batch=16, warmup=2, evaluate_every=4)
    params["systems"]["text"] = {name: params["systems"]["text"][name] for name in ("decap", "knight")}
    params["systems"]["untrained"] = {"raw": params["systems"]["untrained"]["raw"]}
    params["captioning"].update(beams=2, max_new_tokens=12)
    params["evaluation"]["samples"] = 50
    return params


class Project:
    """A project folder and the commands that people run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def create(folder: Path) -> Project:
        """Copy the project's code, write tiny parameters, start git and DVC."""
        folder.mkdir(parents=True)
        for name in _COPIED:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.work"))
            else:
                shutil.copyfile(source, target)
        (folder / "data" / "sweeps").mkdir()
        (folder / "data" / "sweeps" / "README.md").write_text("sweeps\n")
        project = Project(folder)
        project.write_params(tiny_params())
        project.run("git", "init", "--quiet", "--initial-branch=main")
        project.run("dvc", "init", "--quiet")
        project.run("dvc", "config", "core.analytics", "false")
        project.commit("start")
        return project

    def copy(self, folder: Path) -> Project:
        """The project with artefacts, cache and history, elsewhere."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def write_params(self, params: Mapping[str, Any]) -> None:
        with (self.folder / "params.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(dict(params), file)

    def edit(self, key: str, value: Any) -> None:
        """Set one dotted key of params.yaml, as a user would."""
        params = _YAML.load(self.folder / "params.yaml")
        *parents, last = key.split(".")
        place = params
        for part in parents:
            place = place[part]
        place[last] = value
        self.write_params(params)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; with `check`, a failure shows what it printed."""
        variables = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "UNPAIRED_DEVICE": "cpu",
                     "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@localhost", "GIT_COMMITTER_NAME": "t",
                     "GIT_COMMITTER_EMAIL": "t@localhost", **environment}
        # bytecode in the tree is part of what must not disturb DVC
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        result = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=540, check=False)
        assert not check or result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
        return result

    def stages_run(self, output: str) -> set[str]:
        """The stages that a `dvc repro` really ran, from what it printed."""
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}
