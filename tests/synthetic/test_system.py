"""A system trained on synthetic pairs: what it is trained on, told of pictures, refuses, and says of a photograph."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from torch import Tensor

from pipeline import sweeps, training
from pipeline.captioning import caption_settings, load_images
from pipeline.core import paths
from pipeline.core.files import digest_file, digest_tree, read_json, write_json
from pipeline.decoders import Decoder, Decoding
from pipeline.features import tagging
from pipeline.features.embedding import embed_images, embed_text
from pipeline.features.encoders import Clip, ClipParams
from pipeline.features.indexing import IndexParams, index_corpus
from pipeline.features.stores import read
from pipeline.features.tagging import write_tag_set, write_tags
from pipeline.methods import find_method
from pipeline.methods.base import Condition, Corpus, Method
from pipeline.photographs import caption_files
from pipeline.sweeps import SweepParams
from pipeline.synthetic.pairs import choose_rows, pair_features
from pipeline.synthetic.refinement import ProjectionParams, RefinementParams, project_pairs, refine_pairs
from pipeline.systems import Setting, System
from pipeline.training import Plan, train_system, training_corpus
from tests.artefacts import LABELS, PAIR_STORES, StubDetector, write_corpus, write_pair_store, write_pairs

CPU = torch.device("cpu")
TRAIN = {"heads": 2, "prompt": "a photo of a {}", "limit": 3}
SYSTEM = System("syntic", "tiny", "scenes", "small", "small", train=TRAIN, caption={"temperature": {"scenes": 0.1}})
SETTING = {"test": "scenes", "support": "scenes"}
PARAMS: dict[str, Any] = {
    "clips": {"tiny": {"batch": 16}}, "decoders": {"small": {"layers": 1, "heads": 2, "width": 16, "max_tokens": 12}},
    "recipes": {"small": {"steps": 4, "batch": 4, "evaluate_every": 2}}, "captioning": {"beams": 2, "max_new_tokens": 6},
    "settings": {"in-domain": SETTING}, "detector": {"model": "stub"},
    "systems": {"synthetic": {"syntic": {"method": "syntic", "clip": "tiny", "corpus": "scenes", "decoder": "small", "recipe": "small",
                                         "train": TRAIN, "caption": {"temperature": {"scenes": 0.1}}}}},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Iterator[Path]:
    """A project with everything that a SynTIC system is trained on and captions, made by the stages' own code."""
    folder = tmp_path_factory.mktemp("syntic")
    rng = np.random.default_rng(0)
    with contextlib.chdir(folder):
        shutil.copytree(tiny_clip_folder, paths.foundation("tiny"))
        write_corpus("scenes", [f"a {colour} {thing}" for colour in ("red", "blue", "brown") for thing in ("dog", "car", "boat", "horse")],
                     heldout=[3, 7])
        embed_text("tiny", tiny_clip, "scenes")
        index_corpus("tiny", "scenes", IndexParams(3))
        shades = [Image.new("RGB", (64, 64), (20 * number,) * 3) for number in range(12)]
        write_pairs("scenes", list(range(10)), rng.normal(size=(10, 8)).astype(np.float32), StubDetector().detect(shades[:10]),
                    tiny_clip.digest)
        refine_pairs("tiny", "scenes", RefinementParams(steps=2, learning_rate=0.1, batch=4), CPU)
        project_pairs("tiny", "scenes", ProjectionParams({"scenes": 0.1}), CPU)
        paths.raw("scenes").mkdir(parents=True)
        for number, image in enumerate(shades):
            image.save(paths.raw("scenes") / f"{number}.png")
        pq.write_table(pa.table({"image_id": [f"i{n}" for n in range(12)], "path": [f"{n}.png" for n in range(12)],
                                 "split": ["test"] * 8 + ["val"] * 4}), paths.images_table("scenes"))
        pq.write_table(pa.table({"image_id": [f"i{n}" for n in range(12)], "text": ["a red dog"] * 12,
                                 "split": ["test"] * 8 + ["val"] * 4}), paths.references_table("scenes"))
        embed_images("tiny", tiny_clip, "scenes")
        paths.tags("scenes").mkdir(parents=True)
        write_tags(folder / "shard.parquet", [f"i{n}" for n in range(12)], StubDetector().detect(shades))
        write_tag_set(paths.tags("scenes"), [folder / "shard.parquet"], StubDetector(), 12,
                      digest_file(paths.images_table("scenes")))
        with Path("params.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(PARAMS, file)
        train_system("syntic", SYSTEM, PARAMS, CPU)
    return folder


@pytest.fixture
def inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project as the current folder, to change."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")
    return tmp_path / "project"


