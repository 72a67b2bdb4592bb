"""Hostile names in every place that holds one: nothing elsewhere is touched, nothing of another artefact removed, no command run."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core.names import PLACES
from pipeline.core.progress import track
from tests.hostile import NAMES
from tests.project import read_params
from tests.storm.weather import Running, Weather


def names(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Each round a name in a place of params.yaml: `dvc repro`, and the stages that it names, called with it."""
    folder = weather.project.folder
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "precious.txt").write_text("mine")
    whole = read_params(folder)
    stages = sorted({stage.module: stage for stage in weather.stages if stage.arguments}.values(), key=lambda stage: stage.module)
    pairs = list(itertools.product(PLACES, _names(outside)))
    chance.shuffle(pairs)
    before = _listing(folder)
    for number, (place, name) in enumerate(track(itertools.islice(itertools.cycle(pairs), rounds), "names", rounds, "rounds")):
        weather.project.write_params(_with(whole, place, name))
        stage = stages[number % len(stages)]
        position = chance.randrange(len(stage.arguments))
        arguments = ["--", *(name if i == position else argument for i, argument in enumerate(stage.arguments))]
        for command, ended in (("dvc repro", Running(weather, "dvc", ["repro"]).end()),
                               (f"python -m {stage.module} {arguments!r}", Running(weather, stage.module, arguments).end())):
            what = f"{place} is {name!r:.60}, {command:.120}"
            if ended.status == 0:
                yield f"{what}: succeeded"
            elif "Traceback" in ended.said or (command != "dvc repro" and not ended.in_one_line):
                yield f"{what}: ended with {ended.status}: {ended.said[-400:]}"
            elif "cannot be a name" in ended.said:
                weather.seen[f"{command.split()[0]}: refused by our rule"] += 1
            else:
                weather.seen[f"{command.split()[0]}: refused otherwise"] += 1
            if changed := _listing(folder) ^ before:
                yield f"{what}: changed {sorted(changed)[:4]}"
                before = _listing(folder)
    weather.project.write_params(whole)


def _names(outside: Path) -> list[str]:
    """Those that a YAML file can hold, and the path of somebody's folder."""
    return [str(outside), *(name for name in NAMES if name.isascii() or name.encode("utf-8", "ignore").decode() == name)]


def _with(params: dict[str, Any], place: str, name: str) -> dict[str, Any]:
    """The parameters with a name at one of `PLACES`; what it names is like its neighbours."""
    changed = copy.deepcopy(params)
    _put(changed, place.split("."), name)
    return changed


def _put(value: dict[str, Any], path: list[str], name: str) -> None:
    key, rest = path[0].rstrip("[]/"), path[1:]
    if rest:
        _put(value[next(iter(value)) if key == "*" else key], rest, name)
    elif key == "*":
        value[name] = copy.deepcopy(value[next(iter(value))])
    elif path[0].endswith("[]"):
        value[key] = [*value[key], name]
    else:
        value[key] = value[key].split("/")[0] + "/" + name if path[0].endswith("/") else name


def _listing(folder: Path) -> set[tuple[str, int, int]]:
    """All that a command could have touched: the project's data but the digests of code, and the folders beside the project."""
    found = set()
    for path in folder.parent.rglob("*"):
        name = path.relative_to(folder.parent).as_posix()
        ours = name.startswith(folder.name + "/")
        inner = name.removeprefix(folder.name + "/")
        if not ours or (inner.startswith("data/") and not inner.startswith("data/code")) or path.name == "pwned" or "/" not in inner:
            about = path.lstat()
            if inner not in ("params.yaml", "data", ".work", ".dvc", "dvc.lock", ".git") and name != folder.name:
                found.add((name, about.st_size, about.st_mtime_ns if path.is_file() else 0))
    return found
