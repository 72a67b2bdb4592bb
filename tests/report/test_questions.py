"""The report's questions: every type with its margins, examples with their pictures, controls by name; text stays text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.answer_evaluation import evaluate_answers
from pipeline.answers import WAYS, AnsweringParams
from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.files import digest_file, write_json
from pipeline.core.params import section as section_of
from pipeline.corpus.questions import QUESTIONS
from pipeline.report.data import gather
from pipeline.report.page import render
from pipeline.report.questions import SHOWN
from tests.artefacts import seal_again
from tests.report.test_report import IMAGES, MALICE, PARAMS, section, write_dataset

TYPES = ("yes/no", "number", "other")
ENTRY = {"method": "knight", "clip": "micro", "looks_at": "micro/image", "looks_up": "micro/text",
         "settings": {"in-domain": {"test": "asked", "support": "scenes"}}}
ASKING: dict[str, Any] = {**PARAMS, "settings": {"pictures": None}, "systems": {}, "answering": {"knight": ENTRY}}
PEOPLE = [*["dog"] * 6, *["cat"] * 3, MALICE]


def write_questions(types: tuple[str, ...] = TYPES, validation: bool = True) -> list[str]:
    """A question about each test picture, of types in turn, and one about a validation picture. Ids of those that are tested."""
    folder = paths.corpus("asked")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"question_id": str(i), "image_id": f"scenes-{i:02d}", "text": f"what is {MALICE} {i}?", "split": "test",
             "question_type": "what", "answer_type": types[i % len(types)], "answers": PEOPLE} for i in range(IMAGES)]
    other = {**rows[0], "question_id": "99", "image_id": "another", "split": "val", "answers": ["boat"] * 10}
    pq.write_table(pa.Table.from_pylist([*rows, *([other] if validation else [])], schema=QUESTIONS), paths.questions_table("asked"))
    write_json(folder / "report.json", {"about": "scenes", "images_digest": digest_file(paths.image_table("scenes"))})
    seal(folder)
    return [row["question_id"] for row in rows]


def write_answers(ids: list[str], own: str = "dog", blind: str = "boat", shuffled: str = "") -> None:
    paths.answers("knight").mkdir(parents=True, exist_ok=True)
    for way, answer in zip(WAYS, (own, blind, shuffled), strict=True):
        write_json(paths.answers("knight") / f"in-domain{way}.json", [{"question_id": int(i), "answer": answer} for i in ids])
    seal(paths.answers("knight"))


def score() -> None:
    evaluate_answers("knight", section_of(AnsweringParams, ASKING, "answering.knight"), ASKING)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answers of a system to questions about tiny pictures, scored. Their ids."""
    monkeypatch.chdir(tmp_path)
    write_dataset("scenes", (64, 64))
    ids = write_questions()
    write_answers(ids)
    score()
    return ids


def shown() -> str:
    return section(render(gather(ASKING)), "questions")


def test_each_type_of_answers_has_its_accuracy_and_its_margin_above_each_control(asked) -> None:
    html = shown()
    assert html.count("<tr><th scope=\"row\">") == 4
    for name, count in (("all", IMAGES), ("yes/no", 7), ("number", 7), ("other", 6)):
        assert f'<th scope="row">{name}</th><td class="n">{count}</td><td class="n">100.0' in html
    for control in ("blind", "shuffled", "constant"):
        assert f"above {control}" in html
    assert html.count('<td class="n clear">+100.0') == 4 * 3
    for said in ("accuracy of the same system without a picture 0.0; ", "20 questions of asked (test) about pictures of scenes"):
        assert said in html


def test_a_margin_that_may_be_nothing_is_not_marked(asked) -> None:
    write_answers(asked, blind="dog")
    score()
    assert shown().count('<td class="n clear">') == 4 * 2


def test_without_a_validation_split_there_is_no_constant_and_without_a_type_no_row(asked) -> None:
    write_answers(write_questions(types=("other",), validation=False))
    score()
    html = shown()
    assert "above constant" not in html
    assert html.count("<tr><th scope=\"row\">") == 2


def test_examples_have_their_picture_all_three_answers_and_what_people_say(asked) -> None:
    html = shown()
    assert html.count("<article>") == html.count("<img ") == SHOWN
    assert "knight: dog (100.0)" in html
    assert "without a picture: boat · with another: (empty)" in html
    assert "dog 6, cat 3, &lt;script&gt;" in html


def test_html_in_questions_and_answers_is_shown_as_text(asked) -> None:
    write_answers(asked, own=MALICE)
    score()
    html = shown()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_answers_of_other_questions_than_were_scored_are_named(asked, user_error) -> None:
    write_answers(asked[1:])
    assert "hold different questions" in user_error(gather, ASKING)


def test_scores_of_another_setting_are_named(asked, user_error) -> None:
    other = {**ASKING, "answering": {"knight": {**ENTRY, "settings": {"other": ENTRY["settings"]["in-domain"]}}}}  # type: ignore[index]
    assert "has no other" in user_error(gather, other)


def test_questions_about_other_pictures_are_named(asked, user_error) -> None:
    write_json(paths.corpus("asked") / "report.json", {"about": "scenes", "images_digest": "0"})
    seal_again(paths.corpus("asked"))
    assert "made of other pictures" in user_error(gather, ASKING)


def test_without_answers_there_is_no_such_section(asked) -> None:
    assert 'id="questions"' not in render(gather({**ASKING, "answering": {}}))
