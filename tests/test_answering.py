"""Questions about pictures: what is answered, with a picture and without; the same in any batch, after a kill, at the command line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import captioning
from pipeline.answer_evaluation import evaluate_answers
from pipeline.answering import another_picture, answer_settings
from pipeline.answers import WAYS, answering_of, read_answers
from pipeline.captioning import Captioner
from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.files import digest_file, digest_tree, read_json, write_json
from pipeline.corpus.questions import QUESTIONS
from pipeline.features.encoders import Clip
from pipeline.language.condition import Condition, question_prompt
from pipeline.language.decoders import Decoder
from pipeline.language.decoding import Decoding
from pipeline.needs.base import Inputs, read
from pipeline.photographs import answer_file
from pipeline.systems import find_system
from pipeline.training import train_system
from tests.artefacts import CLIP
from tests.tiny_systems import CPU, make_project, params, write_params

ENTRY = {"method": "decap", "clip": CLIP, "looks_at": f"{CLIP}/image", "looks_up": f"{CLIP}/text",
         "decoding": {"beams": 2, "max_new_tokens": 4}, "settings": {"in-domain": {"test": "asked", "support": "scenes"}}}
ALL = params({"answering.decap": ENTRY, "decoders.small.max_tokens": 60, "recipes.small.steps": 200,
              "recipes.small.learning_rate": 0.02, "recipes.small.evaluate_every": 50, "evaluation": {"judge": "judge", "samples": 20}})
QUESTION = "is there a red dog?"


def write_questions(texts: tuple[str, ...] = ("a red dog?", "what is this?", "a blue")) -> None:
    """Eight questions about five of the eight test pictures, and one about a validation picture."""
    folder = paths.corpus("asked")
    folder.mkdir(parents=True, exist_ok=True)
    images = ["i0", "i0", "i2", "i3", "i2", "i5", "i7", "i7", "i9"]
    rows = [{"question_id": str(100 + number), "image_id": image, "text": texts[number % len(texts)],
             "split": "test" if image < "i8" else "val", "question_type": "what", "answer_type": "other", "answers": ["dog"] * 9 + ["cat"]}
            for number, image in enumerate(images)]
    pq.write_table(pa.Table.from_pylist(rows, schema=QUESTIONS), paths.questions_table("asked"))
    write_json(folder / "report.json", {"about": "scenes", "images_digest": digest_file(paths.image_table("scenes"))})
    seal(folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    make_project(folder, tiny_clip_folder, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(ALL)
        write_questions()
        train_system("decap", find_system("decap", ALL), ALL, CPU)
    return folder


@pytest.fixture(autouse=True)
def _inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")


def answer(values: dict[str, Any] = ALL) -> dict[str, dict[str, str]]:
    system = find_system("decap", values)
    answer_settings("decap", system, values, Captioner("decap", system, CPU))
    return {way: read_answers("decap", "in-domain", way) for way in WAYS}


def alone(row: int, text: str, blind: bool = False) -> str:
    """The answer to one question about one picture, from the decoder itself."""
    captioner = Captioner("decap", find_system("decap", ALL), CPU)
    seen = read(captioner.method.looks_at, CLIP, "scenes")[[row]]
    captioner.caption(seen, captioner.support("scenes"), Decoding())  # loads the decoder
    decoder = captioner._decoder
    assert decoder is not None
    told = captioner.method.inference_condition(seen, captioner.support("scenes"))
    condition = Condition(told.vectors[:, :0] if blind else told.vectors, told.mask[:, :0] if blind else told.mask,
                          begun=decoder.begin([question_prompt(text)]))
    return decoder.generate(condition, Decoding(beams=2, max_new_tokens=4))[0]


def test_each_question_is_answered_about_its_picture_without_one_and_about_another() -> None:
    found, table = answer(), pq.read_table(paths.questions_table("asked")).to_pylist()[:-1]
    other = another_picture([row["image_id"] for row in table])
    for row in table:
        number, question = int(row["image_id"][1:]), row["question_id"]
        assert found[""][question] == alone(number, row["text"])
        assert found[".blind"][question] == alone(number, row["text"], blind=True)
        assert found[".shuffled"][question] == alone(int(other[row["image_id"]][1:]), row["text"])
    assert all(len(answers) == 8 for answers in found.values())


def test_an_answer_without_a_picture_is_told_nothing_of_one(monkeypatch) -> None:
    told: list[tuple[int, int]] = []
    real = Decoder.generate

    def watched(decoder: Decoder, condition: Condition, decoding: Decoding) -> list[str]:
        assert condition.begun is not None
        told.append((condition.vectors.shape[1], len(condition.begun)))
        return real(decoder, condition, decoding)

    monkeypatch.setattr(Decoder, "generate", watched)
    answer({**ALL, "captioning": {**ALL["captioning"], "batch": 8}})
    assert told == [(1, 8), (0, 8), (1, 8)]  # its picture, none, another


def test_files_hold_vqas_results_format_in_the_tables_order() -> None:
    answer()
    found = read_json(paths.answers("decap") / "in-domain.json")
    assert [list(entry) for entry in found] == [["question_id", "answer"]] * 8
    assert [entry["question_id"] for entry in found] == list(range(100, 108))


def test_the_other_picture_is_never_the_same_and_each_is_asked_about_once() -> None:
    other = another_picture([*"abcdeabc"])
    assert sorted(other) == sorted(other.values()) == [*"abcde"]
    assert all(one != two for one, two in other.items())


def test_a_killed_run_goes_on_to_the_same_answers(monkeypatch) -> None:
    small = {**ALL, "answering": {"decap": {**ENTRY, "decoding": {**ENTRY["decoding"], "batch": 3}}}}  # type: ignore[dict-item]
    answer(small)
    whole = digest_tree(paths.answers("decap"))
    shutil.rmtree(paths.answers("decap"))
    shutil.rmtree(".work")
    calls: list[int] = []
    real = Captioner.answer

    def dying(*arguments: Any) -> list[str]:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(captioning.Captioner, "answer", dying)
    with pytest.raises(KeyboardInterrupt):
        answer(small)
    assert not (paths.answers("decap") / "in-domain.json").exists()
    answer(small)
    assert len(calls) == 5 + 6  # the first of three batches is not answered again
    assert digest_tree(paths.answers("decap")) == whole
    answer(small)
    assert len(calls) == 11
    write_questions(("where is this?",))
    answer(small)
    assert len(calls) == 20


def test_scores_hold_what_the_controls_scored_and_the_margin_of_each_type() -> None:
    answer()
    evaluate_answers("decap", answering_of("decap", find_system("decap", ALL), ALL), ALL)
    metrics = read_json(paths.answer_metrics("decap"))
    kinds = ("", "_low", "_other", "_blind", "_shuffled", "_constant", "_above_blind_low")
    assert {f"in-domain.Accuracy{kind}" for kind in kinds} <= set(metrics)
    about = read_json(paths.answer_scores("decap") / "protocol.json")["settings"]["in-domain"]
    assert about["questions"] == 8
    assert set(about["margins_by_type"]["Accuracy_other"]) == {"Accuracy_blind", "Accuracy_shuffled", "Accuracy_constant"}
    mean, low, high = about["margins_by_type"]["Accuracy_other"]["Accuracy_constant"]
    assert low <= mean <= high
    assert mean == pytest.approx(metrics["in-domain.Accuracy_other"] - metrics["in-domain.Accuracy_constant"], abs=1e-3)


def test_the_command_line_answers_as_the_stage_does(capsys) -> None:
    found = answer()[""]
    rows = [row for row in pq.read_table(paths.questions_table("asked")).to_pylist()[:-1] if row["image_id"] == "i7"]
    for row in rows:
        answer_file(paths.raw("scenes") / "7.png", f"  {row['text']}\n", "decap", None)
        assert capsys.readouterr().out == f"{found[row['question_id']]}\n"


def test_what_cannot_be_answered_is_one_line(user_error) -> None:
    picture = paths.raw("scenes") / "1.png"
    assert "the question is empty" in user_error(answer_file, picture, " ", "decap", None)
    assert "answering has no 'raw'" in user_error(answer_file, picture, QUESTION, "raw", None)
    assert "no such file" in user_error(answer_file, picture.with_name("none.png"), QUESTION, "decap", None)
    other = {**ALL, "answering": {"decap": {**ENTRY, "looks_at": f"{CLIP}/tagged"}}}
    assert "answering.decap.looks_at is 'tiny/tagged', and the system's 'tiny/image'" in user_error(answer, other)
    clipre = find_system("clipre", ALL)
    train_system("clipre", clipre, ALL, CPU)
    message = user_error(Captioner("clipre", clipre, CPU).answer, Inputs({}), Inputs({}), [QUESTION], Decoding())
    assert "clipre has no language model" in message
    none = {**ALL, "answering": {"decap": {**ENTRY, "settings": {"in-domain": {"test": "asked", "support": "scenes", "split": "train"}}}}}
    assert "no question about a train picture" in user_error(answer, none)
    nothing = {**ALL, "answering": {"decap": {**ENTRY, "settings": {"in-domain": {"test": "scenes", "support": "scenes"}}}}}
    assert "holds no questions" in user_error(answer, nothing)


def test_questions_about_pictures_that_are_others_now_are_refused(user_error) -> None:
    about = read_json(paths.corpus("asked") / "report.json")
    write_json(paths.corpus("asked") / "report.json", {**about, "images_digest": "0"})
    seal(paths.corpus("asked"))
    assert "made of other pictures" in user_error(answer)


def test_answers_do_not_depend_on_the_batch() -> None:
    found = answer()
    batch = {**ALL, "answering": {"decap": {**ENTRY, "decoding": {**ENTRY["decoding"], "batch": 3}}}}  # type: ignore[dict-item]
    assert answer(batch) == found
