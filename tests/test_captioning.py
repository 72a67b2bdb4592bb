"""Captioning: what did not change is not captioned again, a kill costs a batch at most, and a setting may have values of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import captioning
from pipeline.captioning import Captioner, caption_settings
from pipeline.core import paths
from pipeline.core.artefacts import MANIFEST
from pipeline.core.files import digest_tree, read_json
from pipeline.features.encoders import Clip
from pipeline.features.retrieval import Index
from pipeline.features.tagging import Detection, tag_images
from pipeline.features.tags import embed_tags
from pipeline.language import decoders
from pipeline.needs.tags import Objects
from pipeline.needs.text import Text
from pipeline.systems import find_system
from pipeline.training import train_system
from tests.artefacts import CLIP, DETECTOR, LABELS, PROMPT, ToldDetector, edit_json, seal_again
from tests.tiny_systems import CPU, IMAGES, PARAMS, make_project, params

VALIDATION = {"settings.pictures.validation": {"test": "scenes", "support": "scenes", "split": "val"}}
BATCHES = {"in-domain": [3, 3, 2], "validation": [3, 1]}


class Killed(BaseException):
    """Stands for a kill: no code of ours may catch it."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Path:
    """A project whose systems are trained."""
    folder = tmp_path_factory.mktemp("captioning")
    make_project(folder, tiny_clip_folder, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in PARAMS["systems"]:
            train(name)
    return folder


@pytest.fixture
def inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the project as the current folder, to change."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")


def train(name: str, changes: dict[str, Any] | None = None) -> None:
    train_system(name, find_system(name, params(changes)), params(changes), CPU)


def caption(name: str, changes: dict[str, Any] | None = None) -> None:
    caption_settings(name, find_system(name, params(changes)), params(changes), CPU)


def captions_of(name: str, setting: str) -> dict[str, str]:
    return {entry["image_id"]: entry["caption"] for entry in read_json(paths.captions(name) / f"{setting}.json")}


def watch(patch: pytest.MonkeyPatch, killed_at: int | None = None) -> list[int]:
    """How many pictures each batch has that is captioned in what follows; the call of that number is killed."""
    sizes: list[int] = []
    real = Captioner.caption

    def counted(self, seen, *arguments):
        if len(sizes) == killed_at:
            raise Killed
        sizes.append(len(seen))
        return real(self, seen, *arguments)

    patch.setattr(Captioner, "caption", counted)
    return sizes


def killed(name: str, call: int) -> None:
    """Caption both settings, and die at the batch of that number."""
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, killed_at=call)
        with pytest.raises(Killed):
            caption(name, VALIDATION)


@pytest.mark.parametrize("name", PARAMS["systems"])
def test_every_picture_of_a_setting_is_captioned_in_the_order_of_its_table(inside, name):
    caption(name, VALIDATION)
    assert list(captions_of(name, "in-domain")) == [f"i{number}" for number in range(8)]
    assert list(captions_of(name, "validation")) == [f"i{number}" for number in range(8, IMAGES)]


@pytest.mark.parametrize(("name", "models", "supports", "indexes"), [("decap", 1, 1, 0), ("clipre", 0, 1, 1), ("raw", 1, 0, 0)])
def test_settings_share_a_model_and_sentences_and_an_index_is_built_only_where_one_is_searched(inside, monkeypatch, name, models, supports,
                                                                                               indexes):
    calls: list[str] = []
    for owner, function in ((decoders, "load"), (Text, "load"), (Index, "__init__")):
        def counted(*arguments, real=getattr(owner, function), label=f"{owner.__name__}.{function}"):  # noqa: B008
            calls.append(label)
            return real(*arguments)

        monkeypatch.setattr(owner, function, counted)
    caption(name, VALIDATION)
    assert calls.count("pipeline.language.decoders.load") == models
    assert calls.count("Text.load") == supports
    assert calls.count("Index.__init__") == indexes


