"""Captions of films are scored by what things do in them, where the data set says it."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.core import paths
from pipeline.corpus.extract import ExtractParams, extract
from pipeline.metrics.captions import Tokenized
from pipeline.tasks.caption import TASK, _truth
from pipeline.world.dataset import WorldParams, write_dataset
from tests.artefacts import seal_again

PARAMS = WorldParams("scenes", seed=11, corpus=3, unlabelled=0, val=0, test=12, moving=True)
TRUTH = ("CHAIRs", "CHAIRi", "ObjectRecall", "ColourAccuracy", "Correct")


def read(motions: str) -> Tokenized:
    """Extract the films; a person's captions as the hypotheses, and the others'."""
    extract(paths.raw("films"), paths.corpus("films"), ExtractParams(
        "karpathy", "dataset.json", "images", instances="instances.json", synonyms="synonyms.txt", colours="colours.txt",
        motions=motions))
    texts: dict[str, list[str]] = {}
    table = pq.read_table(paths.references_table("films")).to_pydict()
    for image_id, text in zip(table["image_id"], table["text"], strict=True):
        texts.setdefault(image_id, []).append(" ".join(re.findall("[a-z]+", text)))
    return Tokenized({image_id: its[:1] for image_id, its in texts.items()}, {image_id: its[1:] for image_id, its in texts.items()})


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset("films", PARAMS)


def test_people_are_right_about_the_motions_of_a_film_and_wrong_about_another_ones(films: None) -> None:
    told = read("motions.txt")
    truth = _truth("films", told)
    assert truth is not None
    assert set(truth.corpus) | set(truth.per_image) >= {*TRUTH, "MotionAccuracy", "MotionCorrect"}
    assert truth.corpus["MotionAccuracy"] == 1.0
    assert truth.per_image["MotionCorrect"].mean() > 0.6
    first, *others = told.hypotheses.values()
    other = _truth("films", Tokenized(dict(zip(told.hypotheses, (*others, first), strict=True)), told.references))
    assert other is not None
    assert other.per_image["MotionCorrect"].mean() < 0.3


def test_without_a_list_of_motions_there_is_no_such_score_and_the_others_stay(films: None) -> None:
    with_motions, without = (_truth("films", read(motions)) for motions in ("motions.txt", ""))
    assert with_motions is not None
    assert without is not None
    assert not [name for name in (*without.corpus, *without.per_image) if "otion" in name or name.startswith("moved")]
    assert all(with_motions.corpus[name] == value for name, value in without.corpus.items())
    assert {"MotionAccuracy", "MotionCorrect"} <= {metric.name for metric in TASK.metrics}
    assert "motions" not in pq.read_schema(paths.objects_table("films")).names


def test_a_motion_that_the_list_does_not_hold_is_named(films: None, user_error) -> None:
    listed = paths.raw("films") / "motions.txt"
    listed.write_text("".join(line for line in listed.read_text().splitlines(keepends=True) if not line.startswith("moves to the left")))
    seal_again(listed)
    assert "the motions list no 'moves to the left'" in user_error(read, "motions.txt")


def test_a_list_of_motions_without_a_record_is_refused() -> None:
    with pytest.raises(ValueError, match="motions"):
        ExtractParams("karpathy", "dataset.json", "images", motions="motions.txt")
