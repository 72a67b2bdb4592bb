"""A tiny copy of the project to run for real: the same code and dvc.yaml, small pools and few steps."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
_COPIED = ("pipeline", "stages", "dvc.yaml", ".dvcignore", ".gitignore", "data/foundation",
           *sorted(file.relative_to(ROOT).as_posix() for file in (ROOT / "data").glob("*/README.md") if file.parent.name != "sweeps"))
_YAML = YAML(typ="safe", pure=True)


def tiny_params() -> dict[str, Any]:
    """The whole bench's parameters, with sizes cut down and four systems left."""
    params: dict[str, Any] = _YAML.load(ROOT / "presets" / "bench.yaml")
    for section in (params["world"], params["extract"]):
        del section["album"], section["scenes-pairs"], section["films"], section["films-pairs"]
    params["embed"]["text"]["corpora"] = params["evaluation"]["datasets"] = ["scenes"]
    params["embed"]["images"]["datasets"] = params["tag"]["datasets"] = ["scenes", "scenes-drawn"]
    params["embed"]["regions"]["datasets"] = params["index"]["corpora"] = ["scenes"]
    params["embed"]["frames"] = {"clips": [], "datasets": []}
    del params["settings"]["films"]
    setting = {"test": "scenes", "support": "scenes"}
    params["settings"]["pictures"] = {"in-domain": setting, "validation": {**setting, "split": "val"}}
    params["world"]["scenes"].update(corpus=120, unlabelled=2, val=10, test=24)
    params["index"]["neighbours"] = 6
    params["decoders"]["small"].update(layers=1, heads=2, width=64)
    params["recipes"]["small"].update(steps=40, batch=32, learning_rate=0.004, warmup=4, evaluate_every=10, snapshot_every=10)
    params["systems"] = {name: params["systems"][name] for name in ("decap", "knight", "raw", "syntic")}
    params["detectors"]["detector"]["batch"] = 16
    params["synthesis"].update(captions=40, steps=2, batch=16)
    params["refinement"].update(steps=20, batch=16, evaluate_every=10, snapshot_every=10)
    params["recipes"]["small-4k"].update(steps=20, batch=16, warmup=4, evaluate_every=10, snapshot_every=10, captions=40)
    params["answering"] = {"decap": {
        "method": "decap", "clip": "micro", "looks_at": "micro/image", "looks_up": "micro/text",
        "settings": {"in-domain": {"test": "scenes-questions", "support": "scenes"}}, "decoding": {"max_new_tokens": 4}}}
    params["captioning"].update(beams=2, max_new_tokens=12)
    params["evaluation"]["samples"] = 50
    return params


def read_params(folder: Path) -> dict[str, Any]:
    """params.yaml of a project."""
    params: dict[str, Any] = _YAML.load(folder / "params.yaml")
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
        params = read_params(self.folder)
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
        variables = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "UNPAIRED_DEVICE": "cpu", "OMP_NUM_THREADS": "1",
                     "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@localhost", "GIT_COMMITTER_NAME": "t",
                     "GIT_COMMITTER_EMAIL": "t@localhost", **environment}
        # bytecode in the tree is part of what must not disturb DVC
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        result = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=540, check=False)
        assert not check or result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
        return result

    def run_module(self, module: str, *arguments: str, before: Callable[[], None] = lambda: None) -> subprocess.CompletedProcess[str]:
        """`python -m module arguments` in a fork of this process, which has the heavy imports behind it; `before` may patch the child."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            pid = os.fork()
            if pid == 0:
                become(module, arguments, self.folder, out.fileno(), err.fileno(), before)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess([module, *arguments], status, *texts)

    def lock(self) -> dict[str, Any]:
        """What DVC recorded, by stage."""
        stages: dict[str, Any] = _YAML.load(self.folder / "dvc.lock")["stages"]
        return stages

    def stages_run(self, output: str) -> set[str]:
        """The stages that a `dvc repro` really ran, from what it printed."""
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}


def become(module: str, arguments: tuple[str, ...], folder: Path, out: int, err: int, before: Callable[[], None]) -> None:
    """Turn a forked child into the command, and end it without running what belongs to the test process."""
    code = 1
    gc.freeze()  # what the test process left uncollected, such as a film's reader, has threads that are not here: freeing it would hang
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.chdir(folder)
        os.environ |= {"UNPAIRED_DEVICE": "cpu", "PATH": f"{BIN}:{os.environ['PATH']}"}
        sys.argv = [module, *arguments]
        atexit._clear()  # what the test process would do at its end
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(torch.get_num_threads())  # in a fork its pool is made anew: by one thread, two would race
        before()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def patched(target: str, calls: int, action: Callable[[], None]) -> Callable[[], None]:
    """A patch for `run_module`: after `calls` calls of `module:name` (dots for attributes), each further one does `action` first."""
    def apply() -> None:
        module, _, path = target.partition(":")
        owner = importlib.import_module(module)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        original, left = getattr(owner, name), [calls]

        def counting(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                action()
            return original(*args, **kwargs)

        setattr(owner, name, counting)

    return apply
