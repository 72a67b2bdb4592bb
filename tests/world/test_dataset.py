"""The micro-world on disk: the counts that were asked, corpus scenes with pictures only where asked, and the same bytes twice."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.core import paths
from pipeline.core.files import digest_tree
from pipeline.core.params import check
from pipeline.corpus.extract import ExtractParams, extract
from pipeline.corpus.questions import QuestionParams, extract_questions
from pipeline.images import locate, open_image
from pipeline.world import dataset
from pipeline.world.dataset import WorldParams, write_dataset
from pipeline.world.scenes import generator, render, sample_scene, to_record

PARAMS = WorldParams("scenes", seed=11, corpus=5, unlabelled=3, val=2, test=4)


@pytest.fixture(autouse=True)
def _in_a_fresh_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images() -> list[dict]:
    write_dataset("scenes", PARAMS)
    content = json.loads((paths.raw("scenes") / "dataset.json").read_text())
    assert content["dataset"] == "scenes"
    return content["images"]


def test_each_pool_has_as_many_scenes_as_asked_under_karpathys_split_names(images):
    assert Counter(image["split"] for image in images) == {"train": 5, "unlabelled": 3, "val": 2, "test": 4}
    assert [image["imgid"] for image in images] == list(range(14))


def test_the_corpus_has_sentences_and_no_pictures(images):
    corpus = [image for image in images if image["split"] == "train"]
    assert all(len(image["sentences"]) == 5 for image in corpus)
    assert not any({"scene", "filename", "filepath"} & set(image) for image in corpus)
    assert not [path for path in (paths.raw("scenes") / "images").iterdir() if path.name.startswith("corpus")]


def test_unlabelled_pictures_have_no_sentences(images):
    assert all(image["sentences"] == [] for image in images if image["split"] == "unlabelled")


def test_every_other_scene_has_its_picture_and_nothing_else_is_written(images):
    named = {f"images/{image['filepath']}/{image['filename']}" for image in images if image["split"] != "train"}
    assert len(named) == 3 + 2 + 4
    written = {str(path.relative_to(paths.raw("scenes"))) for path in paths.raw("scenes").rglob("*") if path.is_file()}
    assert written == named | {"dataset.json", "instances.json", "synonyms.txt", "colours.txt", "unpaired-manifest.json"}


def test_a_picture_and_its_record_show_the_scene_of_that_number(images):
    (record,) = [image for image in images if image["split"] == "test" and image["filename"] == "00002.png"]
    scene = sample_scene("scenes", generator("scenes", "test", 11, 2))
    assert record["scene"] == to_record(scene)
    with Image.open(paths.raw("scenes") / "images/test/00002.png") as picture:
        assert picture.mode == "RGB"
        assert picture.tobytes() == render(scene).tobytes()


def records(params: WorldParams) -> list[dict]:
    write_dataset("scenes", params)
    return json.loads((paths.raw("scenes") / "dataset.json").read_text())["images"]


@pytest.mark.parametrize("shard", [2, 5, 4096])
def test_corpus_scenes_may_give_their_pictures_too_in_shards(monkeypatch, shard):
    monkeypatch.setattr(dataset, "_SHARD", shard)
    corpus = [image for image in records(replace(PARAMS, pictures=True)) if image["split"] == "train"]
    folder = paths.raw("scenes") / "images"
    for index, record in enumerate(corpus):
        scene = sample_scene("scenes", generator("scenes", "corpus", 11, index))
        assert record["scene"] == to_record(scene)
        assert open_image(locate(folder, record["filename"])).tobytes() == render(scene).tobytes()
    assert len(list(folder.glob("corpus-*.tar"))) == -(-5 // shard)


def test_pictures_of_the_corpus_change_no_sentence_and_no_other_picture():
    plain, pictured = (records(replace(PARAMS, pictures=pictures)) for pictures in (False, True))
    assert [image["sentences"] for image in plain] == [image["sentences"] for image in pictured]
    assert [image for image in plain if image["split"] != "train"] == [image for image in pictured if image["split"] != "train"]


def test_a_corpus_with_pictures_is_extracted_as_pairs():
    write_dataset("scenes", replace(PARAMS, pictures=True))
    report = extract(paths.raw("scenes"), paths.corpus("scenes"), ExtractParams("karpathy", "dataset.json", "images", paired=True))
    assert report["images"] == {"unlabelled": 3, "val": 2, "test": 4, "train": 5, "restval": 0}


def test_sentences_are_numbered_through_and_point_to_their_image(images):
    sentences = [(sentence, image) for image in images for sentence in image["sentences"]]
    assert [sentence["sentid"] for sentence, _ in sentences] == list(range(5 * (5 + 2 + 4)))
    assert all(sentence["imgid"] == image["imgid"] for sentence, image in sentences)
    assert all(sentence["raw"].strip() for sentence, _ in sentences)


@pytest.mark.parametrize("pictures", [False, True])
def test_the_same_parameters_give_the_same_bytes_and_another_seed_others(pictures):
    digests = []
    for params in (PARAMS, PARAMS, replace(PARAMS, seed=12)):
        write_dataset("scenes", replace(params, pictures=pictures))
        digests.append(digest_tree(paths.raw("scenes")))
    assert digests[0] == digests[1] != digests[2]


def test_a_larger_corpus_leaves_the_test_pictures_as_they_were():
    write_dataset("small", PARAMS)
    write_dataset("large", replace(PARAMS, corpus=9))
    assert digest_tree(paths.raw("small") / "images") == digest_tree(paths.raw("large") / "images")


def test_a_data_set_without_scenes_is_refused(user_error):
    assert "world.none has no scenes" in user_error(write_dataset, "none", WorldParams("scenes", 1, 0, 0, 0, 0))
    assert not Path("data").exists()


def test_an_unknown_style_is_refused_with_the_known_ones(user_error):
    message = user_error(check, WorldParams, {"style": "scene", "seed": 1}, "world.scenes")
    assert "style must be one of scenes, album" in message


def asked(params: WorldParams) -> tuple[dict, dict]:
    write_dataset("questions", params)
    folder = paths.raw("questions")
    return json.loads((folder / "questions.json").read_text()), json.loads((folder / "annotations.json").read_text())


def test_questions_are_about_the_val_and_test_pictures_of_the_same_scenes(images):
    questions, annotations = asked(replace(PARAMS, questions=12))
    shown = {image["imgid"]: image["scene"] for image in images if image["split"] in ("val", "test")}
    answers = {annotation["question_id"]: annotation["multiple_choice_answer"] for annotation in annotations["annotations"]}
    counted = {question["image_id"]: answers[question["question_id"]] for question in questions["questions"]
               if question["question"] == "how many things are there?"}
    assert counted == {image_id: str(len(scene["things"])) for image_id, scene in shown.items()}


def test_questions_and_answers_have_the_form_of_vqa():
    questions, annotations = asked(replace(PARAMS, questions=2))
    assert {questions["data_subtype"], annotations["data_subtype"]} == {"scenes"}
    assert questions["task_type"] == annotations["task_type"] == "Open-Ended"
    assert [question["question_id"] for question in questions["questions"]] == [100 * image + i for image in range(8, 14) for i in (0, 1)]
    for question, annotation in zip(questions["questions"], annotations["annotations"], strict=True):
        assert set(question) == {"question_id", "image_id", "question"}
        assert set(annotation) == {"question_id", "image_id", "question_type", "answer_type", "multiple_choice_answer", "answers"}
        assert (annotation["question_id"], annotation["image_id"]) == (question["question_id"], question["image_id"])
        assert question["question"].startswith(annotation["question_type"])
        assert annotation["answer_type"] in ("yes/no", "number", "other")
        given = [answer["answer"] for answer in annotation["answers"]]
        assert annotation["multiple_choice_answer"] == max(given, key=given.count)
        assert [answer["answer_id"] for answer in annotation["answers"]] == list(range(1, 11))
        assert len({answer["answer"] for answer in annotation["answers"] if answer["answer_confidence"] == "yes"}) <= 1


def test_all_questions_find_their_picture():
    write_dataset("scenes", replace(PARAMS, questions=2))
    extract(paths.raw("scenes"), paths.corpus("scenes"), ExtractParams("karpathy", "dataset.json", "images"))
    params = QuestionParams("scenes", "scenes", "questions.json", "annotations.json")
    report = extract_questions(paths.raw("scenes"), paths.image_table("scenes"), paths.corpus("questions"), params)
    assert report["read"] == report["kept"] == 2 * (2 + 4)
    assert (report["val"]["questions"], report["test"]["questions"]) == (4, 8)


def test_the_same_parameters_ask_the_same_and_another_seed_others():
    digests = []
    for params in (PARAMS, PARAMS, replace(PARAMS, seed=12)):
        asked(replace(params, questions=2))
        digests.append(digest_tree(paths.raw("questions")))
    assert digests[0] == digests[1] != digests[2]


def test_a_data_set_with_questions_is_the_one_without_them_and_two_files_more():
    write_dataset("scenes", PARAMS)
    plain = {file.relative_to(paths.raw("scenes")): file.read_bytes() for file in paths.raw("scenes").rglob("*.*")}
    asked(replace(PARAMS, questions=2))
    found = {file.relative_to(paths.raw("questions")): file.read_bytes() for file in paths.raw("questions").rglob("*.*")}
    differing = {path.name for path in found if path.suffix != ".tar" and found[path] != plain.get(path)}
    assert differing == {"questions.json", "annotations.json", "dataset.json", "unpaired-manifest.json"}
    assert json.loads(found[Path("dataset.json")])["images"] == json.loads(plain[Path("dataset.json")])["images"]


def test_questions_that_were_interrupted_come_out_the_same(monkeypatch):
    params = replace(PARAMS, questions=2)
    asked(params)
    whole = {file.name: file.read_bytes() for file in paths.raw("questions").glob("[qa]*.json")}
    write = dataset.write_json

    def dying(path: Path, *args: object, **options: object) -> None:
        if path.name == "annotations.json":
            raise KeyboardInterrupt
        write(path, *args, **options)

    monkeypatch.setattr(dataset, "write_json", dying)
    with pytest.raises(KeyboardInterrupt):
        write_dataset("killed", params)
    assert not paths.raw("killed").exists()
    monkeypatch.setattr(dataset, "write_json", write)
    write_dataset("killed", params)
    assert {file.name: file.read_bytes() for file in paths.raw("killed").glob("[qa]*.json")} == whole


def test_scenes_to_ask_about_are_needed(user_error):
    message = user_error(write_dataset, "none", replace(PARAMS, val=0, test=0, questions=1))
    assert "world.none has no val or test scenes to ask about" in message
    assert not Path("data").exists()


@pytest.mark.parametrize(("changes", "message"), [
    ({"questions": 101}, "questions must be at most 100"), ({"questions": -1}, "questions is -1"),
])
def test_questions_that_cannot_be_asked_are_refused(user_error, changes, message):
    assert message in user_error(check, WorldParams, {"style": "scenes", "seed": 1, **changes}, "world.scenes")
