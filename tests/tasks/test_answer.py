"""Answers to questions about pictures, scored by those of people and beside what needs no looking."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.corpus.questions import QUESTIONS
from pipeline.metrics.judge import EvaluationParams
from pipeline.metrics.vqa import accuracy, normalise
from pipeline.tasks.answer import TASK, Asked, Scorer, accuracies, by_answer_type, constant_answers
from pipeline.tasks.base import Score

WANTED = EvaluationParams("judge", samples=100)


def people(right: str, others: str = "unsure", count: int = 9) -> list[str]:
    return [right] * count + [others] * (10 - count)


ASKED = [
    Asked("1", "a", "val", "is there a", "yes/no", people("no")),
    Asked("2", "a", "val", "is there a", "yes/no", people("no")),
    Asked("3", "b", "val", "is there a", "yes/no", people("yes")),
    Asked("4", "b", "val", "how many", "number", people("2")),
    Asked("5", "b", "val", None, "other", people("no")),
    Asked("6", "c", "test", "is there a", "yes/no", people("yes")),
    Asked("7", "c", "test", "how many", "number", people("3", "2", 8)),
    Asked("8", "d", "test", "what colour", "other", people("red")),
    Asked("9", "d", "test", None, None, people("no")),
]
TEST = [question for question in ASKED if question.split == "test"]
RIGHT = {"6": "yes", "7": "3", "8": "red", "9": "no"}
WRONG = dict.fromkeys(RIGHT, "cat")
HALF = {**WRONG, "6": "yes", "8": "Red!"}


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    monkeypatch.chdir(tmp_path)
    write(ASKED)
    return Scorer(WANTED)


def write(asked: list[Asked], dataset: str = "asked") -> None:
    folder = paths.corpus(dataset)
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([{**question._asdict(), "text": "?"} for question in asked], schema=QUESTIONS),
                   folder / "questions.parquet")
    seal(folder)


def scores(scorer: Scorer, *given: dict[str, str], split: str = "test") -> dict[str, Score]:
    return {score.metric: score for score in scorer.score("in-domain", "asked", split, *given).scores}


def test_right_answers_score_all_and_wrong_ones_nothing(scorer):
    found = scores(scorer, RIGHT, WRONG, HALF)
    assert [(name, found[name].value, found[name].n) for name in list(found)[:7]] == [
        ("Accuracy", 100.0, 4), ("Accuracy_yes_no", 100.0, 1), ("Accuracy_number", 100.0, 1), ("Accuracy_other", 100.0, 1),
        ("Accuracy_blind", 0.0, 4), ("Accuracy_shuffled", 50.0, 4), ("Accuracy_constant", 40.0, 4)]
    assert scores(scorer, WRONG, WRONG, WRONG)["Accuracy"].value == 0.0


def test_every_margin_over_a_control_has_its_interval(scorer):
    found = scores(scorer, RIGHT, WRONG, HALF)
    assert [found[margin].value for margin in TASK.margins] == [100.0, 50.0, 60.0]
    assert all(found[name].low <= found[name].value <= found[name].high for name in ("Accuracy", "Accuracy_other", *TASK.margins))
    wide = TASK.wide(found.values())
    assert {"Accuracy_low", "Accuracy_yes_no_high", "Accuracy_above_blind_low", "Accuracy_constant"} <= set(wide)
    assert "Accuracy_above_blind" not in wide


def test_the_constant_answer_is_the_commonest_of_the_type_on_validation_or_else_of_all(scorer):
    about = scorer.score("in-domain", "asked", "test", RIGHT, WRONG, HALF).about
    assert about.pop("margins_by_type")["Accuracy_number"]["Accuracy_blind"] == [100.0, 100.0, 100.0]
    assert about == {"questions": 4, "images": 2, "empty_answers": 0, "constant": "no",
                     "constant_by_type": {"is there a": "no", "how many": "2"}}
    constant = constant_answers(ASKED[:5])
    assert [constant.answer(kind) for kind in ("is there a", "how many", "what colour", None)] == ["no", "2", "no", "no"]


def test_of_equally_common_answers_the_first_in_the_alphabet_is_taken_and_spellings_count_together():
    asked = [Asked("1", "a", "val", "how many", "number", ["two", "2", "The 2", "cat", "cat", "bird", "bird", "bird"])]
    assert constant_answers(asked).answer("how many") == "2"


def test_constant_answers_are_those_of_a_plain_count():
    rng = np.random.default_rng(0)
    asked = [Asked(str(i), "a", "val", str(rng.choice(["what", "where", "who"])), "other", rng.choice(["x", "Y", "one", "z."], 10).tolist())
             for i in range(50)]
    constant = constant_answers(asked)
    for kind in ("what", "where", "who"):
        counts = Counter(normalise(answer) for question in asked if question.question_type == kind for answer in question.answers)
        assert counts[constant.answer(kind)] == max(counts.values())
    assert constant.answer("why") == constant.overall


def test_scores_per_question_are_kept_and_say_nothing_of_other_types(scorer):
    scored = scorer.score("in-domain", "asked", "test", {**RIGHT, "7": "2"}, WRONG, HALF)
    assert scored.ids == ["6", "7", "8", "9"]
    assert scored.values["Accuracy"] == [100.0, 60.0, 100.0, 100.0]
    np.testing.assert_array_equal(scored.values["Accuracy_number"], [np.nan, 60.0, np.nan, np.nan])
    assert set(scored.values) == set(TASK.per_item)


def test_accuracies_are_those_of_each_question_in_their_order():
    found = accuracies(TEST, HALF)
    assert found.tolist() == [100 * accuracy(HALF[question.question_id], question.answers) for question in TEST]
    assert accuracies(TEST, dict(reversed(HALF.items()))).tolist() == found.tolist()


def test_types_part_the_questions():
    right = np.arange(4.0)
    parts = by_answer_type(right, ["yes/no", "other", "other", None])
    assert list(parts) == ["Accuracy_yes_no", "Accuracy_other"]
    np.testing.assert_array_equal(parts["Accuracy_other"], [np.nan, 1.0, 2.0, np.nan])
    assert by_answer_type(right, [None] * 4) == {}


def test_what_people_were_not_asked_is_left_out(scorer):
    write([question._replace(answer_type=None, question_type=None) for question in TEST], "untyped")
    found = [score.metric for score in scorer.score("in-domain", "untyped", "test", RIGHT, WRONG, HALF).scores]
    assert found == ["Accuracy", "Accuracy_blind", "Accuracy_shuffled", "Accuracy_above_blind", "Accuracy_above_shuffled"]


def test_the_validation_split_is_scored_too(scorer):
    given = {question.question_id: question.answers[0] for question in ASKED if question.split == "val"}
    assert scores(scorer, given, given, given, split="val")["Accuracy"].value == 100.0


def test_empty_answers_are_counted(scorer):
    assert scorer.score("in-domain", "asked", "test", {**RIGHT, "6": " \n"}, WRONG, HALF).about["empty_answers"] == 1


@pytest.mark.parametrize(("place", "whose"), [(0, "the system has"), (1, "the system without a picture has"),
                                              (2, "the system with another picture has")])
def test_answers_to_other_questions_are_named(scorer, user_error, place, whose):
    given = [RIGHT, WRONG, HALF]
    given[place] = {"6": "yes"}
    message = user_error(scorer.score, "in-domain", "asked", "test", *given)
    assert f"in-domain: {whose} no answer to question 7 (3 such questions)" in message
    given[place] = {**RIGHT, "1": "no"}
    message = user_error(scorer.score, "in-domain", "asked", "test", *given)
    assert "answers 1, which is no question of the split (1 such answers)" in message


def test_questions_that_nobody_answered_are_named(scorer, user_error):
    write([TEST[0], TEST[1]._replace(answers=[])], "open")
    message = user_error(scorer.score, "in-domain", "open", "test", RIGHT, WRONG, HALF)
    assert "open/questions.parquet: nobody has answered question 7: name the annotations in questions.open" in message


def test_a_split_without_questions_is_named(scorer, user_error):
    assert "has no question about a train picture" in user_error(scorer.score, "in-domain", "asked", "train", RIGHT, WRONG, HALF)
    assert "elsewhere/questions.parquet is missing" in user_error(scorer.score, "in-domain", "elsewhere", "test", RIGHT, WRONG, HALF)
