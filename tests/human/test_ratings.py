"""Raters' files: whose captions are preferred, how far raters agree, and what is refused."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import pytest

from pipeline.core.files import read_json, write_json
from pipeline.human.ratings import score, table
from tests.human.sheets import write_answers, write_key


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path / "key.json", "xxyy")


def test_sides_are_unblinded_and_shares_add_up(key, tmp_path):
    """x is A of the first two pictures and B of the others: "aabn" are three for x... and one for nobody."""
    (distinctive, informative), _ = score(key, [write_answers(tmp_path / "anna.json", "aabn", "bbaa")])
    assert distinctive.shares == {"x": 0.75, "y": 0.0, "neither": 0.25}
    assert distinctive.preferred == 0.875
    assert (distinctive.criterion, distinctive.answers) == ("distinctive", 4)
    assert informative.shares == {"x": 0.0, "y": 1.0, "neither": 0.0}


def test_the_preference_is_a_mean_over_pictures_not_over_answers(key, tmp_path):
    """Three raters say x of the first picture, one says y of the second: each picture counts alike."""
    files = [write_answers(tmp_path / f"{name}.json", answers) for name, answers in (("a", "ab  "), ("b", "a   "), ("c", "a   "))]
    (found, _), _ = score(key, files)
    assert found.preferred == 0.5
    assert found.shares["x"] == 0.75


def test_an_interval_is_over_pictures_and_holds_the_mean(key, tmp_path):
    (found, _), _ = score(key, [write_answers(tmp_path / "a.json", "abbn")])
    assert 0 <= found.low < found.preferred < found.high <= 1
    assert found == score(key, [tmp_path / "a.json"])[0][0]  # the same again


def test_agreement_is_krippendorffs_alpha(key, tmp_path):
    """By hand: 4 pictures, 2 raters, one disagreement. Coincidences aa 2, bb 4, ab 1, ba 1, so D_o = 2/8, D_e = 2 * 3 * 5 / (8 * 7)."""
    files = [write_answers(tmp_path / "a.json", "aaaa"), write_answers(tmp_path / "b.json", "abaa")]
    (found, _), _ = score(key, files)
    assert found.alpha == pytest.approx(1 - (2 / 8) / (2 * 3 * 5 / (8 * 7)))


def test_raters_who_agree_wholly_have_an_alpha_of_one_and_a_single_rater_none(key, tmp_path):
    same = [write_answers(tmp_path / "a.json", "abab"), write_answers(tmp_path / "b.json", "abab")]
    assert score(key, same)[0][0].alpha == 1
    assert isnan(score(key, same[:1])[0][0].alpha)
    assert "| — |" in table(*score(key, same[:1]))


def test_the_table_names_the_systems_with_digits_and_interval(key, tmp_path):
    lines = table(*score(key, [write_answers(tmp_path / "a.json", "aabn")])).splitlines()
    assert lines[0] == "| criterion | answers | x | y | neither | x preferred [95 %] | Krippendorff's alpha |"
    assert lines[2].startswith("| distinctive | 4 | 0.750 | 0.000 | 0.250 | 0.875 [")


@pytest.mark.parametrize(("changes", "said"), [
    ({"sheet": "another"}, "is of another sheet (another; the key is of 5eed5eed5eed5eed)"),
    ({"rater": "somebody else"}, "was changed after it was saved"),
    ({"answers": {"1": {"distinctive": "b"}}}, "was changed after it was saved"),
    ({"check": None}, "was changed after it was saved"),
    ({"rater": "\ud800"}, "was changed after it was saved"),
    ({"answers": {"1": {"distinctive": "c"}}}, "holds no answers to a sheet"),
    ({"answers": {"1": {"nicer": "a"}}}, "holds no answers to a sheet"),
    ({"answers": ["a"]}, "holds no answers to a sheet"),
    ({"copy": 3}, "holds no answers to a sheet"),
])
def test_a_file_of_another_sheet_or_an_edited_one_is_refused_by_name(key, tmp_path, user_error, changes, said):
    file = write_answers(tmp_path / "anna.json", "aabn", **changes)
    assert (text := user_error(score, key, [file])).startswith(str(file))
    assert said in text


def test_the_same_answers_twice_are_refused_under_another_name_too(key, tmp_path, user_error):
    first = write_answers(tmp_path / "anna.json", "aabn")
    second = tmp_path / "anna (1).json"
    second.write_bytes(first.read_bytes())
    assert "the same copy of the page" in user_error(score, key, [first, second])
    again = write_answers(tmp_path / "other.json", "bbbb", called="anna")
    assert "rater 'anna'" in user_error(score, key, [first, again])


@pytest.mark.parametrize("content", ["", "[]", "{}", "{\"sheet\": 1}", "no JSON"])
def test_what_is_no_key_and_no_answers_is_named_in_one_line(key, tmp_path, user_error, content):
    odd = tmp_path / "odd.json"
    odd.write_text(content)
    assert str(odd) in user_error(score, key, [odd])
    assert str(odd) in user_error(score, odd, [write_answers(tmp_path / "a.json", "aaaa")])


def test_a_sheet_that_nobody_answered_says_so(key, tmp_path, user_error):
    assert "answers nothing" in user_error(score, key, [write_answers(tmp_path / "a.json", "    ")])
    assert "no answers" in user_error(score, key, [])


@pytest.mark.parametrize("changes", [
    {"items": [{"id": "1", "a": "z"}]}, {"items": [{"id": "1", "a": "x"}, {"id": "1", "a": "y"}]}, {"items": []},
    {"systems": ["x", "x"]}, {"systems": [1, 2], "items": [{"id": "1", "a": 1}]}, {"sheet": 5},
])
def test_a_key_that_says_nothing_clear_is_no_key(key, tmp_path, user_error, changes):
    write_json(key, {**read_json(key), **changes})
    assert "is no key of a sheet" in user_error(score, key, [write_answers(tmp_path / "a.json", "aaaa")])
