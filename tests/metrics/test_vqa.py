"""VQA's accuracy, rule by rule, and against its definition."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pipeline.metrics.vqa import accuracy, normalise


def left_out_one_by_one(answer: str, answers: list[str]) -> float:
    """The definition, person by person."""
    found = []
    for person in range(len(answers)):
        others = answers[:person] + answers[person + 1 :]
        found.append(min(1.0, sum(other == answer for other in others) / 3))
    return sum(found) / len(found)


@pytest.mark.parametrize(("answer", "expected"), [
    (" red\n", "red"), ("red\tcar", "red car"), ("red\ncar", "red car"), ("\u00a0red ", "red"), ("", ""), ("   ", ""),
])
def test_line_ends_tabs_and_outer_whitespace_count_for_nothing(answer, expected):
    assert normalise(answer) == expected


@pytest.mark.parametrize("mark", list(";/[]\"{}()=+\\_-><@`,?!"))
def test_a_mark_between_letters_parts_two_words(mark):
    assert normalise(f"left{mark}right") == "left right"


@pytest.mark.parametrize("mark", list(";/[]\"{}()=+\\_-><@`,?!"))
def test_a_mark_beside_a_space_vanishes_wherever_it_stands(mark):
    assert normalise(f"left{mark} right") == normalise(f"left {mark}right") == "left right"
    assert normalise(f"a1{mark}b2{mark} c3") == "a1b2 c3"


def test_each_mark_is_looked_at_by_itself():
    assert normalise("black/white, grey") == "black white grey"


def test_a_mark_at_the_end_of_an_answer_goes():
    assert normalise("yes!") == normalise("(yes)") == "yes"


def test_a_comma_in_a_number_goes_and_no_mark_parts_words_any_more():
    assert normalise("1,000") == "1000"
    assert normalise("1,000 left/right") == "1000 leftright"
    assert normalise("1,x") == "1 x"


@pytest.mark.parametrize(("answer", "expected"), [
    ("yes.", "yes"), ("u.s.a", "usa"), ("3.50", "3.50"), ("3. 50", "3 50"), (".5", ".5"), ("no.5", "no.5"), ("5.", "5"), ("...", ""),
])
def test_a_period_goes_unless_a_digit_follows(answer, expected):
    assert normalise(answer) == expected


def test_of_very_many_periods_the_published_code_removes_the_first_32():
    assert normalise("x" + 40 * ".") == "x" + 8 * "."


def test_colons_and_apostrophes_stay():
    assert normalise("10:30") == "10:30"
    assert normalise("man's") == "man's"


def test_capitals_count_for_nothing():
    assert normalise("Red CAR") == "red car"


@pytest.mark.parametrize(("word", "digits"), [
    ("none", "0"), ("zero", "0"), ("one", "1"), ("two", "2"), ("three", "3"), ("four", "4"), ("five", "5"), ("six", "6"), ("Seven", "7"),
    ("eight", "8"), ("nine", "9"), ("ten", "10"), ("eleven", "eleven"), ("someone", "someone"),
])
def test_words_for_numbers_up_to_ten_become_digits(word, digits):
    assert normalise(word) == digits
    assert normalise(f"{word} cats") == f"{digits} cats"


def test_articles_are_left_out_as_whole_words():
    assert normalise("A cat and the dog, an ant") == "cat and dog ant"
    assert normalise("the") == ""
    assert normalise("theatre") == "theatre"


@pytest.mark.parametrize(("answer", "expected"), [
    ("dont", "don't"), ("Its 5 oclock", "its 5 o'clock"), ("couldnt've", "couldn't've"), ("couldn'tve", "couldn't've"),
    ("ow's'at", "'ow's'at"), ("'ow'sat", "'ow's'at"), ("y'all'dve", "y'all'd've"), ("yall'll", "y'all'll"), ("twas", "'twas"),
    ("somebody'd", "somebodyd"), ("don't", "don't"), ("im", "im"), ("cannot", "cannot"),
])
def test_contractions_get_their_apostrophe(answer, expected):
    assert normalise(answer) == expected


def test_words_end_up_with_single_spaces_between_them():
    assert normalise("red   car") == normalise("red \n car") == "red car"


@pytest.mark.parametrize(("people", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (7, 1.0), (10, 1.0)])
def test_as_many_of_ten_people_as_say_the_same_are_worth_what_was_published(people, expected):
    assert accuracy("cat", ["cat"] * people + ["dog"] * (10 - people)) == expected


@pytest.mark.parametrize("people", range(1, 13))
def test_any_number_of_people_is_scored_as_defined(people):
    for same in range(people + 1):
        answers = ["cat"] * same + ["dog"] * (people - same)
        assert accuracy("cat", answers) == pytest.approx(left_out_one_by_one("cat", answers), abs=1e-12)


def test_answers_of_any_mixture_are_scored_as_defined():
    rng = np.random.default_rng(0)
    for _ in range(200):
        answers = rng.choice(["yes", "no", "2", "cat"], size=10).tolist()
        for answer in ("yes", "no", "2", "dog"):
            assert accuracy(answer, answers) == pytest.approx(left_out_one_by_one(answer, answers), abs=1e-12)


def test_people_and_systems_are_normalised_alike():
    people = ["two", "2", "Two.", "the 2", "a two", *["three"] * 5]
    assert accuracy("Two!", people) == accuracy("2", people) == 1.0


def test_where_all_people_say_the_same_to_the_letter_an_answer_must_too():
    assert accuracy("two", ["two"] * 10) == accuracy(" two\n", ["two\t"] * 10) == 1.0
    for answer in ("2", "Two", "two.", "a two"):
        assert accuracy(answer, ["two"] * 10) == 0.0
        assert accuracy(answer, [*["two"] * 9, "three"]) == 1.0


def test_the_order_of_people_does_not_matter_and_more_who_agree_never_hurt():
    for answers in product(["cat", "a cat", "dog", "bird"], repeat=5):
        score = accuracy("cat", answers)
        assert score == accuracy("cat", answers[::-1])
        for person in range(5):
            assert accuracy("cat", [*answers[:person], "cat", *answers[person + 1 :]]) >= score


def test_nobody_or_everybody_agreeing_are_the_ends_of_the_scale():
    rng = np.random.default_rng(1)
    for _ in range(100):
        answers = rng.choice(["red", "blue", "green", "the red"], size=10).tolist()
        assert 0 <= accuracy("red", answers) <= 1
        assert accuracy("purple", answers) == 0
