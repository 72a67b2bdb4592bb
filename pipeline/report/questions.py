"""What the report shows of questions: how far answers agree with people's, beside the controls, and some of them with their pictures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any

from ..answers import WAYS, AnsweringParams, asked_about, read_answers
from ..core import paths
from ..core.artefacts import again, whole, whole_if_sealed
from ..core.errors import UserError
from ..core.files import read_object
from ..core.params import entries, section
from ..core.tables import read_table
from ..images import Source, locate
from ..systems import Setting
from ..tasks.answer import TASK
from ..tasks.base import Score

SHOWN = 12


@dataclass(frozen=True)
class Row:
    """A type of answers, or all: accuracy with its interval over n questions, and by control the mean margin with its interval."""

    name: str
    score: Score
    margins: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Example:
    """A question about a picture. answers: of the system, without a picture, with another. people: theirs with how many gave each."""

    file: Source
    question: str
    answers: tuple[str, ...]
    people: tuple[tuple[str, int], ...]
    score: float


@dataclass(frozen=True)
class Answered:
    """One system's answers in a setting. controls: their accuracy. examples: not picked by hand."""

    system: str
    setting: str
    tested: Setting
    about: str
    rows: tuple[Row, ...]
    controls: dict[str, float]
    examples: tuple[Example, ...]


def gather_answers(params: dict[str, Any], seed: int) -> tuple[Answered, ...]:
    """Of every system and setting below `answering`. Raises `UserError` for missing or foreign artefacts."""
    return tuple(_answered(name, setting_name, setting, seed) for name in entries(params, "answering")
                 for setting_name, setting in section(AnsweringParams, params, f"answering.{name}").settings.items())


def _answered(system: str, setting: str, tested: Setting, seed: int) -> Answered:
    folder, about = paths.answer_scores(system), asked_about(tested.test)
    protocol = read_object(whole(folder / "protocol.json"))["settings"]
    long = read_table(folder / paths.scores_table(system).name, [column.name for column in fields(Score)])
    scores = {score.metric: score for score in map(Score, *long.values()) if score.setting == setting}
    if setting not in protocol or TASK.primary not in scores:
        raise UserError(f"{folder} has no {setting}: it is of another run than params.yaml; {again(folder)}")
    of_all = {control: (scores[margin].value, scores[margin].low, scores[margin].high)
              for control, margin in zip(TASK.controls, TASK.margins, strict=True) if margin in scores}
    by_type = {metric: {control: tuple(values) for control, values in its.items()}
               for metric, its in protocol[setting]["margins_by_type"].items()}
    rows = tuple(Row(metric.name.removeprefix(f"{TASK.primary}_").replace("_", "/"), scores[metric.name],
                     {TASK.primary: of_all, **by_type}[metric.name]) for metric in TASK.metrics if metric.name in scores)
    controls = {control: scores[control].value for control in TASK.controls if control in scores}
    return Answered(system, setting, tested, about, rows, controls, _examples(system, setting, tested, about, seed))


def _examples(system: str, setting: str, tested: Setting, about: str, seed: int) -> tuple[Example, ...]:
    """A few questions, whatever was answered, by a hash of their ids."""
    table = paths.questions_table(tested.test)
    asked = {row[0]: row for row in zip(*read_table(table, ["question_id", "image_id", "text", "answers", "split"]).values(), strict=True)
             if row[4] == tested.split}
    answers = [read_answers(system, setting, way) for way in WAYS]
    scored = read_table(paths.answer_scores(system) / f"{setting}.parquet", ["question_id", TASK.primary])
    score_of = dict(zip(*scored.values(), strict=True))
    if not asked.keys() == score_of.keys() == answers[0].keys():
        raise UserError(f"{paths.answers(system)}, its scores and {table} hold different questions: {again(paths.answers(system))}")
    images = read_table(paths.image_table(about), ["image_id", "path"])
    path_of, raw = dict(zip(*images.values(), strict=True)), whole_if_sealed(paths.raw(about))
    order = sorted(asked, key=lambda question_id: hashlib.sha256(f"questions {seed} {question_id}".encode()).digest())
    found = []
    for question_id in order[:SHOWN]:
        _, image_id, text, people, _ = asked[question_id]
        counts = {answer: people.count(answer) for answer in people}
        found.append(Example(locate(raw, path_of[image_id]), text, tuple(its[question_id] for its in answers),
                             tuple(sorted(counts.items(), key=lambda each: -each[1])), score_of[question_id]))
    return tuple(found)


def beaten(margin: tuple[float, float, float]) -> bool:
    """Whether the interval of a margin lies above 0."""
    return margin[1] > 0