@pytest.mark.parametrize(("optimize", "projected"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_switches_choose_what_a_system_is_trained_on(inside, optimize, projected):
    system = replace(SYSTEM, train={**SYSTEM.train, "optimize": optimize, "project": projected})
    corpus = training_corpus(Plan.of("syntic", system, PARAMS), PARAMS, CPU)
    assert np.array_equal(corpus.pairs.features.numpy(), read(pair_features("tiny", "scenes", optimize, projected)).features)
    stores = [read(pair_features("tiny", "scenes", *switches)).features for switches in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert not any(np.array_equal(one, other) for number, one in enumerate(stores) for other in stores[:number])


def rows_shown(monkeypatch: pytest.MonkeyPatch, method: str) -> set[int]:
    """The rows of the corpus that a method is trained on or judged by in what follows."""
    shown: set[int] = set()
    cls = find_method(method)
    real: Callable[..., Condition] = cls.training_condition

    def watch(method: Method, corpus: Corpus, rows: Tensor, generator: torch.Generator) -> Condition:
        shown.update(rows.tolist())
        return real(method, corpus, rows, generator)

    monkeypatch.setattr(cls, "training_condition", watch)
    return shown


def test_a_system_is_trained_on_the_captions_that_have_pictures_alone(inside, monkeypatch):
    shown = rows_shown(monkeypatch, "syntic")
    train_system("syntic", SYSTEM, PARAMS, CPU)
    assert shown == set(range(10))  # of twelve


def test_a_text_only_system_may_be_trained_on_as_many_captions_as_are_drawn_and_on_the_same_ones(inside, monkeypatch):
    shown = rows_shown(monkeypatch, "decap")
    params = {**PARAMS, "recipes": {"small": {**PARAMS["recipes"]["small"], "captions": 8}}}
    train_system("decap", replace(SYSTEM, method="decap", train={}, caption={}), params, CPU)
    splits = pq.read_table(paths.corpus_table("scenes"))["split"].to_pylist()
    assert shown == set(choose_rows(splits, 8).tolist())
    assert len(shown) == 8


def test_the_same_system_trained_twice_has_the_same_bytes(inside):
    before = digest_tree(paths.model("syntic"))
    shutil.rmtree(paths.model("syntic"))
    train_system("syntic", SYSTEM, PARAMS, CPU)
    assert digest_tree(paths.model("syntic")) == before


def test_a_trained_system_captions_every_picture_of_a_setting(inside):
    caption_settings("syntic", SYSTEM, PARAMS, CPU)
    captions = read_json(paths.captions("syntic") / "in-domain.json")
    assert [entry["image_id"] for entry in captions] == [f"i{n}" for n in range(8)]
    assert all(isinstance(entry["caption"], str) for entry in captions)


def conditions_shown(monkeypatch: pytest.MonkeyPatch) -> list[Condition]:
    """What the decoder, which then says the same of everything, is given in what follows."""
    shown: list[Condition] = []

    def generate(decoder: Decoder, given: Condition, decoding: Decoding) -> list[str]:
        shown.append(given)
        return ["a caption"] * len(given.vectors)

    monkeypatch.setattr(Decoder, "generate", generate)
    return shown


def test_pictures_are_shown_to_the_decoder_alike_in_batches_of_any_size(inside, monkeypatch):
    shown = conditions_shown(monkeypatch)
    for batch in (3, 256):
        caption_settings("syntic", SYSTEM, {**PARAMS, "captioning": {"batch": batch}}, CPU)
    *parts, whole = shown
    assert [len(given.vectors) for given in parts] == [3, 3, 2]
    torch.testing.assert_close(torch.cat([given.vectors for given in parts]), whole.vectors)
    assert torch.equal(torch.cat([given.mask for given in parts]), whole.mask)


def test_images_come_with_the_objects_that_were_detected_in_them(inside):
    tags = Plan.of("syntic", SYSTEM, PARAMS).method.objects
    ids, images, _ = load_images("tiny", Setting("scenes", "scenes"), tags, lambda labels: torch.eye(len(labels)))
    assert ids == [f"i{n}" for n in range(8)]
    named = [[LABELS[i] for i in row if i >= 0] for row in images.objects.ids.tolist()]
    assert named == [[], [], *[["cat", "sun"]] * 3, *[["dog", "sun"]] * 3]  # brightness 0, 20, 40 and so on
    assert load_images("tiny", Setting("scenes", "scenes"))[1].objects is None


def test_tags_of_another_detector_than_the_one_in_training_are_refused(inside, user_error):
    file = paths.tags("scenes") / "tags.json"
    write_json(file, {**read_json(file), "detector_digest": "0" * 64})
    assert "another detector" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def test_tags_of_other_images_are_refused(inside, user_error):
    file = paths.tags("scenes") / "tags.json"
    write_json(file, {**read_json(file), "source_digest": "0" * 64})
    assert "other images" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def test_a_model_that_does_not_say_whose_objects_it_learnt_is_refused(inside, user_error):
    file = paths.model("syntic") / "system.json"
    write_json(file, {key: value for key, value in read_json(file).items() if key != "detector_digest"})
    assert "another detector" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def trained_rows(captions: int | None) -> list[int]:
    recipe = {**PARAMS["recipes"]["small"], "captions": captions}
    plan = Plan.of("syntic", SYSTEM, {**PARAMS, "recipes": {"small": recipe}})
    splits = pq.read_table(paths.corpus_table("scenes"))["split"].to_pylist()
    return training._trained_rows(plan, training_corpus(plan, PARAMS, CPU), splits).tolist()


def test_of_the_pairs_those_of_the_recipes_captions_are_trained_on(inside):
    splits = pq.read_table(paths.corpus_table("scenes"))["split"].to_pylist()
    assert trained_rows(None) == list(range(10))
    assert trained_rows(6) == [row for row in choose_rows(splits, 6).tolist() if row < 10]  # rows 10 and 11 have no picture


def test_a_recipe_of_more_captions_than_were_drawn_is_refused(inside, user_error):
    assert "synthesis.captions is 10" in user_error(trained_rows, 11)


@pytest.mark.parametrize("changed", [paths.references_table("scenes"), paths.images_table("scenes")])
def test_a_sweeps_row_is_stale_when_its_test_data_change(inside, changed):
    sweep = SweepParams(("syntic",), ("in-domain",))
    (variant,) = sweeps._variants(sweep, PARAMS)
    before = sweeps._fingerprint(variant, "in-domain", sweep, PARAMS, "judge")
    table = pq.read_table(changed)
    pq.write_table(table.slice(1), changed)
    embed_images("tiny", Clip(paths.foundation("tiny"), ClipParams(), CPU), "scenes")
    assert sweeps._fingerprint(variant, "in-domain", sweep, PARAMS, "judge") != before


@pytest.mark.parametrize(("train", "stale"), [({}, True), ({"objects": False}, False)])
def test_a_sweeps_row_is_stale_when_what_was_detected_changes_for_systems_that_read_it(inside, train, stale):
    sweep = SweepParams(("syntic",), ("in-domain",), {f"train.{key}": [value] for key, value in train.items()})
    (variant,) = sweeps._variants(sweep, PARAMS)
    before = sweeps._fingerprint(variant, "in-domain", sweep, PARAMS, "judge")
    file = paths.tags("scenes") / "tags.json"
    write_json(file, {**read_json(file), "threshold": 0.123})
    assert (sweeps._fingerprint(variant, "in-domain", sweep, PARAMS, "judge") != before) == stale


@pytest.mark.parametrize("train", [{}, {"optimize": False}, {"project": False}, {"optimize": False, "project": False}])
def test_pseudo_features_of_another_clip_than_the_corpus_are_refused(inside, user_error, train):
    system = replace(SYSTEM, train={**SYSTEM.train, **train})
    for name in PAIR_STORES:
        write_pair_store("scenes", name, np.eye(10, 8, dtype=np.float32), clip_digest="0" * 64)
    assert "another CLIP" in user_error(train_system, "syntic", system, PARAMS, CPU)


def caption_a_picture(explain: bool = True) -> bool:
    return caption_files([paths.raw("scenes") / "1.png", paths.raw("scenes") / "6.png"], "syntic", None, True, explain)


def test_explain_shows_the_objects_of_a_photograph(inside, monkeypatch, capsys):
    monkeypatch.setattr(tagging, "load_detector", lambda params, device: StubDetector())
    assert caption_a_picture()
    dark, bright = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert dark["objects"] == []
    assert [found["label"] for found in bright["objects"]] == ["dog", "sun"]


def test_the_decoder_gets_of_a_photograph_what_it_gets_of_the_same_picture_in_a_setting(inside, monkeypatch):
    shown = conditions_shown(monkeypatch)
    monkeypatch.setattr(tagging, "load_detector", lambda params, device: StubDetector())
    caption_settings("syntic", SYSTEM, PARAMS, CPU)
    caption_a_picture(explain=False)
    setting, photographs = shown
    # the store's features are rounded to half precision, and differences grow by 1 / temperature in the projection
    torch.testing.assert_close(photographs.vectors, setting.vectors[[1, 6]], atol=5e-3, rtol=0)
    assert torch.equal(photographs.mask, setting.mask[[1, 6]])
    assert photographs.mask.tolist() == [[True, False, False], [True, True, True]]


def test_a_photograph_is_not_captioned_with_another_detector_than_the_one_in_training(inside, monkeypatch, user_error):
    other = StubDetector()
    other.digest = "0" * 64
    monkeypatch.setattr(tagging, "load_detector", lambda params, device: other)
    assert "another detector" in user_error(caption_a_picture)
