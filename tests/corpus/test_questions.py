"""Questions in VQAv2's format: matched with the pictures that they are about, and with people's answers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.artefacts import seal
from pipeline.core.files import digest_file, digest_tree, read_json
from pipeline.core.params import check
from pipeline.corpus.extract import IMAGES
from pipeline.corpus.questions import QUESTIONS, QuestionParams, extract_questions

ABOUT = {"info": {"version": "2.0", "year": 2017}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {"name": "none"},
         "data_subtype": "val2014"}
PEOPLE = ["net", "net", "net", "netting", "net", "net", "mesh", "net", "pitcher", "orange"]
ASKED: list[dict[str, Any]] = [
    {"image_id": 42, "question": "What is  this photo\ntaken through?", "question_id": 42000},
    {"image_id": 42, "question": "Is it day?", "question_id": 42001},
    {"image_id": 73, "question": "How many cats?", "question_id": 73000},
    {"image_id": 5, "question": "Is this unlabelled?", "question_id": 5000},
    {"image_id": 999, "question": "Where is this?", "question_id": 999000},
]
TYPES = {42000: ("what is", "other"), 42001: ("is it", "yes/no"), 73000: ("how many", "number"), 5000: ("is this", "yes/no"),
         999000: ("where is the", "other")}
ANNOTATED: list[dict[str, Any]] = [
    {"question_type": kind, "multiple_choice_answer": "net", "image_id": asked["image_id"], "answer_type": answer_type,
     "question_id": asked["question_id"],
     "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": i} for i, answer in enumerate(PEOPLE, 1)]}
    for asked, (kind, answer_type) in ((asked, TYPES[asked["question_id"]]) for asked in ASKED)]
PARAMS = {"raw": "vqa", "about": "photos", "source": "questions.json", "annotations": "annotations.json"}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    (tmp_path / "photos").mkdir()
    rows = [("42", "a.jpg", "val"), ("73", "b.jpg", "test"), ("5", "c.jpg", "unlabelled"), ("6", "d.jpg", "test")]
    pq.write_table(pa.Table.from_arrays([pa.array(column) for column in zip(*rows, strict=True)], schema=IMAGES),
                   tmp_path / "photos/images.parquet")
    seal(tmp_path / "photos")
    write(tmp_path / "raw")
    return tmp_path / "raw"


def write(raw: Path, questions: Any = ASKED, annotations: Any = ANNOTATED) -> None:
    (raw / "questions.json").write_text(json.dumps({**ABOUT, "questions": questions}))
    (raw / "annotations.json").write_text(json.dumps({**ABOUT, "annotations": annotations}))


def run(raw: Path, **changes: Any) -> list[dict[str, Any]]:
    params = check(QuestionParams, {**PARAMS, **changes}, "questions.mine")
    out = raw.parent / "out"
    report = extract_questions(raw, raw.parent / "photos/images.parquet", out, params)
    assert report == read_json(out / "report.json")
    table = pq.read_table(out / "questions.parquet")
    assert table.schema == QUESTIONS
    return table.to_pylist()


def changed(records: list[dict[str, Any]], number: int, **changes: Any) -> list[dict[str, Any]]:
    return [{**record, **changes} if i == number else record for i, record in enumerate(records)]


def without(records: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != key} for record in records]


def test_vqas_files_become_a_table_of_the_questions_about_val_and_test_pictures(raw):
    rows = run(raw)
    assert [(row["question_id"], row["image_id"], row["split"]) for row in rows] == [
        ("42000", "42", "val"), ("42001", "42", "val"), ("73000", "73", "test")]
    assert rows[0] == {"question_id": "42000", "image_id": "42", "text": "What is this photo taken through?", "split": "val",
                       "question_type": "what is", "answer_type": "other", "answers": PEOPLE}


def test_the_report_accounts_for_every_question(raw):
    run(raw)
    report = read_json(raw.parent / "out/report.json")
    assert (report["read"], report["kept"], report["of_other_splits"], report["of_other_pictures"]) == (5, 3, 1, 1)
    assert report["val"] == {"questions": 2, "images": 1, "answer_types": {"other": 1, "yes/no": 1}}
    assert report["test"] == {"questions": 1, "images": 1, "answer_types": {"number": 1}}
    assert (report["about"], report["source"]) == ("photos", "questions.json")
    assert report["images_digest"] == digest_file(raw.parent / "photos/images.parquet")


def test_without_annotations_questions_have_no_answers_and_no_types(raw):
    (raw / "annotations.json").unlink()
    for row in run(raw, annotations=""):
        assert (row["answers"], row["question_type"], row["answer_type"]) == ([], None, None)


def test_types_may_be_missing(raw):
    write(raw, annotations=without(without(ANNOTATED, "question_type"), "answer_type"))
    assert {(row["question_type"], row["answer_type"], len(row["answers"])) for row in run(raw)} == {(None, None, 10)}
    assert read_json(raw.parent / "out/report.json")["val"]["answer_types"] == {}


def test_answers_stay_as_people_gave_them(raw):
    answers = [{"answer": " Two\n"}, {"answer": ""}]
    write(raw, annotations=changed(ANNOTATED, 0, answers=answers))
    assert run(raw)[0]["answers"] == [" Two\n", ""]


def test_ids_may_be_numbers_or_words(raw):
    write(raw, [{**asked, "question_id": f"q{asked['question_id']}", "image_id": str(asked["image_id"])} for asked in ASKED],
          [{**annotated, "question_id": f"q{annotated['question_id']}"} for annotated in ANNOTATED])
    assert [row["question_id"] for row in run(raw)] == ["q42000", "q42001", "q73000"]


def test_packed_files_are_read_as_those_of_captions(raw):
    with gzip.open(raw / "questions.json.gz", "wb") as file:
        file.write((raw / "questions.json").read_bytes())
    assert len(run(raw, source="questions.json.gz")) == 3


def test_the_same_files_give_the_same_bytes(raw):
    digests = []
    for _ in range(2):
        run(raw)
        digests.append(digest_tree(raw.parent / "out"))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(("questions", "message"), [
    (changed(ASKED, 1, question_id=42000), "question id '42000' occurs twice"),
    (changed(ASKED, 1, question=" \n"), "questions[1]: question 42001 is empty"),
    (changed(ASKED, 1, question="a\0b"), "questions[1]: 'question' holds the character U+0000"),
    (changed(ASKED, 1, question="\ud800"), "questions[1]: 'question' holds the character U+D800"),
    (changed(ASKED, 1, question=["Is it?"]), "questions[1]: 'question' is ['Is it?'], expected a string"),
    (changed(ASKED, 1, question_id=1.5), "questions[1]: 'question_id' is 1.5, expected a whole number or a string"),
    (changed(ASKED, 1, image_id=None), "questions[1]: 'image_id' is None, expected a whole number or a string"),
    (without(ASKED, "image_id"), "questions[0]: no 'image_id' in"),
    ({"0": ASKED[0]}, "top level: 'questions' is {'0':"),
    (ASKED[:-1], "annotations.json: question 999000 is annotated, and questions.json does not ask it"),
    ([*ASKED, {**ASKED[0], "question_id": 7}], "questions.json: question 7 has no annotation in annotations.json"),
])
def test_a_wrong_question_is_named(raw, user_error, questions, message):
    write(raw, questions)
    assert message in user_error(run, raw)
    assert not (raw.parent / "out").exists()


@pytest.mark.parametrize(("annotations", "message"), [
    ([*ANNOTATED, ANNOTATED[0]], "annotations.json: question id '42000' occurs twice"),
    (changed(ANNOTATED, 1, answers=[]), "annotations[1]: question 42001 has no answers"),
    (changed(ANNOTATED, 1, answers=["yes"]), "annotations[1].answers[0]: no 'answer' in 'yes'"),
    (changed(ANNOTATED, 1, answers=[{"answer": "yes"}, {"answer": 2}]), "annotations[1].answers[1]: 'answer' is 2, expected a string"),
    (changed(ANNOTATED, 1, answers=[{"answer": "\udc00"}]), "annotations[1].answers[0]: 'answer' holds the character U+DC00"),
    (changed(ANNOTATED, 1, answers="yes"), "annotations[1]: 'answers' is 'yes', expected a list"),
    (changed(ANNOTATED, 1, answer_type=["yes/no"]), "annotations[1]: 'answer_type' is ['yes/no'], expected a string"),
    (without(ANNOTATED, "question_id"), "annotations[0]: no 'question_id' in"),
])
def test_a_wrong_annotation_is_named(raw, user_error, annotations, message):
    write(raw, annotations=annotations)
    assert message in user_error(run, raw)
    assert not (raw.parent / "out").exists()


@pytest.mark.parametrize("name", ["questions.json", "annotations.json"])
def test_a_broken_file_is_named(raw, user_error, name):
    (raw / name).write_text('{"questions": [')
    assert f"{name} is not valid JSON" in user_error(run, raw)
    (raw / name).write_text("[]")
    assert f"{name}: top level: no" in user_error(run, raw)
    (raw / name).unlink()
    assert f"{name} is missing" in user_error(run, raw)


def test_questions_about_other_pictures_alone_are_refused(raw, user_error):
    write(raw, ASKED[3:], ANNOTATED[3:])
    message = user_error(run, raw)
    assert "questions.json: none of its 2 questions is about a val or test picture of photos" in message
    write(raw, [], [])
    assert "none of its 0 questions" in user_error(run, raw)


def test_a_data_set_that_was_not_extracted_is_named(raw, user_error):
    (raw.parent / "photos/images.parquet").unlink()
    assert "photos/images.parquet is missing" in user_error(run, raw)


def test_a_file_that_unpacks_to_more_than_allowed_is_refused(raw, user_error):
    assert "more than max_bytes = 100" in user_error(run, raw, max_bytes=100)
