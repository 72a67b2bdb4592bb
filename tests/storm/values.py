"""Nonsense for every value of params.yaml: refused in one line that names it, or it works and gives something."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import zarr
from safetensors.torch import load_file

from pipeline.core.progress import track
from tests.project import read_params
from tests.storm.weather import Running, Stage, Weather, aside

NONSENSE: list[Any] = [
    None, True, False, -1, 0, 1, 2, 100, 600, 10**400, 2**63, 10**14, 10**9, -0.5, 0.5, 1.5, math.nan, math.inf, -math.inf, 1e308, 1e-308,
    "", "nonsense", "1", "\0", "{}", [], ["a"], [[]], [None], {}, {"a": 1}, {"a": None}, {"": []}, {"scenes": -1}, {"scenes": math.nan},
]
_MEMORY = 6 * 2**30
_PATIENCE, _PATIENCE_WITH_MORE = 60.0, 12.0  # more of something may take its time


def values(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Each round a value in a place of params.yaml, and a stage that reads it."""
    folder = weather.project.folder
    whole = read_params(folder)
    keys = [key for key in _keys(whole) if key[0] != "sweeps"]
    for _ in track(range(rounds), "values", rounds, "rounds"):
        key = chance.choice(keys)
        readers = [stage for stage in weather.stages if any(_covers(param.split("."), list(key)) for param in stage.params)]
        stage = chance.choice(readers or [stage for stage in weather.stages if stage.module == "stages.code"])
        old = _at(whole, key)
        scaled = [old * factor for factor in (-1, 1000, 0.001)] if isinstance(old, int | float) and not isinstance(old, bool) else []
        value = chance.choice([*NONSENSE, *scaled])
        more = scaled and isinstance(value, int | float) and value > old
        changed = copy.deepcopy(whole)
        _at(changed, key[:-1])[key[-1]] = value
        weather.project.write_params(changed)
        with aside(weather, stage):
            ended = Running(weather, stage.module, stage.arguments, memory=_MEMORY).end(
                patience=_PATIENCE_WITH_MORE if more else _PATIENCE)
            what = f"{'.'.join(key)} is {value!r:.60}, {stage.name}"
            if value == {} and key == ("settings", "pictures"):
                weather.seen["nothing, as was asked"] += ended.status == 0  # people without test pictures
            elif ended.hung and more:
                weather.seen[f"works on ({'.'.join(key)}: {value!r:.20})"] += 1
            elif ended.hung:
                yield f"{what}: hung"
            elif ended.status == 0 and (flaw := _flaw(weather, stage)):
                yield f"{what}: {flaw}"
            elif ended.status and not ended.in_one_line:
                yield f"{what}: ended with {ended.status}: {ended.said[-500:]}"
            else:
                weather.seen["refused" if ended.status else "works"] += 1
    weather.project.write_params(whole)


def _keys(value: Any, walked: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, inner in value.items():
        yield (*walked, key)
        if isinstance(inner, dict):
            yield from _keys(inner, (*walked, key))


def _covers(param: list[str], key: list[str]) -> bool:
    """Whether a stage that depends on `param` reads `key`, or something below or above it."""
    length = min(len(param), len(key))
    return param[:length] == key[:length]


def _at(params: dict[str, Any], key: tuple[str, ...]) -> Any:
    value: Any = params
    for part in key:
        value = value[part]
    return value


def _flaw(weather: Weather, stage: Stage) -> str | None:
    """What is not a number, or empty, in what a stage wrote."""
    for out in stage.outs:
        top = weather.path(out)
        if not top.exists():
            return f"{out} is not there"
        for file in [top] if top.is_file() else sorted(top.rglob("*")):
            if flaw := flaw_of(file):
                return f"{file.relative_to(weather.project.folder)} {flaw}"
    return None


def flaw_of(file: Path) -> str | None:
    """What is not a number, or empty, in a file of an artefact."""
    if file.suffix == ".safetensors":
        return "holds what is no number" if any(not tensor.isfinite().all() for tensor in load_file(file).values()) else None
    if file.suffix == ".json" and file.name != "zarr.json":
        text = file.read_text(encoding="utf-8")
        return "holds what is no number" if any(word in text for word in ("NaN", "Infinity")) else _emptiness(file, json.loads(text))
    if file.suffix == ".parquet":
        return "has no row" if pq.read_table(file).num_rows == 0 and file.stem in ("in-domain", "validation") else None
    if file.name == "zarr.json" and json.loads(file.read_text())["node_type"] == "array":
        array = np.asarray(zarr.open_array(file.parent, mode="r")[...])
        return "holds what is no number, or nothing" if array.size == 0 or not np.isfinite(array).all() else None
    return None


def _emptiness(file: Path, value: Any) -> str | None:
    if "captions" in file.parts and file.name != "unpaired-manifest.json" and not value:
        return "is empty"
    return "lists no file" if file.name == "unpaired-manifest.json" and not value["files"] else None
