"""Reading params.yaml: a wrong key or value is one line that says what to correct."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from dvc.utils.serialize import modify_yaml

from pipeline.core.code import ROOT
from pipeline.core.params import StrictParams, check, entries, load, pick, suggest


@dataclass(frozen=True)
class Example(StrictParams):
    steps: int
    learning_rate: float = 1e-3
    name: str | None = None
    sizes: tuple[int, ...] = ()
    fixed: bool = False


def test_values_arrive_as_the_classes_fields_and_defaults_fill_the_rest():
    assert check(Example, {"steps": 3, "name": "a"}, "recipes.small") == Example(3, 1e-3, "a")


def test_a_list_may_stand_for_a_tuple_and_a_whole_number_for_a_real_one():
    example = check(Example, {"steps": 3, "sizes": [1, 2], "learning_rate": 1}, "recipes.small")
    assert example.sizes == (1, 2)
    assert example.learning_rate == 1.0


def test_a_misspelt_key_names_the_nearest_right_one(user_error):
    message = user_error(check, Example, {"steps": 3, "learning_rat": 1.0}, "recipes.small")
    assert "recipes.small.learning_rat is not a parameter" in message
    assert "did you mean 'learning_rate'?" in message
    assert "available: fixed, learning_rate, name, sizes, steps" in message


@pytest.mark.parametrize(("key", "value"), [
    ("steps", "many"), ("steps", "8"), ("steps", 1.5), ("steps", True), ("learning_rate", "1e-3"), ("fixed", 1), ("name", 3),
    ("steps", None),
    ("steps", [1]), ("steps", {"a": 1}),
])
def test_a_value_of_the_wrong_type_is_named_with_its_key(user_error, key, value):
    message = user_error(check, Example, {"steps": 3, key: value}, "recipes.small")
    assert f"params.yaml: recipes.small.{key} is {value!r}" in message


def test_a_wrong_member_of_a_list_is_named_by_its_place(user_error):
    assert "recipes.small.sizes.1 is 'x'" in user_error(check, Example, {"steps": 3, "sizes": [1, "x"]}, "recipes.small")


@pytest.mark.parametrize("value", [{}, None, {"name": "a"}])
def test_a_missing_key_is_named(user_error, value):
    assert "recipes.small.steps is missing" in user_error(check, Example, value, "recipes.small")


@pytest.mark.parametrize("value", [[1, 2], "steps", 3])
def test_something_else_than_a_mapping_is_refused_where_it_stands(user_error, value):
    assert f"params.yaml: recipes.small is {value!r}" in user_error(check, Example, value, "recipes.small")


def test_a_date_where_a_number_belongs_is_one_line(tmp_path, user_error):
    (tmp_path / "params.yaml").write_text("steps: 2024-01-31\n")
    assert "recipes.small" in user_error(check, Example, load(tmp_path / "params.yaml"), "recipes.small")


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("1E3", 1e3), ("0.001", 1e-3), ("-5", -5), ("no", "no"), ("true", True)])
def test_a_number_is_read_as_the_scientist_and_dvc_mean_it(tmp_path, text, value):
    (tmp_path / "params.yaml").write_text(f"x: {text}\n")
    found = load(tmp_path / "params.yaml")["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "word", "12"])
def test_a_file_that_holds_no_mapping_is_refused(tmp_path, user_error, text):
    (tmp_path / "params.yaml").write_text(text)
    assert "must hold a mapping" in user_error(load, tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["a: [1, 2\n", "a: 1\n b: 2\n", "a: 1\na: 2\n", "\tx: 1\n"])
def test_broken_yaml_is_one_line_that_names_the_file(tmp_path, user_error, text):
    (tmp_path / "params.yaml").write_text(text)
    assert "params.yaml cannot be read" in user_error(load, tmp_path / "params.yaml")


@pytest.mark.parametrize("value", [True, 7, "text", [], [{}]])
def test_a_section_that_is_no_mapping_is_named(user_error, value):
    assert entries({}, "systems") == entries({"systems": None}, "systems") == {}
    assert f"systems is {value!r}, expected a mapping" in user_error(entries, {"systems": value}, "systems")


@pytest.mark.parametrize("text", ["a: 2024-02-30", "a: !!float abc", "a: !!int x", "a: !!bool x", "a: " + "9" * 5000, "a: " + "[" * 3000])
def test_a_value_that_yaml_cannot_make_is_one_line(tmp_path, user_error, text):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    assert f"{file} cannot be read" in user_error(load, file)


def test_a_value_that_holds_itself_is_one_line(tmp_path, user_error):
    file = tmp_path / "params.yaml"
    file.write_text("a: &x {steps: [*x]}")
    assert "here cannot be read" in user_error(check, Example, load(file)["a"], "here")


def test_a_missing_file_says_where_to_stand(tmp_path, monkeypatch, user_error):
    monkeypatch.chdir(tmp_path)
    assert user_error(load) == "params.yaml is missing: run this from the project's root"
    assert "elsewhere.yaml" in user_error(load, Path("elsewhere.yaml"))


def test_a_dotted_key_is_followed_through_the_groups(user_error):
    params = {"systems": {"text": {"knight": {"seed": 0}}}, "empty": None}
    assert pick(params, "systems.text.knight") == {"seed": 0}
    message = user_error(pick, params, "systems.text.nkight")
    assert "systems.text has no 'nkight'; did you mean 'knight'?" in message
    assert "params.yaml has no 'system'; did you mean 'systems'?" in user_error(pick, params, "system.text")
    assert "available: nothing" in user_error(pick, params, "empty.anything")


def test_an_unknown_word_among_hundreds_is_answered_with_the_near_one_and_some_of_the_others():
    known = [f"{letter}{number}" for letter in "ab" for number in range(100)]
    line = suggest("b777", known)
    assert line.startswith("; did you mean 'b77'? available: a0, a1, a10,")
    assert line.endswith(", ...")
    assert len(line.split(", ")) == 21
    assert suggest("b777", known[:20]).count("...") == 0
    assert suggest("xyz", ["a", 3]) == "; available: 3, a"
    assert suggest("xyz", []) == "; available: nothing"


@pytest.mark.parametrize("file", [ROOT / "params.yaml", *sorted((ROOT / "presets").iterdir())], ids=lambda file: file.stem)
def test_an_experiment_with_a_value_of_its_own_changes_one_line(file: Path, tmp_path: Path) -> None:
    ours = tmp_path / "params.yaml"
    shutil.copyfile(file, ours)
    with modify_yaml(str(ours)) as params:  # as `dvc exp run -S` does
        edited = {"maccap-published": ("maccap", "queries"), "self-supervised": ("self-supervised", "labelled")}
        system, key = edited.get(file.stem, ("knight", "k"))
        params["systems"][system]["train"][key] = 123456
    before, after = file.read_text().splitlines(), ours.read_text().splitlines()
    assert len(before) == len(after)
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 1
    assert f"{key}: 123456" in changed[0]
