"""Questions about scenes: their answers are true by another reading of the scene, and they leave the scene as it was."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from pipeline.world.captions import COLOUR_WORDS, NOUNS, describe, plural
from pipeline.world.questions import ANSWER_TYPES, PEOPLE, Question, ask, question_stream
from pipeline.world.scenes import POOLS, STYLES, Scene, Thing, generator, sample_scene

GROUPS = {"people": {"man", "woman"}, "animals": {"cat", "dog", "horse", "bird", "fish"}}
KINDS = {"animal": GROUPS["animals"], "vehicle": {"car", "bus", "train", "bike", "boat", "plane"}, "food": {"apple", "cake"},
         "furniture": {"table", "chair"}}


def asked(style: str, scenes: int = 150, count: int = 12, pool: str = "val", seed: int = 3) -> list[tuple[Scene, list[Question]]]:
    found = []
    for index in range(scenes):
        scene = sample_scene(style, generator(style, pool, seed, index))
        found.append((scene, ask(scene, question_stream(style, pool, seed, index), count)))
    return found


def of_kind(style: str, asks: str) -> list[tuple[Scene, Question]]:
    found = [(scene, question) for scene, questions in asked(style) for question in questions if question.asks == asks]
    assert len(found) > 100
    return found


def named(scene: Scene, noun: str) -> list[Thing]:
    """The things of a scene that a noun may name."""
    return [thing for thing in scene.things if noun in NOUNS[scene.style][thing.name]]


def colours(scene: Scene, word: str) -> set[str]:
    """The colours that a word may name."""
    return {word, *(colour for colour, words in COLOUR_WORDS[scene.style].items() if word in words)}


@pytest.mark.parametrize("style", STYLES)
def test_yes_and_no_are_true_of_the_scene(style):
    for scene, question in of_kind(style, "yes/no"):
        if found := re.fullmatch(r"is there (?:an? )?(.+)\?", question.text):
            true = bool(named(scene, found[1]))
        else:
            noun, colour = re.fullmatch(r"is the (.+?)(?: in)? (\w+)\?", question.text).groups()
            (thing,) = named(scene, noun)
            true = thing.colour == colour
        assert question.answer == ("yes" if true else "no"), question


@pytest.mark.parametrize("style", STYLES)
def test_colours_are_those_of_the_one_thing_that_is_asked_about(style):
    for scene, question in of_kind(style, "colour"):
        (thing,) = named(scene, re.fullmatch(r"what colour is the (.+?)(?: wearing)?\?", question.text)[1])
        assert thing.colour in colours(scene, question.answer), question


@pytest.mark.parametrize("style", STYLES)
def test_numbers_are_what_one_counts(style):
    for scene, question in of_kind(style, "number"):
        what = re.fullmatch(r"how many (.+) are there\?", question.text)[1]
        if what == "things":
            number = len(scene.things)
        elif what in GROUPS:
            number = sum(thing.name in GROUPS[what] for thing in scene.things)
        else:
            number = sum(what in map(plural, NOUNS[style][thing.name]) for thing in scene.things)
        assert question.answer == str(number), question


@pytest.mark.parametrize("style", STYLES)
def test_kinds_are_those_of_the_one_thing_that_can_be_meant(style):
    for scene, question in of_kind(style, "kind"):
        if side := re.fullmatch(r"what is on the (left|right)\?", question.text):
            thing = (min if side[1] == "left" else max)(scene.things, key=lambda thing: thing.x)
        else:
            kind = re.fullmatch(r"what (?:kind of )?(\w+) is this\?", question.text)[1]
            (thing,) = [thing for thing in scene.things if thing.name in KINDS[kind]]
        assert question.answer in NOUNS[style][thing.name], question


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("count", [2, 8])
def test_yes_and_no_are_about_as_common(style, count):
    answers = Counter(question.answer for _, questions in asked(style, 1200, count) for question in questions if question.asks == "yes/no")
    assert set(answers) == {"yes", "no"}
    assert 0.44 < answers["yes"] / answers.total() < 0.56  # of 500 and more, within two and a half standard deviations


@pytest.mark.parametrize("style", STYLES)
def test_ten_people_answer_and_most_of_them_are_right(style):
    questions = [question for _, questions in asked(style) for question in questions]
    assert all(len(question.answers) == PEOPLE == 10 and all(question.answers) for question in questions)
    assert sum(question.answer == Counter(question.answers).most_common(1)[0][0] for question in questions) > 0.8 * len(questions)
    assert {question.answer_type for question in questions} == set(ANSWER_TYPES)


@pytest.mark.parametrize("style", STYLES)
def test_no_two_questions_about_a_scene_are_the_same_and_the_first_are_of_different_kinds(style):
    for _, questions in asked(style):
        assert len({question.text for question in questions}) == len(questions) <= 12
        kinds = {question.asks for question in questions}
        assert {question.asks for question in questions[: len(kinds)]} == kinds


def test_a_scene_with_questions_has_the_sentences_of_the_scene_without():
    def sentences(count: int) -> list[str]:
        rng = generator("scenes", "val", 3, 0)
        scene = sample_scene("scenes", rng)
        ask(scene, question_stream("scenes", "val", 3, 0), count)
        return describe(scene, rng)

    assert sentences(0) == sentences(8)


def test_questions_of_no_two_scenes_and_of_no_scene_itself_come_from_the_same_stream():
    makers = (question_stream, generator)
    places = [(style, pool, seed, index) for style in STYLES for pool in POOLS for seed in (0, 1) for index in (0, 1)]
    drawn = {tuple(make(*place).integers(2**32, size=4).tolist()) for make in makers for place in places}
    assert len(drawn) == len(makers) * len(places)


def test_the_same_scene_is_asked_the_same():
    assert asked("scenes", 5) == asked("scenes", 5) != asked("scenes", 5, seed=4)
