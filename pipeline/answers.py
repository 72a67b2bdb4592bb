"""Answers to questions about pictures: which systems give any, and where they lie.

Files hold VQA's results format, [{question_id, answer}], in the order of the questions' table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .core import paths
from .core.artefacts import again, whole
from .core.errors import UserError
from .core.files import digest_file, read_json, write_json
from .core.params import StrictParams, entries, section, suggest
from .systems import Setting, System

WAYS = ("", ".blind", ".shuffled")
"""What comes behind a setting's name in a file: nothing for the system's own answers, and the controls."""


@dataclass(frozen=True)
class AnsweringParams(StrictParams):
    """One entry of `answering`, by the name of its system.

    method, clip, looks_at, looks_up: the system's own; DVC makes dependencies of them. settings: what is answered: test names an entry of
    `questions`. decoding: values that differ from those of `captioning` (MacCap's released code: 5 beams, length penalty -1).
    """

    method: str
    clip: str
    looks_at: str
    looks_up: str
    settings: dict[str, Setting]
    decoding: dict[str, Any] = field(default_factory=dict)


def answering_of(name: str, system: System, params: dict[str, Any]) -> AnsweringParams:
    """How a system answers; `UserError` where nothing says so, or its method, CLIP or features are not the system's."""
    known = entries(params, "answering")
    if name not in known:
        raise UserError(f"params.yaml: answering has no {name!r}{suggest(name, known)}")
    found = section(AnsweringParams, params, f"answering.{name}")
    for key in ("method", "clip", "looks_at", "looks_up"):
        if getattr(found, key) != getattr(system, key):
            raise UserError(f"params.yaml: answering.{name}.{key} is {getattr(found, key)!r}, and the system's {getattr(system, key)!r}: "
                            "make them equal")
    return found


def asked_about(questions: str) -> str:
    """The data set whose pictures a data set of questions is about; `UserError` if its pictures are others now."""
    folder = paths.corpus(questions)
    if not paths.questions_table(questions).exists():
        raise UserError(f"{folder} holds no questions: name an entry of `questions`, and run `dvc repro`")
    report = read_json(whole(folder / "report.json"))
    if report["images_digest"] != digest_file(paths.image_table(report["about"])):
        raise UserError(f"{folder} was made of other pictures than {paths.image_table(report['about'])}: {again(folder)}")
    return str(report["about"])


def write_answers(file: Path, answers: Mapping[str, str]) -> None:
    """By question id; ids that are numbers are written as such, as VQA's are."""
    write_json(file, [{"question_id": int(i) if i.isdecimal() and str(int(i)) == i else i, "answer": text} for i, text in answers.items()])


def read_answers(system: str, setting: str, way: str = "") -> dict[str, str]:
    """A file of answers as question id -> answer; two answers to one question are a `UserError`."""
    file = paths.answers(system) / f"{setting}{way}.json"
    found = read_json(whole(file))
    answers = {str(entry["question_id"]): str(entry["answer"]) for entry in found}
    if len(answers) != len(found):
        raise UserError(f"{file} has two answers to one question: {again(paths.answers(system))}")
    return answers