def test_only_a_setting_that_is_added_is_captioned(inside, monkeypatch):
    caption("decap")
    before = (paths.captions("decap") / "in-domain.json").read_bytes()
    sizes = watch(monkeypatch)
    caption("decap", VALIDATION)
    assert sizes == BATCHES["validation"]
    assert (paths.captions("decap") / "in-domain.json").read_bytes() == before


def test_what_is_captioned_bit_by_bit_has_the_bytes_of_what_is_captioned_at_once(inside):
    caption("decap", VALIDATION)
    at_once = digest_tree(paths.captions("decap"))
    shutil.rmtree(paths.WORK)
    caption("decap")
    caption("decap", VALIDATION)
    assert digest_tree(paths.captions("decap")) == at_once


def test_a_setting_that_is_dropped_or_renamed_captions_nothing_and_leaves_no_file(inside, monkeypatch):
    caption("decap", VALIDATION)
    sizes = watch(monkeypatch)
    caption("decap", {"settings.pictures": {"chosen-by": VALIDATION["settings.pictures.validation"]}})
    assert sizes == []
    assert [file.name for file in paths.captions("decap").iterdir() if file.name != MANIFEST] == ["chosen-by.json"]
    caption("decap")
    assert sizes == BATCHES["in-domain"], "ledgers of settings that are gone must not pile up"


@pytest.mark.parametrize(("changes", "again"), [
    ({}, []),
    ({"captioning.beams": 1}, ["in-domain", "validation"]),
    ({"systems.decap.caption.temperature": 0.2}, ["in-domain", "validation"]),
    ({"settings.pictures.validation.captioning": {"max_new_tokens": 3}}, ["validation"]),
    ({"settings.pictures.in-domain.split": "val"}, []),  # what the other setting was
    ({"recipes.small.steps": 9}, []),  # as long as nobody trains
])
def test_a_change_captions_what_depends_on_it_again_and_nothing_else(inside, monkeypatch, changes, again):
    caption("decap", VALIDATION)
    sizes = watch(monkeypatch)
    caption("decap", {**VALIDATION, **changes})
    assert sizes == [size for setting in again for size in BATCHES[setting]]


def test_another_model_other_pictures_another_corpus_and_other_code_caption_again(inside, monkeypatch):
    caption("decap")
    sizes = watch(monkeypatch)
    train("decap", {"systems.decap.seed": 1})
    caption("decap", {"systems.decap.seed": 1})
    assert sizes == BATCHES["in-domain"]
    caption("decap", {"systems.decap.seed": 1})
    assert sizes == BATCHES["in-domain"]
    store = paths.image_features(CLIP, "scenes") / "zarr.json"
    store.write_text(store.read_text() + "\n")
    seal_again(store)
    caption("decap", {"systems.decap.seed": 1})
    assert sizes == BATCHES["in-domain"] * 2
    store = paths.text_features(CLIP, "scenes") / "zarr.json"
    store.write_text(store.read_text() + "\n")
    seal_again(store)
    caption("decap", {"systems.decap.seed": 1})
    assert sizes == BATCHES["in-domain"] * 3
    monkeypatch.setattr(captioning, "code_digest", lambda *modules: "changed")
    caption("decap", {"systems.decap.seed": 1})
    assert sizes == BATCHES["in-domain"] * 4


@pytest.mark.parametrize("name", ["decap", "syntic", "clipre"])
@pytest.mark.parametrize("call", [0, 1, 3, 4])
def test_a_killed_captioning_goes_on_where_it_was_and_ends_in_the_bytes_of_an_uninterrupted_one(inside, monkeypatch, name, call):
    caption(name, VALIDATION)
    uninterrupted = digest_tree(paths.captions(name))
    shutil.rmtree(paths.WORK)
    shutil.rmtree(paths.captions(name))
    killed(name, call)
    assert not paths.captions(name).exists()
    sizes = watch(monkeypatch)
    caption(name, VALIDATION)
    assert sizes == [*BATCHES["in-domain"], *BATCHES["validation"]][call:]
    assert digest_tree(paths.captions(name)) == uninterrupted


