"""A few seeded rounds of each storm; `python -m tests.storm` runs long ones."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.core import artefacts
from tests.project import Project
from tests.storm import STORMS, damages, interruptions
from tests.storm.weather import Weather


@pytest.mark.parametrize(("name", "rounds"), [
    ("kills", 8), ("power-cuts", 8), ("writers", 6), ("damages", 25), ("names", 4), ("values", 30), ("inputs", 20),
])
def test_a_finished_project_weathers(finished: Project, tmp_path: Path, name: str, rounds: int) -> None:
    assert list(STORMS[name](Weather(finished.copy(tmp_path / "copy")), rounds, random.Random(name))) == []


def test_damage_is_found_where_nothing_is_checked(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storm itself can fail: without manifests, weights that are none are used."""
    monkeypatch.setattr(artefacts, "_check", lambda *what: None)
    monkeypatch.setattr(damages, "DAMAGES", {"zeros": lambda content, chance: bytes(len(content))})
    weather = Weather(finished.copy(tmp_path / "copy"))
    weather.stages = [stage for stage in weather.stages if stage.name == "train@raw"]
    assert list(damages.damages(weather, 15, random.Random(1)))


def test_unsynced_writes_are_lost_and_found_out(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruptions, "_keep_journal", lambda journal: None)
    weather = Weather(finished.copy(tmp_path / "copy"))
    weather.stages = [stage for stage in weather.stages if stage.name == "embed_tags@micro-detector-scenes"]
    assert list(interruptions.power_cuts(weather, 6, random.Random(0)))
