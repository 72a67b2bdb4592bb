"""Scores as a long table, and what people read of it."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.files import read_json
from pipeline.metrics.judge import EvaluationParams
from pipeline.tasks import answer
from pipeline.tasks.base import Control, Metric, Score, Task, long
from pipeline.tasks.caption import TASK

ACCURACY = Task("question", (Metric("accuracy", interval=True), Metric("consistency", 3), Metric("unsure", higher_is_better=False)),
                "accuracy", (Control("shuffled", "the same answers, elsewhere"), Control("constant", "the commonest answer")))
METRICS = sorted((Path(__file__).parent.parent.parent / "data/metrics").glob("*.json"))


@pytest.mark.parametrize("file", METRICS, ids=lambda file: file.stem)
def test_the_shipped_metrics_are_what_people_read_of_a_long_table(file):
    metrics, task = read_json(file), answer.TASK if file.stem.endswith(".answers") else TASK
    for setting in {name.split(".")[0] for name in metrics}:
        figures = {name.removeprefix(f"{setting}."): value for name, value in metrics.items() if name.startswith(f"{setting}.")}
        wide = task.wide(sorted(long(setting, 2000, figures), key=lambda score: score.metric in task.margins))
        assert wide == figures


def test_any_task_gets_an_interval_a_control_and_their_margin_for_its_primary_metric():
    right = np.array([100.0, 0.0, 100.0, 100.0])
    elsewhere = np.array([0.0, 0.0, 100.0, 0.0])
    values = {"accuracy": right, "accuracy_shuffled": elsewhere}
    scores = {score.metric: score for score in
              ACCURACY.scores("all", {"consistency": 0.123456}, values, EvaluationParams("judge", samples=200))}
    assert list(scores) == ["accuracy", "consistency", "accuracy_shuffled", "accuracy_above_shuffled"]
    assert [(score.setting, score.value, score.n) for score in scores.values()] == [
        ("all", 75.0, 4), ("all", 0.1235, 4), ("all", 25.0, 4), ("all", 50.0, 4)]
    assert [isnan(score.low) and isnan(score.high) for score in scores.values()] == [False, True, True, False]
    assert scores["accuracy"].low < 75 <= scores["accuracy"].high
    assert list(ACCURACY.wide(scores.values())) == ["accuracy", "consistency", "accuracy_low", "accuracy_high", "accuracy_shuffled",
                                                    "accuracy_above_shuffled_low", "accuracy_above_shuffled_high"]


def test_a_metric_of_some_items_is_a_mean_over_those_alone_with_an_interval_of_its_own():
    task = Task("question", (Metric("accuracy", interval=True), Metric("accuracy_number", interval=True)), "accuracy",
                (Control("shuffled", "the same answers, elsewhere"),))
    right = np.array([100.0, 0.0, 50.0, 100.0])
    values = {"accuracy": right, "accuracy_number": np.array([np.nan, 0.0, np.nan, 100.0])}
    params = EvaluationParams("judge", samples=200)
    scores = {score.metric: score for score in task.scores("all", {}, values, params)}
    alone = {score.metric: score for score in task.scores("all", {}, {"accuracy": np.array([0.0, 100.0])}, params)}["accuracy"]
    assert (scores["accuracy"].value, scores["accuracy"].n) == (62.5, 4)
    assert scores["accuracy_number"] == Score("all", "accuracy_number", alone.value, alone.low, alone.high, 2)
    assert (scores["accuracy_number"].value, scores["accuracy_number"].low) == (50.0, 0.0)


def test_what_controls_are_is_said_in_words():
    assert ACCURACY.meanings == {"accuracy_shuffled": "accuracy of the same answers, elsewhere",
                                 "accuracy_constant": "accuracy of the commonest answer"}
    assert "| `accuracy_constant` | 0 to 100 | — | Control: accuracy of the commonest answer. |" in ACCURACY.table()
    assert TASK.controls == ("CIDEr_shuffled", "CIDEr_constant")


def test_what_was_not_scored_is_left_out_and_a_second_control_has_its_margin():
    values = {"accuracy": np.array([100.0, 0.0]), "accuracy_constant": np.array([50.0, 0.0])}
    names = [score.metric for score in ACCURACY.scores("all", {}, values, EvaluationParams("judge", samples=20))]
    assert names == ["accuracy", "accuracy_constant", "accuracy_above_constant"]


def test_the_best_of_a_metric_is_the_lowest_where_lower_is_better():
    assert [metric.best([1.0, 3.0, 2.0]) for metric in ACCURACY.metrics] == [3.0, 3.0, 1.0]


def test_the_docs_hold_the_table_of_metrics_as_it_is():
    docs = (Path(__file__).parent.parent.parent / "docs" / "metrics.md").read_text("utf-8")
    assert TASK.table() in docs
    assert answer.TASK.table() in docs


def test_a_margin_has_no_value_where_people_read_none():
    back = {score.metric: score for score in long("all", 4, {"accuracy": 75.0, "accuracy_above_shuffled_low": 1.0,
                                                             "accuracy_above_shuffled_high": 2.0})}
    assert back["accuracy"].value == 75.0
    assert repr(back["accuracy_above_shuffled"]) == repr(Score("all", "accuracy_above_shuffled", float("nan"), 1.0, 2.0, 4))
