"""A storm over a finished project: kills, power cuts, two writers at once, and damage of every kind.

`python -m tests.storm kills --rounds 100` builds a tiny project (two minutes), or takes a copy of one with `--project FOLDER`, and prints
what went wrong; exit code 1 if anything did. The tests run a few seeded rounds of each.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dvc.repo import Repo

from pipeline.core import artefacts, files, resume
from pipeline.core.artefacts import MANIFEST, whole
from pipeline.core.errors import UserError
from pipeline.core.files import digest_tree
from tests.project import BIN, Project, become


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml, as it is run and as it is wired."""

    name: str
    module: str
    arguments: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]


@dataclass
class Weather:
    """A project to storm over: its stages, and what lies in their outputs when all is well."""

    project: Project
    stages: list[Stage] = field(init=False)
    well: dict[str, str] = field(init=False)

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
    relative = [[Path(item.fs_path).relative_to(root).as_posix() for item in items if item.fs_path and item.def_path != "params.yaml"]
                for items in (stage.deps, stage.outs)]
    return Stage(stage.name, command[2], tuple(command[3:]), *map(tuple, relative))


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


class Running:
    """A stage in a fork of this process."""

    def __init__(self, weather: Weather, stage: Stage, before: Callable[[], None] = lambda: None) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self.pid = os.fork()
        if self.pid == 0:
            become(stage.module, stage.arguments, weather.project.folder, self._log.fileno(), self._log.fileno(), before)

    def end(self, kill_after: float | None = None, patience: float = 120) -> Ended:
        """Wait for its end, kill it after some seconds, or give up on it as hanging."""
        started = time.monotonic()
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._log.seek(0)
                return Ended(os.waitstatus_to_exitcode(status), self._log.read().decode(errors="replace"))
            passed = time.monotonic() - started
            if passed > patience or (kill_after is not None and passed > kill_after):
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.002)


def run(weather: Weather, stage: Stage, before: Callable[[], None] = lambda: None) -> Ended:
    return Running(weather, stage, before).end()


