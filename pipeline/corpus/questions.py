"""The `questions` stage: what is asked about the pictures of a data set, with people's answers, from VQAv2's JSON.

questions.parquet: question_id, image_id, text, split "val"|"test" of the picture, question_type and answer_type (null where the source has
none), answers (as they are; none without annotations).
report.json: read = kept + of_other_splits + of_other_pictures.
Questions: {questions: [{question_id, image_id, question}]}. Annotations: {annotations: [{question_id, answers: [{answer}], question_type,
answer_type}]}, the last two optional.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ..core.artefacts import whole_if_sealed
from ..core.errors import UserError
from ..core.files import UNWANTED, digest_file, write_json
from ..core.params import StrictParams
from ..core.resume import finished_folder
from ..core.tables import read_table
from .records import REFERENCE_SPLITS, field, identifier, parse_json
from .sources import MAX_BYTES, Source

QUESTIONS = pa.schema([*((name, pa.string()) for name in ("question_id", "image_id", "text", "split", "question_type", "answer_type")),
                       ("answers", pa.list_(pa.string()))])


@dataclass(frozen=True)
class QuestionParams(StrictParams):
    """What to read, and what it is about."""

    raw: str
    """The folder below data/raw that holds the files."""
    about: str
    """The data set whose pictures are asked about: an entry of `extract`."""
    source: str
    """VQAv2's questions, found below that folder like the source of `extract`."""
    annotations: str = ""
    """VQAv2's annotations of these questions, likewise; without them the questions can be answered, but not scored."""
    max_bytes: Annotated[int, Field(ge=1, lt=2**63)] = MAX_BYTES
    """Either file may unpack to so many bytes, and to a hundred times its size; 1 or more."""


class Question(NamedTuple):
    """A row of the table. split: null while that is not known."""

    question_id: str
    image_id: str
    text: str
    split: str | None = None
    question_type: str | None = None
    answer_type: str | None = None
    answers: tuple[str, ...] = ()


class Annotation(NamedTuple):
    """What is known of a question's answers."""

    question_type: str | None
    answer_type: str | None
    answers: tuple[str, ...]


def extract_questions(raw: Path, images: Path, out: Path, params: QuestionParams) -> dict[str, Any]:
    """Write the folder `out`, complete or not at all, from the files below `raw`, and return the report.

    images: the table of the pictures that are asked about, by whose image_id questions find theirs. Raises `UserError` for what cannot be
    taken as it stands, and where no question is about a val or test picture.
    """
    whole_if_sealed(raw)
    splits = dict(zip(*read_table(images, ["image_id", "split"]).values(), strict=True))
    asked = read_questions(raw, params)
    known = [question._replace(split=splits[question.image_id]) for question in asked if question.image_id in splits]
    kept = [question for question in known if question.split in REFERENCE_SPLITS]
    if not kept:
        raise UserError(f"{params.source}: none of its {len(asked)} questions is about a val or test picture of {params.about}: name the "
                        "questions of these pictures, or the data set that they are of")
    report = {
        "about": params.about, "source": params.source, "annotations": params.annotations, "images_digest": digest_file(images),
        "read": len(asked), "kept": len(kept), "of_other_splits": len(known) - len(kept), "of_other_pictures": len(asked) - len(known),
        **{split: _counts([question for question in kept if question.split == split]) for split in REFERENCE_SPLITS},
    }
    with finished_folder(out) as folder:
        columns = zip(QUESTIONS, zip(*kept, strict=True), strict=True)
        table = pa.Table.from_arrays([pa.array(column, kind.type) for kind, column in columns], schema=QUESTIONS)
        pq.write_table(table, folder / "questions.parquet", compression="zstd")
        write_json(folder / "report.json", report)
    return report


def read_questions(raw: Path, params: QuestionParams) -> list[Question]:
    """All questions of the source in its order, whitespace as in captions, with their answers where annotations are named.

    Raises `UserError` for what is no such file, an id that occurs twice, and questions and annotations that do not belong together.
    """
    data, source = parse_json(Source(raw, params.source, params.max_bytes).text(), params.source), params.source
    found: dict[str, Question] = {}
    for i, record in enumerate(field(data, "questions", list, source, "top level")):
        question_id = _new(identifier(record, "question_id", source, "questions", i), found, source)
        text = _text(record, "question", source, "questions", i)
        if not text:
            raise UserError(f"{source}: questions[{i}]: question {question_id} is empty: correct it, or take it out")
        found[question_id] = Question(question_id, identifier(record, "image_id", source, "questions", i), text)
    if not params.annotations:
        return list(found.values())
    annotations = _read_annotations(raw, params)
    for question_id in annotations:
        if question_id not in found:
            raise UserError(f"{params.annotations}: question {question_id} is annotated, and {source} does not ask it: name two files that "
                            "belong together")
    for question_id in found:
        if question_id not in annotations:
            raise UserError(f"{source}: question {question_id} has no annotation in {params.annotations}: name two files that belong "
                            "together")
    return [question._replace(**annotations[question_id]._asdict()) for question_id, question in found.items()]


def _read_annotations(raw: Path, params: QuestionParams) -> dict[str, Annotation]:
    """What is known of the answers, by question id."""
    source = params.annotations
    data = parse_json(Source(raw, source, params.max_bytes).text(), source)
    found: dict[str, Annotation] = {}
    for i, record in enumerate(field(data, "annotations", list, source, "top level")):
        question_id = _new(identifier(record, "question_id", source, "annotations", i), found, source)
        where = f"annotations[{i}].answers"
        answers = field(record, "answers", list, source, "annotations", i)
        for j, answer in enumerate(answers):
            _text(answer, "answer", source, where, j)
        if not answers:
            raise UserError(f"{source}: annotations[{i}]: question {question_id} has no answers: add some, or take it out of both files")
        kind, answer_type = (_text(record, key, source, "annotations", i) if record.get(key) is not None else None
                             for key in ("question_type", "answer_type"))
        found[question_id] = Annotation(kind, answer_type, tuple(answer["answer"] for answer in answers))
    return found


def _new(question_id: str, found: dict[str, Any], source: str) -> str:
    if question_id in found:
        raise UserError(f"{source}: question id {question_id!r} occurs twice: give each question its own id")
    return question_id


def _text(record: Any, key: str, source: str, where: str, number: int) -> str:
    """A text with each run of whitespace, newlines included, made one space."""
    text = " ".join(field(record, key, str, source, where, number).split())
    if character := UNWANTED.search(text):
        raise UserError(f"{source}: {where}[{number}]: {key!r} holds the character U+{ord(character[0]):04X}, which is no text: correct it")
    return text


def _counts(questions: Sequence[Question]) -> dict[str, Any]:
    types = Counter(question.answer_type for question in questions if question.answer_type is not None)
    return {"questions": len(questions), "images": len({question.image_id for question in questions}),
            "answer_types": dict(sorted(types.items()))}
