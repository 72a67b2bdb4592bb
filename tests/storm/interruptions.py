"""Processes that are killed, cut off from power, or not alone: the same bytes come out in the end."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.core import artefacts, files, resume
from pipeline.core.progress import track
from tests.project import BIN
from tests.storm.weather import Stage, Weather, remove, run, start


def kills(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Kill stages at random moments, and finish them: the same bytes must come out."""
    for stage in _each(weather, rounds, "kills"):
        took = _takes(weather, stage)
        for _ in range(chance.randint(1, 3)):
            start(weather, stage).end(kill_after=chance.uniform(0, took))
            yield from (f"{stage.name}: killed, {problem}" for problem in weather.half())
        ended = run(weather, stage)
        if ended.status != 0 or weather.unlike(stage):
            yield f"{stage.name}: after a kill it ended with {ended.status} and other {weather.unlike(stage)}: {ended.said[-300:]}"


def dvc_kills(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Kill DVC alone or with its child while it runs a stage, and start it again until it succeeds."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "UNPAIRED_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    for number in track(range(rounds), "kills of DVC", rounds, "rounds"):
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
    for stage in _each(weather, rounds, "writers"):
        _forget(weather, stage)
        first = start(weather, stage)
        time.sleep(chance.uniform(0, 0.5))
        second = start(weather, stage)
        for ended in (first.end(), second.end()):
            if ended.status != 0 and not (ended.in_one_line and "in use by another process" in ended.said):
                yield f"{stage.name}: one of two writers ended with {ended.status}: {ended.said[-300:]}"
        if weather.unlike(stage):
            yield f"{stage.name}: two writers left other {weather.unlike(stage)}"


def power_cuts(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Kill stages, and undo every write and every change of a folder that was not synced before."""
    for stage in _each(weather, rounds, "power cuts"):
        _forget(weather, stage)
        with tempfile.TemporaryDirectory() as place:
            journal = Path(place) / "synced"
            before = _listing(weather)
            took = _takes(weather, stage)
            start(weather, stage, lambda journal=journal: _keep_journal(journal)).end(kill_after=chance.uniform(0, 1.1 * took))
            _lose_unsynced(weather, before, journal, chance)
        yield from (f"{stage.name}: power cut, {problem}" for problem in weather.half())
        ended = run(weather, stage)
        if ended.status != 0 or weather.unlike(stage):
            yield f"{stage.name}: after a power cut it ended with {ended.status} and other {weather.unlike(stage)}: {ended.said[-300:]}"


def _each(weather: Weather, rounds: int, storm: str) -> Iterator[Stage]:
    """One stage after the other, again from the first after the last."""
    return track(itertools.islice(itertools.cycle(weather.stages), rounds), storm, rounds, "rounds")


def _forget(weather: Weather, stage: Stage) -> None:
    weather.take_away(stage)
    shutil.rmtree(weather.path(".work"), ignore_errors=True)


def _takes(weather: Weather, stage: Stage) -> float:
    """Seconds from a stage's beginning to its end; afterwards its outputs and its scratch are away."""
    _forget(weather, stage)
    started = time.monotonic()
    run(weather, stage)
    took = time.monotonic() - started
    _forget(weather, stage)
    return took


def _keep_journal(journal: Path) -> None:
    """Note every sync of the child: of a file its inode, size and time of change; of a folder its own and its entries' inodes."""
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
    kept: set[tuple[int, int]] = set()
    for line in journal.read_text().splitlines() if journal.exists() else []:
        inode, is_folder, entries = json.loads(line)
        if is_folder:
            kept |= {(inode, entry) for entry in entries}
        else:
            synced[inode] = entries
    for top in ("data", ".work"):
        for path in sorted(weather.path(top).rglob("*"), reverse=True):
            about = path.lstat()
            if about.st_ino in before or path.name == ".lock":
                continue
            if (path.parent.stat().st_ino, about.st_ino) not in kept and chance.random() < 0.5:
                remove(path)  # its entry in the folder never came to the disk
            elif path.is_file() and synced.get(about.st_ino) != [about.st_size, about.st_mtime_ns]:
                content = path.read_bytes()
                path.write_bytes(content[: chance.choice([0, len(content) // 2])])