def test_a_kill_while_a_setting_is_added_leaves_the_older_captions(inside, monkeypatch):
    caption("decap")
    before = digest_tree(paths.captions("decap"))
    killed("decap", 1)
    assert digest_tree(paths.captions("decap")) == before
    sizes = watch(monkeypatch)
    caption("decap", VALIDATION)
    assert sizes == BATCHES["validation"][1:]


def test_a_settings_own_captioning_values_are_its_own_alone(inside):
    own = {"beams": 1, "max_new_tokens": 2}
    caption("decap", {"settings.pictures.short": {"test": "scenes", "support": "scenes", "captioning": own}})
    short, usual = captions_of("decap", "short"), captions_of("decap", "in-domain")
    caption("decap", {"captioning": {**PARAMS["captioning"], **own}})
    assert short == captions_of("decap", "in-domain")
    caption("decap")
    assert usual == captions_of("decap", "in-domain")
    assert short != usual


def test_a_wrong_captioning_value_of_a_setting_is_named(inside, user_error):
    assert "beam is not a parameter; did you mean 'beams'?" in user_error(caption, "decap", {
        "settings.pictures.in-domain.captioning": {"beam": 1}})


def look_again(name: str, clip: Clip, found: list[list[Detection]], digest: str) -> None:
    """What another detector found in the pictures of the setting."""
    detector = ToldDetector(found)
    detector.digest = digest
    tag_images(name, detector, "scenes")
    embed_tags(CLIP, clip, name, "scenes", PROMPT)


def test_a_settings_own_detector_tells_what_it_saw_in_place_of_the_one_in_training(inside, tiny_clip, monkeypatch):
    look_again("other", tiny_clip, [[Detection("tree", 0.9, (0.0, 0.0, 1.0, 1.0))]] * IMAGES, "e" * 64)
    told: list[list[str]] = []
    real = Captioner.caption

    def listen(self, seen, *arguments):
        told.extend([LABELS[i] for i in row if i >= 0] for row in seen.of(Objects).ids.tolist())
        return real(self, seen, *arguments)

    monkeypatch.setattr(Captioner, "caption", listen)
    caption("syntic", {"settings.pictures": {"other": {"test": "scenes", "support": "scenes", "detector": "other"}}})
    assert told == [["tree"]] * 8
    told.clear()
    caption("syntic")
    assert told == [[], [], *[["cat", "sun"]] * 3, *[["dog", "sun"]] * 3]  # brightness 0, 20, 40 and so on


def test_another_detectors_tags_are_refused_where_nobody_asked_for_them(inside, tiny_clip, user_error):
    look_again(DETECTOR, tiny_clip, [[]] * IMAGES, "e" * 64)
    assert f"was made with another detector {DETECTOR} than {paths.model('syntic')}" in user_error(caption, "syntic")
    look_again(DETECTOR, tiny_clip, [[]] * IMAGES, "d" * 64)
    caption("syntic")


def test_a_system_whose_model_is_missing_or_of_other_parameters_is_told_what_to_run(inside, user_error):
    assert "data/models/syntic was trained with other parameters than params.yaml holds for syntic: run `dvc repro`" in user_error(
        caption, "syntic", {"systems.syntic.train.optimize": False})
    shutil.rmtree(paths.model("syntic"))
    assert "data/models/syntic is missing: run `dvc repro`" in user_error(caption, "syntic")


def test_a_model_of_another_clip_is_refused(inside, user_error):
    file = paths.model("decap") / "system.json"
    edit_json(file, models={f"CLIP {CLIP}": "0" * 64})
    assert f"was made with another CLIP {CLIP} than {paths.model('decap')}" in user_error(caption, "decap")