def kills(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Kill stages at random moments, and finish them: the same bytes must come out."""
    for number in range(rounds):
        stage = weather.stages[number % len(weather.stages)]
        weather.take_away(stage)
        started = time.monotonic()
        shutil.rmtree(weather.path(".work"), ignore_errors=True)
        run(weather, stage)
        took = time.monotonic() - started
        weather.take_away(stage)
        shutil.rmtree(weather.path(".work"), ignore_errors=True)
        for _ in range(chance.randint(1, 3)):
            Running(weather, stage).end(kill_after=chance.uniform(0, took))
            yield from (f"{stage.name}: killed, {problem}" for problem in weather.half())
        ended = run(weather, stage)
        if ended.status != 0 or weather.unlike(stage):
            yield f"{stage.name}: after a kill it ended with {ended.status} and other {weather.unlike(stage)}: {ended.said[-300:]}"


def dvc_kills(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Kill DVC alone or with its child while it runs a stage, and start it again until it succeeds."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "UNPAIRED_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    for number in range(rounds):
        stage = weather.stages[(7 * number) % len(weather.stages)]
        with tempfile.TemporaryFile() as log:
            dvc = subprocess.Popen(["dvc", "repro", "--force", "--single-item", stage.name], cwd=weather.project.folder, env=environment,
                                   stdout=log, stderr=log, start_new_session=True)
            time.sleep(chance.uniform(1, 8))
            (os.killpg if number % 2 else os.kill)(dvc.pid, signal.SIGKILL)
            dvc.wait()
        for _ in range(20):
            again = weather.project.run("dvc", "repro", check=False)
            if again.returncode == 0:
                break
            time.sleep(2)
        if again.returncode or weather.unlike(stage) or weather.half():
            yield (f"{stage.name}: DVC killed, then {again.returncode}, other {weather.unlike(stage)}, half {weather.half()}: "
                   f"{again.stderr[-300:]}")
        if status := json.loads(weather.project.run("dvc", "status", "--json").stdout):
            yield f"{stage.name}: DVC killed, and its status is {status}"


def writers(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Two processes make one artefact at once."""
    for number in range(rounds):
        stage = weather.stages[number % len(weather.stages)]
        weather.take_away(stage)
        shutil.rmtree(weather.path(".work"), ignore_errors=True)
        first = Running(weather, stage)
        time.sleep(chance.uniform(0, 0.5))
        second = Running(weather, stage)
        for ended in (first.end(), second.end()):
            if ended.status != 0 and not (ended.in_one_line and "in use by another process" in ended.said):
                yield f"{stage.name}: one of two writers ended with {ended.status}: {ended.said[-300:]}"
        if weather.unlike(stage):
            yield f"{stage.name}: two writers left other {weather.unlike(stage)}"


def power_cuts(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Kill stages, and undo every write and every change of a folder that was not synced before."""
    for number in range(rounds):
        stage = weather.stages[number % len(weather.stages)]
        weather.take_away(stage)
        shutil.rmtree(weather.path(".work"), ignore_errors=True)
        with tempfile.TemporaryDirectory() as place:
            journal = Path(place) / "synced"
            before = _listing(weather)
            started = time.monotonic()
            run(weather, stage)
            took = time.monotonic() - started
            weather.take_away(stage)
            shutil.rmtree(weather.path(".work"), ignore_errors=True)
            Running(weather, stage, lambda journal=journal: _keep_journal(journal)).end(kill_after=chance.uniform(0, 1.1 * took))
            _lose_unsynced(weather, before, journal, chance)
        yield from (f"{stage.name}: power cut, {problem}" for problem in weather.half())
        ended = run(weather, stage)
        if ended.status != 0 or weather.unlike(stage):
            yield f"{stage.name}: after a power cut it ended with {ended.status} and other {weather.unlike(stage)}: {ended.said[-300:]}"


def _keep_journal(journal: Path) -> None:
    """Note every sync of the child: of a file its inode, size and time of change; of a folder its entries' inodes."""
    real = files.sync

    def sync(path: Path) -> None:
        real(path)
        about = path.stat()
        entries = [entry.inode() for entry in os.scandir(path)] if path.is_dir() else [about.st_size, about.st_mtime_ns]
        with journal.open("a") as file:
            file.write(json.dumps([about.st_ino, path.is_dir(), entries]) + "\n")

    for module in (files, artefacts, resume):
        module.sync = sync


def _listing(weather: Weather) -> set[int]:
    """Inodes of all that was there before, and is on the disk."""
    return {path.lstat().st_ino for top in ("data", ".work") for path in weather.path(top).rglob("*")}


def _lose_unsynced(weather: Weather, before: set[int], journal: Path, chance: random.Random) -> None:
    synced: dict[int, list[int]] = {}
    kept: set[int] = set()
    for line in journal.read_text().splitlines() if journal.exists() else []:
        inode, is_folder, entries = json.loads(line)
        if is_folder:
            kept |= set(entries)
        else:
            synced[inode] = entries
    for top in ("data", ".work"):
        for path in sorted(weather.path(top).rglob("*"), reverse=True):
            about = path.lstat()
            if about.st_ino in before or path.name == ".lock":
                continue
            if about.st_ino not in kept and chance.random() < 0.5:
                remove(path)  # its entry in the folder never came to the disk
            elif path.is_file() and synced.get(about.st_ino) != [about.st_size, about.st_mtime_ns]:
                content = path.read_bytes()
                path.write_bytes(content[: chance.choice([0, len(content) // 2])])


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "a flipped bit": lambda content, chance: _flipped(content, chance),
    "a cut": lambda content, chance: content[: chance.randrange(len(content))] if content else None,
    "nothing left": lambda content, chance: b"",
    "zeros": lambda content, chance: bytes(len(content)) if any(content) else None,
    "gone": lambda content, chance: None,
    "a tail of noise": lambda content, chance: content + chance.randbytes(7),
}


def _flipped(content: bytes, chance: random.Random) -> bytes | None:
    if not content:
        return None
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def damages(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Damage a file of an artefact, and run a stage that depends on it: it must name the damage, or come to the same result."""
    for _ in range(rounds):
        stage, dep = chance.choice([(stage, dep) for stage in weather.stages for dep in stage.deps
                                    if dep.startswith("data/") and not dep.startswith(("data/code", "data/sweeps"))])
        top = weather.path(dep)
        file = chance.choice(sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top])
        name, damage = chance.choice(sorted(DAMAGES.items()))
        content, times = file.read_bytes(), file.stat()
        spoilt = damage(content, chance)
        file.unlink()
        if spoilt is not None:
            file.write_bytes(spoilt)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        shutil.rmtree(weather.path(".work"), ignore_errors=True)
        aside = [(weather.path(out), weather.path(out).with_name(f"{Path(out).name}.aside")) for out in stage.outs]
        for out, place in aside:
            out.rename(place)
        ended = run(weather, stage)
        what = f"{stage.name} with {name} in {file.relative_to(weather.project.folder)}"
        if ended.status == 0 and weather.unlike(stage):
            yield f"{what}: another result, without a word"
        elif ended.status != 0 and not ended.in_one_line:
            yield f"{what}: ended with {ended.status}: {ended.said[-400:]}"
        for out, place in aside:
            remove(out)
            place.rename(out)
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def preload() -> None:
    """Import in this process what its forks need, and compute with one thread, which a fork survives."""
    import torch

    torch.set_num_threads(1)
    for name in ("training", "captioning", "evaluation", "report.page", "synthetic.drawing", "synthetic.refinement", "features.embedding",
                 "features.indexing", "features.tagging", "features.tags", "world.dataset", "corpus.extract"):
        importlib.import_module(f"pipeline.{name}")


STORMS = {"kills": kills, "dvc-kills": dvc_kills, "writers": writers, "power-cuts": power_cuts, "damages": damages}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("storm", choices=STORMS)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--project", type=Path, help="a finished tiny project, which is copied")
    asked = parser.parse_args(arguments)
    preload()
    with tempfile.TemporaryDirectory() as place:
        if asked.project:
            project = Project(asked.project).copy(Path(place) / "project")
        else:
            project = Project.create(Path(place) / "project")
            project.run("dvc", "repro")
            project.commit("results")
        problems = list(STORMS[asked.storm](Weather(project), asked.rounds, random.Random(asked.seed)))
    print(*problems, sep="\n")
    print(f"{asked.storm}: {asked.rounds} rounds, {len(problems)} problems")
    return min(len(problems), 1)


if __name__ == "__main__":
    sys.exit(main())
