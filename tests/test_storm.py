"""A few seeded rounds of each storm; `make storm` runs long ones."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from safetensors.torch import save_file

from pipeline.core import artefacts
from pipeline.core import names as rule
from tests.project import Project
from tests.storm import STORMS
from tests.storm.values import flaw_of
from tests.storm.weather import Weather

damages, inputs, interruptions, names = (import_module(f"tests.storm.{name}") for name in ("damages", "inputs", "interruptions", "names"))


class Late(random.Random):
    """Kills when all is done."""

    def uniform(self, a: float, b: float) -> float:
        return 100 * b


@pytest.mark.parametrize(("name", "rounds"), [
    ("kills", 2), ("power-cuts", 2), ("writers", 2), ("damages", 6), ("names", 2), ("values", 8), ("inputs", 6),
])
def test_a_finished_project_weathers(finished: Project, tmp_path: Path, name: str, rounds: int) -> None:
    assert list(STORMS[name](Weather(finished.copy(tmp_path / "copy")), rounds, random.Random(name))) == []


def test_damage_is_found_where_nothing_is_checked(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storm itself can fail: without manifests, weights that are none are used."""
    monkeypatch.setattr(artefacts, "_check", lambda *what: None)
    monkeypatch.setattr(damages, "DAMAGES", {"zeros": lambda content, chance: bytes(len(content))})
    weather = Weather(finished.copy(tmp_path / "copy"))
    weather.stages = [stage for stage in weather.stages if stage.name == "train@raw"]
    assert next(damages.damages(weather, 15, random.Random(1)))


def test_unsynced_writes_are_lost_and_found_out(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruptions, "_keep_journal", lambda journal: None)
    weather = Weather(finished.copy(tmp_path / "copy"))
    weather.stages = [stage for stage in weather.stages if stage.name == "embed_tags@micro-detector-scenes"]
    assert next(interruptions.power_cuts(weather, 2, Late(0)))


def test_a_name_that_nobody_checks_is_noticed(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weather = Weather(finished.copy(tmp_path / "copy"))
    weather.stages = [stage for stage in weather.stages if stage.module == "stages.extract"]
    monkeypatch.setattr(rule, "_NAME", re.compile(".*"))
    monkeypatch.setattr(names, "PLACES", ["extract.*"])
    monkeypatch.setattr(names, "NAMES", ["scenes/"])
    assert any("changed" in problem for problem in names.names(weather, 2, random.Random(0)))


def test_what_is_no_number_or_empty_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "captions").mkdir()
    write = {"weights.safetensors": lambda file, value: save_file({"a": torch.tensor([1.0, value])}, file),
             "curve.json": lambda file, value: file.write_text(json.dumps({"loss": value})),
             "norms/zarr.json": lambda file, value: zarr.create_array(file.parent, data=np.array([1.0, value], np.float32))}
    for name, put in write.items():
        put(tmp_path / name, 2.0)
        assert flaw_of(tmp_path / name) is None
        shutil.rmtree(tmp_path / "norms", ignore_errors=True)
        put(tmp_path / name, math.nan)
        assert "no number" in flaw_of(tmp_path / name)
    (tmp_path / "captions/in-domain.json").write_text("[]")
    pq.write_table(pa.table({"CIDEr": pa.array([], pa.float64())}), tmp_path / "in-domain.parquet")
    assert flaw_of(tmp_path / "captions/in-domain.json")
    assert flaw_of(tmp_path / "in-domain.parquet")


@pytest.mark.parametrize(("target", "harm", "told"), [
    ("pipeline.photographs:open_image", lambda path: {}["x"], "ended with 1"),
    ("pipeline.photographs:list_images", lambda path, suffixes: ([], []), "nothing was said of"),
    ("pipeline.photographs:list_images", lambda path, suffixes: time.sleep(60), "hung"),
])
def test_what_is_not_named_hangs_or_ends_in_a_traceback_is_noticed(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                  target: str, harm: Callable[[Path], object], told: str) -> None:
    monkeypatch.setattr(target.replace(":", "."), harm)
    monkeypatch.setattr(inputs, "_PATIENCE", 5.0)
    weather = Weather(finished.copy(tmp_path / "copy"))
    assert any(told in problem for problem in inputs._pictures(weather, random.Random(0)))
