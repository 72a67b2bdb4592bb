"""A system trained on synthetic pairs: what it is trained on, told of pictures, refuses, and says of a photograph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from pipeline import training
from pipeline.captioning import caption_settings
from pipeline.core import paths
from pipeline.core.files import digest_tree, read_json, write_json
from pipeline.corpus.choosing import choose_rows
from pipeline.features import tagging
from pipeline.features.encoders import Clip
from pipeline.features.stores import read as read_store
from pipeline.language.condition import Condition
from pipeline.language.decoders import Decoder
from pipeline.language.decoding import Decoding
from pipeline.methods import find_method
from pipeline.methods.base import Method
from pipeline.needs.base import Inputs, read
from pipeline.needs.images import Images, PseudoFeatures
from pipeline.needs.pairs import Paired, Pairs
from pipeline.needs.tags import Objects
from pipeline.photographs import caption_files
from pipeline.systems import Setting, System, find_system, looked_at, make_method
from pipeline.training import Plan, train_system
from tests.artefacts import CLIP, DETECTOR, LABELS, PAIR_STORES, StubDetector, edit_json, pair_store, seal_again, write_pair_store
from tests.tiny_systems import CPU, PARAMS, make_project, params, write_params

SYSTEM = find_system("syntic", PARAMS)
SETTING = Setting("scenes", "scenes")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Path:
    """A project with everything that a SynTIC system is trained on and captions, and its model."""
    folder = tmp_path_factory.mktemp("syntic")
    make_project(folder, tiny_clip_folder, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train_system("syntic", SYSTEM, PARAMS, CPU)
    return folder


@pytest.fixture
def inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project as the current folder, to change."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")
    return tmp_path / "project"


def with_switches(**train: Any) -> System:
    return replace(SYSTEM, train={**SYSTEM.train, **train})


def learnt_from(system: System) -> Paired:
    return read(make_method("syntic", system).learns_from, CLIP, system.corpus).of(Pairs)


def seen_by(system: System) -> Inputs:
    return read(looked_at(make_method("syntic", system), SETTING), CLIP, SETTING.test)


@pytest.mark.parametrize(("name", "switches"), PAIR_STORES.items())
def test_the_switches_choose_what_a_system_is_trained_on(inside, name, switches):
    optimize, projected = switches
    pictures = learnt_from(with_switches(optimize=optimize, project=projected)).pictures
    assert np.array_equal(pictures.of(PseudoFeatures).numpy(), read_store(pair_store("scenes", name)).features)
    stores = [read_store(pair_store("scenes", each)).features for each in PAIR_STORES]
    assert not any(np.array_equal(one, other) for number, one in enumerate(stores) for other in stores[:number])


def rows_shown(monkeypatch: pytest.MonkeyPatch, method: str) -> set[int]:
    """The rows of the corpus that a method is trained on or judged by in what follows."""
    shown: set[int] = set()
    cls = find_method(method)
    real: Callable[..., Condition] = cls.training_condition

    def watch(method: Method, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        shown.update(rows.tolist())
        return real(method, corpus, rows, generator)

    monkeypatch.setattr(cls, "training_condition", watch)
    return shown


def test_a_system_is_trained_on_the_captions_that_have_pictures_alone(inside, monkeypatch):
    shown = rows_shown(monkeypatch, "syntic")
    shutil.rmtree(paths.WORK)  # which has it trained
    train_system("syntic", SYSTEM, PARAMS, CPU)
    assert shown == set(range(10))  # of twelve


def test_a_text_only_system_may_be_trained_on_as_many_captions_as_are_drawn_and_on_the_same_ones(inside, monkeypatch):
    shown = rows_shown(monkeypatch, "decap")
    train_system("decap", find_system("decap", PARAMS), params({"recipes.small.captions": 8}), CPU)
    splits = pq.read_table(paths.corpus_table("scenes"))["split"].to_pylist()
    assert shown == set(choose_rows(splits, 8).tolist())
    assert len(shown) == 8


def test_what_is_learnt_of_a_picture_is_what_is_known_of_the_one_drawn_of_the_caption(inside):
    pairs = learnt_from(with_switches(optimize=False, project=False))
    drawn = read_store(paths.image_features(CLIP, paths.drawn("scenes"))).features
    assert pairs.picture_of.tolist() == [*range(10), -1, -1]
    assert np.array_equal(pairs.pictures.of(PseudoFeatures).numpy(), drawn)
    named = [[LABELS[i] for i in row if i >= 0] for row in pairs.pictures.of(Objects).ids.tolist()]
    assert named == [[], [], *[["cat", "sun"]] * 3, *[["dog", "sun"]] * 3, *[["tree", "sun"]] * 2]


def test_the_same_system_trained_twice_has_the_same_bytes(inside):
    before = digest_tree(paths.model("syntic"))
    shutil.rmtree(paths.model("syntic"))
    shutil.rmtree(paths.WORK)
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
        caption_settings("syntic", SYSTEM, params({"captioning": {"batch": batch}}), CPU)
    *parts, whole = shown
    assert [len(given.vectors) for given in parts] == [3, 3, 2]
    torch.testing.assert_close(torch.cat([given.vectors for given in parts]), whole.vectors)
    assert torch.equal(torch.cat([given.mask for given in parts]), whole.mask)


def test_images_come_with_the_objects_that_were_detected_in_them(inside):
    named = [[LABELS[i] for i in row if i >= 0] for row in seen_by(SYSTEM).of(Objects).ids.tolist()]
    assert named == [[], [], *[["cat", "sun"]] * 3, *[["dog", "sun"]] * 3, *[["tree", "sun"]] * 3, ["sun"]]  # brightness 0, 20, 40 ...
    assert looked_at(make_method("syntic", with_switches(objects=False)), SETTING) == (Images(),)


def change_tagged(**values: Any) -> None:
    edit_json(paths.tagged(CLIP, DETECTOR, "scenes") / "tagged.json", **values)


def test_tags_of_another_detector_than_the_one_in_training_are_refused(inside, user_error):
    change_tagged(detector_digest="0" * 64)
    assert f"another detector {DETECTOR} than" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def test_tags_of_other_images_are_refused(inside, user_error):
    change_tagged(source_digest="0" * 64)
    assert "other images" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def test_tags_in_another_clips_space_are_refused(inside, user_error):
    change_tagged(clip_digest="0" * 64)
    assert f"another CLIP {CLIP} than" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def test_a_model_that_learnt_the_objects_of_another_detector_is_refused(inside, user_error):
    file = paths.model("syntic") / "system.json"
    models = read_json(file)["models"]
    assert set(models) == {f"CLIP {CLIP}", f"detector {DETECTOR}"}
    edit_json(file, models={**models, f"detector {DETECTOR}": "0" * 64})
    assert f"another detector {DETECTOR} than" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def test_a_model_that_does_not_say_what_it_was_made_with_is_refused(inside, user_error):
    file = paths.model("syntic") / "system.json"
    write_json(file, {key: value for key, value in read_json(file).items() if key != "models"})
    seal_again(file)
    assert "made by an earlier version" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def trained_rows(captions: int | None) -> list[int]:
    plan = Plan.of("syntic", SYSTEM, params({"recipes.small.captions": captions}))
    splits = pq.read_table(paths.corpus_table("scenes"))["split"].to_pylist()
    return training._trained_rows(plan, Inputs({Pairs: learnt_from(SYSTEM)}), splits).tolist()


def test_of_the_pairs_those_of_the_recipes_captions_are_trained_on(inside):
    splits = pq.read_table(paths.corpus_table("scenes"))["split"].to_pylist()
    assert trained_rows(None) == list(range(10))
    assert trained_rows(6) == [row for row in choose_rows(splits, 6).tolist() if row < 10]  # rows 10 and 11 have no picture


def test_a_recipe_of_more_captions_than_were_drawn_is_refused(inside, user_error):
    assert "synthesis.captions is 10" in user_error(trained_rows, 11)


@pytest.mark.parametrize("train", [{}, {"optimize": False}, {"project": False}, {"optimize": False, "project": False}])
def test_pseudo_features_of_another_clip_than_the_corpus_are_refused(inside, user_error, train):
    for name in PAIR_STORES:
        write_pair_store("scenes", name, np.eye(10, 8, dtype=np.float32), clip_digest="0" * 64)
    assert f"another CLIP {CLIP} than" in user_error(train_system, "syntic", with_switches(**train), PARAMS, CPU)


def test_a_system_without_objects_that_learnt_from_another_clips_pictures_is_not_used(inside, user_error):
    write_pair_store("scenes", "drawn", np.eye(10, 8, dtype=np.float32), clip_digest="0" * 64)
    system = with_switches(objects=False, optimize=False, project=False)
    train_system("syntic", system, PARAMS, CPU)
    assert f"another CLIP {CLIP} than" in user_error(caption_settings, "syntic", system, PARAMS, CPU)


def caption_a_picture(explain: bool = True) -> bool:
    return caption_files([paths.raw("scenes") / "1.png", paths.raw("scenes") / "6.png"], "syntic", None, True, explain)


def test_explain_shows_the_objects_of_a_photograph(inside, monkeypatch, capsys):
    monkeypatch.setattr(tagging, "load_detector", lambda name, params, device: StubDetector())
    assert caption_a_picture()
    dark, bright = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert dark["objects"] == []
    assert [found["label"] for found in bright["objects"]] == ["dog", "sun"]


def test_the_decoder_gets_of_a_photograph_what_it_gets_of_the_same_picture_in_a_setting(inside, monkeypatch):
    shown = conditions_shown(monkeypatch)
    monkeypatch.setattr(tagging, "load_detector", lambda name, params, device: StubDetector())
    whole = params({"captioning.batch": 256})
    write_params(whole)
    caption_settings("syntic", SYSTEM, whole, CPU)
    caption_a_picture(explain=False)
    setting, photographs = shown
    # the store's features are rounded to half precision, and differences grow by 1 / temperature in the projection
    torch.testing.assert_close(photographs.vectors, setting.vectors[[1, 6]], atol=5e-3, rtol=0)
    assert torch.equal(photographs.mask, setting.mask[[1, 6]])
    assert photographs.mask.tolist() == [[True, False, False], [True, True, True]]


def test_a_photograph_is_not_captioned_with_another_detector_than_the_one_in_training(inside, monkeypatch, user_error):
    other = StubDetector()
    other.digest = "0" * 64
    monkeypatch.setattr(tagging, "load_detector", lambda name, params, device: other)
    assert f"another detector {DETECTOR} than" in user_error(caption_a_picture)


def test_a_photographs_objects_are_named_in_the_prompt_of_params(inside, monkeypatch):
    read_texts: list[str] = []
    real = Clip.encode_texts

    def listen(clip: Clip, texts: list[str]) -> np.ndarray:
        read_texts.extend(texts)
        return real(clip, texts)

    monkeypatch.setattr(Clip, "encode_texts", listen)
    monkeypatch.setattr(tagging, "load_detector", lambda name, params, device: StubDetector())
    write_params(params({"tag.prompt": "there is a {}!"}))
    caption_a_picture(explain=False)
    assert read_texts[-len(LABELS) :] == [f"there is a {label}!" for label in LABELS]  # before them what the CLIP was tried with
