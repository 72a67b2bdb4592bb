"""Motions that captions name, against what things do: cases by hand."""

from __future__ import annotations

import pytest

from pipeline.metrics.chair import Vocabulary
from pipeline.metrics.motion import MotionWords, motions

VOCABULARY = Vocabulary({"man": ["man", "person"], "woman": ["woman", "person"], "cat": ["cat", "kitten"], "tree": ["tree"],
                         "ball": ["ball"]}, {"red": ["red"]}, [])
LEFT, RIGHT, UP, FAR = "moves to the left", "moves to the right", "rises", "goes away"
WORDS = MotionWords({LEFT: [LEFT, "walks to the left"], RIGHT: [RIGHT, "rolls to the right"], UP: [UP, "goes up"],
                     FAR: [FAR, "goes"]}, VOCABULARY)


def scored(caption: str, *done: tuple[str, str]) -> tuple[float, float, float]:
    """MotionCorrect, and how many motions are named of what is there, and right."""
    truth = motions([caption], [[(name, frozenset(filter(None, [motion]))) for name, motion in done]], WORDS)
    correct, moved, right = (float(truth.per_image[key][0]) for key in ("MotionCorrect", "moved", "moved_right"))
    assert truth.corpus == ({"MotionAccuracy": right / moved} if moved else {})
    return correct, moved, right


@pytest.mark.parametrize(("caption", "done", "expected"), [
    ("a cat walks to the left", [("cat", LEFT)], (1, 1, 1)),
    ("a cat walks to the left", [("cat", RIGHT)], (0, 1, 0)),
    ("a cat walks to the left", [("cat", ""), ("ball", LEFT)], (0, 1, 0)),  # another thing does
    ("a cat near a ball rolls to the right", [("cat", ""), ("ball", RIGHT)], (1, 1, 1)),  # the last one before
    ("a cat near a ball rolls to the right", [("cat", RIGHT), ("ball", "")], (0, 1, 0)),
    ("a kitten in red goes up near a tree", [("cat", UP), ("tree", "")], (1, 1, 1)),  # not the one behind
    ("a cat walks to the left", [("cat", ""), ("cat", LEFT)], (1, 1, 1)),  # one of two
    ("a person walks to the left", [("woman", LEFT)], (1, 1, 1)),
    ("a person walks to the left", [("man", LEFT), ("woman", "")], (1, 1, 1)),
    ("a person walks to the left", [("man", ""), ("woman", RIGHT), ("cat", LEFT)], (0, 1, 0)),
    ("a woman walks to the left", [("man", LEFT), ("woman", "")], (0, 1, 0)),
    ("something rises", [("cat", UP)], (1, 1, 1)),  # anything may be meant
    ("something rises", [("cat", LEFT)], (0, 1, 0)),
    ("a ball rises", [("cat", UP)], (0, 0, 0)),  # not there: no motion of something there, and not right
    ("a ball rises", [], (0, 0, 0)),
    ("a cat to the left of a tree", [("cat", LEFT), ("tree", "")], (0, 0, 0)),
    ("a cat", [("cat", LEFT)], (0, 0, 0)),
    ("", [("cat", LEFT)], (0, 0, 0)),
    ("a cat goes up", [("cat", FAR)], (0, 1, 0)),  # the longest phrase, not "goes"
    ("a cat goes", [("cat", FAR)], (1, 1, 1)),
    ("a cat goes up and a ball rolls to the right", [("cat", UP), ("ball", RIGHT)], (1, 2, 2)),
    ("a cat goes up and a ball rolls to the right", [("cat", UP), ("ball", LEFT)], (0, 2, 1)),
    ("a cat goes up and a ball rolls to the right", [("cat", UP)], (0, 1, 1)),
])
def test_a_motion_is_right_where_what_was_last_named_before_it_makes_it(caption, done, expected) -> None:
    assert scored(caption, *done) == expected


def test_over_films_motions_are_counted_and_captions_averaged() -> None:
    up, still = frozenset({UP}), frozenset[str]()
    truth = motions(["a cat goes up and a ball rolls to the right", "a cat", "a cat goes up"],
                    [[("cat", up), ("ball", still)], [("cat", up)], [("cat", up | {LEFT})]], WORDS)
    assert truth.corpus == {"MotionAccuracy": pytest.approx(2 / 3)}
    assert truth.per_image["MotionCorrect"].tolist() == [0, 0, 1]


def test_without_films_or_motions_there_is_no_accuracy() -> None:
    assert motions([], [], WORDS).corpus == {}
    assert motions(["a cat"], [[("cat", frozenset({UP}))]], WORDS).corpus == {}
