"""CHAIR and its kin: what captions name that is not there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.metrics.chair import Mention, Shown, Vocabulary, _given, chair, with_references
from pipeline.world.captions import NO_THINGS, colour_words, describe, synonyms
from pipeline.world.scenes import STYLES, Scene, generator, sample_scene

WORLD = Vocabulary(synonyms(), colour_words(), NO_THINGS)
COCO = Vocabulary({"person": ["person", "man", "woman", "child", "baby"], "bird": ["bird"], "cat": ["cat", "kitten"], "knife": ["knife"],
                   "bear": ["bear"], "teddy bear": ["teddy bear"], "train": ["train"], "toilet": ["toilet", "toilet seat"],
                   "chair": ["chair", "seat"]}, {}, ["train track"])


def scenes(style: str, count: int = 300) -> list[Scene]:
    return [sample_scene(style, generator(style, "val", 77, index)) for index in range(count)]


def shown(scene: Scene) -> Shown:
    return Shown(tuple((thing.name, thing.colour) for thing in scene.things))


@pytest.mark.parametrize("style", STYLES)
def test_what_people_say_of_a_scene_is_right_in_all(style):
    drawn = scenes(style)
    texts = [describe(scene, generator(style, "val", 78, index)) for index, scene in enumerate(drawn)]
    for one in zip(*texts, strict=True):
        truth = chair([text.replace(",", " ").replace(":", " ") for text in one], list(map(shown, drawn)), WORLD)
        assert truth.per_image["CHAIRs"].sum() == 0
        assert truth.per_image["Correct"].all()
        assert truth.corpus["CHAIRi"] == 0
        assert truth.corpus["ColourAccuracy"] == 1


@pytest.mark.parametrize("style", STYLES)
def test_a_record_told_as_a_sentence_is_right_and_names_all(style):
    drawn = scenes(style)
    told = [" and ".join(f"a {thing.colour} {thing.name}" for thing in scene.things) or "an empty view" for scene in drawn]
    truth = chair(told, list(map(shown, drawn)), WORLD)
    assert (truth.corpus["CHAIRi"], truth.corpus["ObjectRecall"], truth.corpus["ColourAccuracy"]) == (0, 1, 1)
    assert truth.per_image["CHAIRs"].sum() == 0
    assert truth.per_image["Correct"].all()


def test_of_another_scene_they_are_mostly_wrong():
    drawn = scenes("scenes")
    told = [" and ".join(f"a {thing.colour} {thing.name}" for thing in scene.things) or "an empty view" for scene in drawn]
    truth = chair([*told[1:], told[0]], list(map(shown, drawn)), WORLD)
    assert truth.per_image["CHAIRs"].mean() > 0.9
    assert truth.per_image["Correct"].mean() < 0.05


@pytest.mark.parametrize(("caption", "mentions"), [
    ("a cat", [(("cat",), 1, None)]),
    ("two black cats near a tree", [(("cat",), 2, "black"), (("tree",), 1, None)]),
    ("some puppies and three people", [(("dog",), 2, None), (("man", "woman"), 3, None)]),
    ("a person in red", [(("man", "woman"), 1, "red")]),
    ("a man in a red car", [(("man",), 1, None), (("car",), 1, "red")]),
    ("a lady in crimson standing", [(("woman",), 1, "red")]),
    ("our little bird above the tree tops", [(("bird",), 1, None)]),
    ("a cottage at home", [(("house",), 1, None)]),
    ("a white crescent moon", [(("moon",), 1, "white")]),
    ("a couple of cakes", [(("cake",), 2, None)]),
    ("two men and a fish", [(("man",), 2, None), (("fish",), 1, None)]),
    ("in the dark sky", []),
    ("", []),
    ("orange orange orange", []),
    ("a cat in", [(("cat",), 1, None)]),
    ("three little kittens", [(("cat",), 3, None)]),
    ("three old trees and toy balls", [(("tree",), 3, None), (("ball",), 2, None)]),
    ("two trees cats", [(("tree",), 2, None), (("cat",), 2, None)]),
])
def test_mentions_of_the_drawn_world(caption, mentions):
    assert WORLD.mentions(caption) == [Mention(*mention) for mention in mentions]


@pytest.mark.parametrize(("caption", "found"), [
    ("two black cats near a tree", [("cats", "black"), ("tree", None)]),
    ("a lady in crimson standing", [("lady", "crimson")]),
    ("a white crescent moon", [("crescent moon", "white")]),
])
def test_a_mention_is_found_where_it_stands(caption, found):
    words = caption.split()
    assert [(" ".join(words[its.noun.start : its.noun.stop]), None if its.colour is None else words[its.colour])
            for its in WORLD.located(caption)] == found


@pytest.mark.parametrize(("caption", "objects"), [
    ("a baby bird", ["bird"]), ("a baby and a bird", ["person", "bird"]), ("a teddy bear", ["teddy bear"]), ("a train track", []),
    ("two kittens on train tracks", ["cat", "train"]), ("knives", ["knife"]), ("a toilet seat", ["toilet"]), ("a seat", ["chair"]),
    ("children", ["person"]), ("birds", ["bird"]),
])
def test_the_longest_phrase_counts_and_a_qualifier_does_not(caption, objects):
    assert [mention.objects[0] for mention in COCO.mentions(caption)] == objects


def test_shares_are_pooled_over_captions():
    there = [Shown((("cat", "black"), ("tree", "green"))), Shown((("dog", "white"),)), Shown(())]
    truth = chair(["a black cat and a red cat", "a white dog , a blue boat and a bus", "an empty view"], there, WORLD)
    assert truth.per_image["CHAIRs"].tolist() == [0, 1, 0]
    assert truth.per_image["Correct"].tolist() == [0, 0, 1]  # one cat cannot be both
    assert truth.corpus == {"CHAIRi": 2 / 5, "ObjectRecall": 2 / 3, "ColourAccuracy": 2 / 3}  # the boat has no colour to be right in


def test_numbers_are_at_least_and_each_mention_needs_things_of_its_own():
    two = Shown((("cat", "black"), ("cat", "white"), ("dog", "brown")))
    captions = ["two cats", "three cats", "a cat and a cat", "a black cat and a black cat", "two dogs", "a cat"]
    assert chair(captions, [two] * 6, WORLD).per_image["Correct"].tolist() == [1, 0, 1, 0, 0, 1]


def test_a_caption_that_names_nothing_is_right_where_nothing_is_shown_alone():
    truth = chair(["a view of the sea"] * 2, [Shown(()), Shown((("cat", None),))], WORLD)
    assert truth.per_image["Correct"].tolist() == [1, 0]
    assert "CHAIRi" not in truth.corpus
    assert truth.corpus["ObjectRecall"] == 0


def test_without_colours_none_are_scored():
    truth = chair(["a red cat"], [Shown((("cat", None),))], COCO)
    assert "ColourAccuracy" not in truth.corpus
    assert truth.per_image["Correct"].tolist() == [1]


def test_a_colour_that_is_not_recorded_is_neither_right_nor_wrong():
    unknown, many, known = Shown((("cat", None), ("cat", "black"))), Shown((), frozenset({"cat"})), Shown((("cat", "black"),))
    truth = chair(["a red cat"] * 3, [unknown, many, known], WORLD)
    assert truth.per_image["Correct"].tolist() == [1, 1, 0]
    assert truth.per_image["coloured"].tolist() == [0, 0, 1]


def test_what_references_name_and_crowds_may_be_any_number():
    there = with_references(Shown((("cat", None),), frozenset({"person"})), ["a bird on a chair"], COCO)
    assert there.objects == {"cat", "person", "bird", "chair"}
    truth = chair(["nine birds and three children", "two cats"], [there] * 2, COCO)
    assert truth.per_image["CHAIRs"].tolist() == [0, 0]
    assert truth.per_image["Correct"].tolist() == [1, 0]


def naive_given(mentions: list[Mention], there: Shown) -> bool:
    """Every way of handing things out, tried."""
    wanted = [mention for mention in mentions for _ in range(mention.number)]
    return any(all(name in mention.objects and (mention.colour in (None, colour) or colour is None)
                   for mention, (name, colour) in zip(wanted, chosen, strict=True))
               for chosen in itertools.permutations(there.things, len(wanted)))


def test_things_are_handed_out_as_if_every_way_were_tried():
    rng = np.random.default_rng(5)
    names, colours, outcomes = ("man", "woman", "cat"), ("red", "blue"), []
    for _ in range(500):
        there = Shown(tuple((str(rng.choice(names)), str(rng.choice(colours))) for _ in range(rng.integers(0, 5))))
        mentions = [Mention((("man", "woman"), ("man",), ("cat",))[rng.integers(3)], int(rng.integers(1, 3)),
                            (None, "red", "blue")[rng.integers(3)]) for _ in range(rng.integers(1, 4))]
        outcomes.append(_given(mentions, there))
        assert outcomes[-1] == naive_given(mentions, there)
    assert 0.05 < np.mean(outcomes) < 0.95
