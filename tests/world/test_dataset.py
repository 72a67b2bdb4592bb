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
