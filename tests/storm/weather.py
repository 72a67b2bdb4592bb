"""A finished project to storm over: its stages, what lies in their outputs, and how a stage is run, killed or given up."""

from __future__ import annotations

import importlib
import os
import resource
import shlex
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from pipeline.core.artefacts import MANIFEST, whole
from pipeline.core.errors import UserError
from pipeline.core.files import digest_tree
from tests.project import Project, become


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml, as it is run and as it is wired."""

    name: str
    module: str
    arguments: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]  # keys of params.yaml


@dataclass
class Weather:
    """A project to storm over: its stages, what lies in their outputs when all is well, and how often what was seen."""

    project: Project
    stages: list[Stage] = field(init=False)
    well: dict[str, str] = field(init=False)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        with Repo(str(self.project.folder)) as repo:
            self.stages = sorted((_stage(stage, self.project.folder) for stage in repo.index.stages), key=lambda stage: stage.name)
        self.well = {out: digest_tree(self.project.folder / out) for stage in self.stages for out in stage.outs}

    def path(self, out: str) -> Path:
        return self.project.folder / out

    def take_away(self, stage: Stage) -> None:
        """Remove a stage's outputs, as DVC does before it runs the stage."""
        for out in stage.outs:
            remove(self.path(out))

    def unlike(self, stage: Stage) -> list[str]:
        """Outputs of a stage that are not what they were."""
        return [out for out in stage.outs if not self.path(out).exists() or digest_tree(self.path(out)) != self.well[out]]

    def half(self) -> list[str]:
        """What lies in the outputs' places and is not whole."""
        found = []
        for stage in self.stages:
            for out in stage.outs:
                if self.path(out).is_dir() and out != "data/code":
                    try:
                        if not (self.path(out) / MANIFEST).exists():
                            raise UserError("no manifest")
                        whole(self.path(out))
                    except UserError as error:
                        found.append(f"{out}: {error}")
        return found


def _stage(stage: object, root: Path) -> Stage:
    command = shlex.split(stage.cmd)
    keys = [key for item in stage.deps if isinstance(item, ParamsDependency) for key in item.params]
    relative = [[Path(item.fs_path).relative_to(root).as_posix() for item in items if item.fs_path and item.def_path != "params.yaml"]
                for items in (stage.deps, stage.outs)]
    return Stage(stage.name, command[2], tuple(command[3:]), *map(tuple, relative), tuple(keys))


@contextmanager
def aside(weather: Weather, stage: Stage) -> Iterator[None]:
    """A stage's outputs out of the way, as DVC has them when it runs the stage, and back in their places afterwards."""
    shutil.rmtree(weather.path(".work"), ignore_errors=True)
    moved = [(weather.path(out), weather.path(out).with_name(f"{Path(out).name}.aside")) for out in stage.outs]
    for out, place in moved:
        out.rename(place)
    try:
        yield
    finally:
        for out, place in moved:
            remove(out)
            place.rename(out)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Ended:
    """How a stage ended: exit status (negative for a signal), and what it said."""

    status: int
    said: str

    @property
    def in_one_line(self) -> bool:
        """Refused as users should see it."""
        return self.status == 1 and "Traceback" not in self.said and "\nerror: " in "\n" + self.said

    @property
    def hung(self) -> bool:
        """Given up."""
        return self.status == -signal.SIGKILL


class Running:
    """A module run as a command with arguments, in a fork of this process. memory: bytes that it may have beyond what this one has."""

    def __init__(self, weather: Weather, module: str, arguments: Sequence[str], before: Callable[[], None] = lambda: None,
                 memory: int | None = None) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            if memory:
                held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
            become(module, tuple(arguments), weather.project.folder, self._log.fileno(), self._log.fileno(), before)

    def end(self, kill_after: float | None = None, patience: float = 120) -> Ended:
        """Wait for its end, kill it after some seconds, or give up on it as hanging."""
        started = time.monotonic()
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                if not os.WIFSIGNALED(status):
                    with suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)  # Java of a stage that ended early; one that is killed leaves its processes
                self._log.seek(0)
                return Ended(os.waitstatus_to_exitcode(status), self._log.read().decode(errors="replace"))
            passed = time.monotonic() - started
            if passed > patience or (kill_after is not None and passed > kill_after):
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.002)


def start(weather: Weather, stage: Stage, before: Callable[[], None] = lambda: None) -> Running:
    """Begin a stage."""
    return Running(weather, stage.module, stage.arguments, before)


def run(weather: Weather, stage: Stage, before: Callable[[], None] = lambda: None) -> Ended:
    """A stage from beginning to end."""
    return start(weather, stage, before).end()


def preload() -> None:
    """Import in this process what its forks need, and compute with one thread, which a fork survives."""
    import torch

    torch.set_num_threads(1)
    for name in ("training", "captioning", "evaluation", "report.page", "synthetic.drawing", "synthetic.refinement", "features.embedding",
                 "features.indexing", "features.tagging", "features.tags", "world.dataset", "corpus.extract"):
        importlib.import_module(f"pipeline.{name}")
