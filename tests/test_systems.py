"""Systems and settings: what is wrong in params.yaml is told before anything runs, and a system is tested where that means something."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.core.params import load
from pipeline.methods.base import Method
from pipeline.systems import KINDS, Setting, System, corpora_of, find_system, make_method, settings_of
from tests.project import ROOT

SYSTEM = {"method": "knight", "clip": "micro", "corpus": "scenes", "starts_from": "foundation/micro", "learns_from": "micro/text",
          "learns_with": "micro/text", "looks_at": "micro/image", "looks_up": "micro/text", "decoder": "small", "recipe": "small",
          "suite": "pictures"}
SYNTIC = {"method": "syntic", "learns_from": "micro/synthetic", "learns_with": "micro/tagged", "looks_at": "micro/tagged"}
SETTINGS = {
    "in-domain": {"test": "scenes", "support": "scenes"}, "target-support": {"test": "scenes", "support": "album"},
    "cross-domain": {"test": "album", "support": "scenes"}, "cross-domain-tt": {"test": "album", "support": "album"},
    "greedy": {"test": "album", "support": "album", "captioning": {"beams": 1}},
    "surer": {"test": "album", "support": "scenes", "detector": "sure"},
    "validation": {"test": "scenes", "support": "album", "split": "val"},
}
APART = ["in-domain", "cross-domain", "greedy", "surer", "validation"]  # the first of those that differ by their support only


def params(**changes: Any) -> dict[str, Any]:
    return {"systems": {"mine": {**SYSTEM, **changes}}, "settings": {"pictures": SETTINGS, "others": {"alone": SETTINGS["greedy"]}}}


def found(**changes: Any) -> tuple[System, Method]:
    system = find_system("mine", params(**changes))
    return system, make_method("mine", system)


@pytest.mark.parametrize("method", ["knight", "decap", "clipre", "syntic"])
def test_a_method_that_looks_sentences_up_is_tested_with_every_support(method):
    settings = settings_of(*found(**(SYNTIC if method == "syntic" else {"method": method})), params())
    assert list(settings) == list(SETTINGS)
    assert settings["greedy"] == Setting("album", "album", captioning={"beams": 1})


@pytest.mark.parametrize(("method", "changes"), [
    ("capdec", {}), ("raw", {"starts_from": "models/decap", "recipe": "none"}),
    ("syntic", {**SYNTIC, "train": {"project": False}}),
])
def test_a_method_that_looks_nothing_up_is_tested_once_where_settings_differ_by_their_support_only(method, changes):
    assert list(settings_of(*found(**{"method": method, **changes}), params())) == APART


def test_a_system_knows_the_sentences_that_it_learnt_from_and_those_that_it_looks_up():
    own, target = Setting("album", "scenes"), Setting("album", "album")
    assert [corpora_of(*found(), setting) for setting in (own, target)] == [("scenes",), ("scenes", "album")]
    assert corpora_of(*found(method="capdec"), target) == ("scenes",)


def test_a_system_is_tested_in_the_settings_of_its_own_suite():
    assert list(settings_of(*found(suite="others"), params())) == ["alone"]


def test_an_unknown_suite_is_answered_with_the_nearest_one(user_error):
    assert "settings has no 'picture'; did you mean 'pictures'?" in user_error(settings_of, *found(suite="picture"), params())


def test_an_unknown_system_is_answered_with_the_nearest_one(user_error):
    assert "there is no system 'min'; did you mean 'mine'?" in user_error(find_system, "min", params())


@pytest.mark.parametrize(("changes", "named"), [
    ({"learns_from": "micro/image", "learns_with": "micro/image"},
     "systems.mine.learns_with is 'micro/image', which holds no Text: name text there, or in learns_from"),
    ({"looks_at": "micro/text"},
     "systems.mine.looks_at is 'micro/text', which holds no Images: name image or frames or regions or tagged there"),
    ({"looks_up": "micro/image"}, "systems.mine.looks_up is 'micro/image', which holds no Text: name text there"),
    ({**SYNTIC, "learns_from": "micro/text"}, "holds no PseudoFeatures: name synthetic there, or in learns_from"),
    ({**SYNTIC, "learns_with": "micro/text"}, "learns_with is 'micro/text', which holds no Objects: name tagged there, or in learns_from"),
    ({**SYNTIC, "looks_at": "micro/image"}, "looks_at is 'micro/image', which holds no Objects: name tagged there"),
])
def test_a_slot_that_does_not_hold_what_the_method_needs_is_answered_with_the_kinds_that_do(user_error, changes, named):
    assert named in user_error(found, **changes)


@pytest.mark.parametrize("changes", [
    {"method": "capdec", "looks_up": "other/image"}, {"method": "clipre", "learns_from": "micro/tagged"},
    {"method": "raw", "learns_from": "micro/image", "looks_up": "micro/tagged"}, {"looks_up": "other/text"},
    {**SYNTIC, "learns_from": "micro/tagged", "learns_with": "micro/synthetic"}, {"looks_at": "micro/tagged"},
    {**SYNTIC, "learns_with": "micro/text", "train": {"objects": False}}, {"learns_from": "micro/image"},
])
def test_a_slot_that_is_not_used_may_hold_anything_and_a_used_one_whatever_fits(changes):
    found(**changes)


@pytest.mark.parametrize(("changes", "named"), [
    ({"learns_from": "micro"}, "learns_from is 'micro', expected two names with a slash between them"),
    ({"looks_at": "micro/image/scenes"}, "params.yaml: looks_at: 'image/scenes' cannot be a name"),
    ({"starts_from": "../decap"}, "params.yaml: starts_from: '..' cannot be a name"),
    ({"starts_from": "models/.."}, "params.yaml: starts_from: '..' cannot be a name"),
    ({"looks_at": "micro/pictures"}, f"the second name must be one of {', '.join(KINDS)}"),
    ({"learns_from": "judge/text"}, "learns_from is 'judge/text', but the system's clip is 'micro'"),
    ({"learns_with": "judge/text"}, "learns_with is 'judge/text', but the system's clip is 'micro'"),
    ({"looks_at": "judge/image"}, "looks_at is 'judge/image', but the system's clip is 'micro'"),
    ({"start_from": "models/decap"}, "systems.mine.start_from is not a parameter; did you mean 'starts_from'"),
])
def test_a_slot_that_names_no_features_of_the_systems_clip_is_refused(user_error, changes, named):
    assert named in user_error(found, **changes)


def test_a_system_without_a_slot_is_told_which_one(user_error):
    whole = params()
    del whole["systems"]["mine"]["looks_up"]
    assert "systems.mine.looks_up is missing" in user_error(find_system, "mine", whole)


@pytest.mark.parametrize("file", [ROOT / "params.yaml", *sorted((ROOT / "presets").iterdir())], ids=lambda file: file.stem)
def test_every_system_that_is_shipped_fits_its_method_and_its_suite(file):
    shipped = load(file)
    for name in shipped["systems"]:
        system = find_system(name, shipped)
        names = list(shipped["settings"][system.suite])
        assert list(settings_of(system, make_method(name, system), shipped))[:1] == names[:1]
