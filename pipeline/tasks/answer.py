"""Answering: a short answer to a question about a picture, scored by how many people give the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core import paths
from ..core.errors import UserError
from ..core.tables import read_table
from ..metrics.bootstrap import interval
from ..metrics.judge import EvaluationParams
from ..metrics.vqa import accuracy, normalise
from .base import Control, Metric, Scored, Task

TASK = Task("question", (
    Metric("Accuracy", interval=True, meaning="How many of ten people give the same answer; four make it wholly right (VQA's accuracy)."),
    Metric("Accuracy_yes_no", interval=True, meaning="The same over questions that people answer by yes or no."),
    Metric("Accuracy_number", interval=True, meaning="The same over questions that people answer by a number."),
    Metric("Accuracy_other", interval=True, meaning="The same over all other questions."),
), primary="Accuracy", compared_with=(
    Control("blind", "the same system without a picture"),
    Control("shuffled", "the same system when it looks at another picture"),
    Control("constant", "the answer that people give most to questions of the same type on the validation split"),
))
_OF_TYPE = {"yes/no": "Accuracy_yes_no", "number": "Accuracy_number", "other": "Accuracy_other"}
_COLUMNS = ["question_id", "image_id", "split", "question_type", "answer_type", "answers"]


class Asked(NamedTuple):
    """A question that people have answered. question_type, answer_type: VQA's, None where they are not recorded."""

    question_id: str
    image_id: str
    split: str
    question_type: str | None
    answer_type: str | None
    answers: list[str]


@dataclass(frozen=True)
class Constant:
    """What one answers without reading more of a question than its type. overall: where it has none, or one that is not in by_type."""

    overall: str
    by_type: Mapping[str, str]

    def answer(self, question_type: str | None) -> str:
        """To a question of a type."""
        return self.overall if question_type is None else self.by_type.get(question_type, self.overall)


class Scorer:
    """Scores the answers of any system; settings share the questions of a data set."""

    def __init__(self, wanted: EvaluationParams) -> None:
        self.wanted = wanted
        self._asked: dict[str, dict[str, list[Asked]]] = {}
        self._constants: dict[str, Constant | None] = {}

    def score(self, name: str, dataset: str, split: str, answers: Mapping[str, str], blind: Mapping[str, str],
              shuffled: Mapping[str, str]) -> Scored:
        """Every metric of answers by question id, to the questions of a data set about pictures of a split; name: of the setting.

        blind: answers of the same system without a picture. shuffled: those that it gave when it looked at another picture of the split.
        The constant control is left out without a validation split, a type of answers where there is none. `UserError` unless each of the
        three answers just these questions, and people have answered all of them.
        """
        asked = self.asked(dataset).get(split, [])
        if not asked:
            raise UserError(f"{paths.questions_table(dataset)} has no question about a {split} picture: name another split or data set")
        values = {TASK.primary: accuracies(asked, answers, f"{name}: the system")}
        values |= by_answer_type(values[TASK.primary], [question.answer_type for question in asked])
        values["Accuracy_blind"] = accuracies(asked, blind, f"{name}: the system without a picture")
        values["Accuracy_shuffled"] = accuracies(asked, shuffled, f"{name}: the system with another picture")
        about: dict[str, Any] = {"questions": len(asked), "images": len({question.image_id for question in asked}),
                                 "empty_answers": sum(not answers[question.question_id].strip() for question in asked)}
        if constant := self._constant(dataset):
            given = {question.question_id: constant.answer(question.question_type) for question in asked}
            values["Accuracy_constant"] = accuracies(asked, given, "the constant control")
            about |= {"constant": constant.overall, "constant_by_type": dict(constant.by_type)}
        about["margins_by_type"] = self._margins_by_type(values)
        return Scored(TASK.scores(name, {}, values, self.wanted), [question.question_id for question in asked],
                      {metric: value.tolist() for metric, value in values.items()}, about)

    def _margins_by_type(self, values: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, list[float]]]:
        """Of each type of answers, its accuracy less each control's on the same questions: mean and ends of its interval."""
        found: dict[str, dict[str, list[float]]] = {}
        for metric in _OF_TYPE.values():
            for control in TASK.controls:
                if metric in values and control in values:
                    differences = values[metric] - values[control]
                    ends = interval(differences, self.wanted.seed, self.wanted.samples)
                    found.setdefault(metric, {})[control] = [round(float(value), 4) for value in (np.nanmean(differences), *ends)]
        return found

    def asked(self, dataset: str) -> dict[str, list[Asked]]:
        """The questions of a data set by split, in the table's order; `UserError` if people have not answered one of them."""
        if dataset not in self._asked:
            found: dict[str, list[Asked]] = {}
            for row in zip(*read_table(table := paths.questions_table(dataset), _COLUMNS).values(), strict=True):
                question = Asked(*row)
                if not question.answers:
                    raise UserError(f"{table}: nobody has answered question {question.question_id}: name the annotations in "
                                    f"questions.{dataset}")
                found.setdefault(question.split, []).append(question)
            self._asked[dataset] = found
        return self._asked[dataset]

    def _constant(self, dataset: str) -> Constant | None:
        """Of the data set's validation split; None where there is none."""
        if dataset not in self._constants:
            validation = self.asked(dataset).get("val", [])
            self._constants[dataset] = constant_answers(validation) if validation else None
        return self._constants[dataset]


def accuracies(asked: Sequence[Asked], answers: Mapping[str, str], whose: str = "the system") -> NDArray[np.float64]:
    """VQA's accuracy of each answer (N,), 0 to 100, in the order of the questions. whose: for the `UserError` where ids differ."""
    if missing := [question.question_id for question in asked if question.question_id not in answers]:
        raise UserError(f"{whose} has no answer to question {missing[0]} ({len(missing)} such questions): answer all of the split")
    known = {question.question_id for question in asked}
    if foreign := [question_id for question_id in answers if question_id not in known]:
        raise UserError(f"{whose} answers {foreign[0]}, which is no question of the split ({len(foreign)} such answers): score one split")
    return np.array([100 * accuracy(answers[question.question_id], question.answers) for question in asked])


def by_answer_type(accuracy_N: NDArray[np.float64], types: Sequence[str | None]) -> dict[str, NDArray[np.float64]]:
    """The same accuracies (N,) for each type of answers that is there, by metric; NaN for questions of another type."""
    return {metric: np.where(of_type, accuracy_N, np.nan) for kind, metric in _OF_TYPE.items()
            if (of_type := np.array([found == kind for found in types])).any()}


def constant_answers(asked: Sequence[Asked]) -> Constant:
    """What people answer most, to questions of each type and to all, normalised; of several the first in the alphabet."""
    given: dict[str | None, Counter[str]] = {}
    for question in asked:
        given.setdefault(question.question_type, Counter()).update(map(normalise, question.answers))
    return Constant(_commonest(sum(given.values(), Counter())),
                    {kind: _commonest(counts) for kind, counts in given.items() if kind is not None})


def _commonest(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))
