"""Names from params.yaml and command lines: one rule, wherever they turn up."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core import paths
from pipeline.core.code import ROOT
from pipeline.core.names import PLACES, check_names, checked
from tests.hostile import NAMES

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())


@pytest.mark.parametrize("name", ["knight", "knight-k10", "scenes_2", "ViT-B-32", "7", "a" * 64])
def test_a_plain_name_passes(name: str) -> None:
    assert checked(name) == name


@pytest.mark.parametrize("name", [*NAMES, None, 1, True, 1.5, ["a"]])
def test_a_name_that_could_mean_something_else_is_refused_in_one_line(name: object, user_error) -> None:
    message = user_error(checked, name)
    assert "cannot be a name" in message
    assert len(message) < 400


@pytest.mark.parametrize("place", [
    lambda name: paths.image_features("c", name), lambda name: paths.image_features(name, "d"), lambda name: paths.tags(name, "d"),
    lambda name: paths.tags("t", name), lambda name: paths.tagged("c", name, "d"), lambda name: paths.tagged(name, "t", "d"),
    lambda name: paths.tagged("c", "t", name), lambda name: paths.pseudo_features("c", name, False, True), paths.foundation,
    paths.raw, paths.image_table, paths.corpus, paths.corpus_table, paths.references_table, paths.questions_table,
    lambda name: paths.text_features(name, "d"),
    lambda name: paths.neighbours("c", name), lambda name: paths.reference_features("c", name), lambda name: paths.refined("c", name),
    lambda name: paths.projections(name, "d"), paths.model, paths.curve, paths.captions, lambda name: paths.captions_file("s", name),
    lambda name: paths.regions(name, "d"), lambda name: paths.regions("c", name), lambda name: paths.frames(name, "d"),
    lambda name: paths.frames("c", name), paths.answers, paths.answer_scores, paths.answer_metrics,
    paths.metrics, paths.scores, lambda name: paths.scores_file("s", name), paths.sweep, paths.trained,
])
def test_no_path_is_built_from_such_a_name(place: Callable[[str], Path], user_error) -> None:
    for name in NAMES:
        user_error(place, name)
    assert place("fine").is_relative_to(paths.DATA) or place("fine").is_relative_to(paths.WORK)


def expansions(stage: dict[str, Any]) -> set[str]:
    """What DVC puts into a stage's commands and paths, in the form of `PLACES` without `/`."""
    sources = {"item" if "matrix" not in stage else f"item.{key}": value[2:-1] for key, value in
               (stage.get("matrix") or {"": stage.get("foreach", "${}")}).items()}
    found = {f"{source}.*" if isinstance(at(source), dict) else f"{source}[]" for source in sources.values() if source}
    body = stage.get("do", stage)
    for text in re.findall(r"\$\{([^}]*)\}", str([body.get(part) for part in ("cmd", "deps", "outs", "metrics", "plots")])):
        if text not in ("key", "item") and text not in sources:
            found.add(text.replace("item.", f"{sources['item']}.*.") if text.startswith("item.") else text)
    return found


def at(key: str) -> Any:
    value = PARAMS
    for part in key.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("stage", STAGES)
def test_every_name_that_dvc_expands_is_checked_before_it_acts(stage: str) -> None:
    assert expansions(STAGES[stage]) <= {place.rstrip("/") for place in PLACES}
    if stage != "code":
        body = STAGES[stage].get("do", STAGES[stage])
        assert any(dep.startswith("data/code/") for dep in body["deps"]), "it would run before the names are checked"
        assert "${" not in re.sub(r"'\$\{[^}']*\}'", "", body["cmd"]), "a name stands in the command without quotes"


def with_name(place: str, name: object) -> dict[str, Any]:
    """Parameters that hold the name at a place."""
    *outer, last = place.split(".")
    held = [name] if last.endswith("[]") else f"fine/{name}" if last.endswith("/") else name
    value: Any = {name: {}} if last == "*" else {last.rstrip("[]/"): held}
    for part in reversed(outer):
        value = {"fine" if part == "*" else part: value}
    return value


@pytest.mark.parametrize("place", PLACES)
def test_a_bad_name_is_found_in_every_place(place: str, user_error) -> None:
    check_names(with_name(place, "fine"))
    for name in NAMES:
        assert user_error(check_names, with_name(place, name)).startswith(f"params.yaml: {place.split('.')[0]}")


def test_sections_that_are_not_there_are_left_to_their_readers() -> None:
    for params in ({}, dict.fromkeys({place.split(".")[0] for place in PLACES}), {"systems": {"knight": None}}):
        check_names(params)


@pytest.mark.parametrize("place", PLACES)
def test_names_that_are_held_in_another_way_are_refused(place: str, user_error) -> None:
    """DVC makes paths of a mapping's keys where a list belongs."""
    section, *rest = place.split(".")
    for value in ([], "text", 3):
        assert user_error(check_names, {section: value}).startswith(f"params.yaml: {section} is {value!r}, expected a mapping")
    if place.endswith("[]"):
        for value in ({"../x": 1}, "../x", 3):
            inner: Any = value
            for part in reversed(rest):
                inner = {part.rstrip("[]"): inner}
            assert "expected a list" in user_error(check_names, {section: inner})


def test_the_names_of_the_default_and_the_presets_pass() -> None:
    for file in (ROOT / "params.yaml", *(ROOT / "presets").iterdir()):
        check_names(YAML(typ="safe").load(file.read_text()))
