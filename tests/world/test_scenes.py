"""Scenes of the micro-world: drawn again they are the same, and their captions tell the truth."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.world.captions import NOUNS, PLACES, describe, describe_naming
from pipeline.world.scenes import BACKGROUNDS, POOLS, STYLES, Scene, Thing, generator, render, sample_scene, to_record
from pipeline.world.sprites import SPRITES

IRREGULAR = {"men": "man", "women": "woman", "people": "person", "ladies": "lady", "puppies": "puppy", "ponies": "pony", "kitties": "kitty"}


def drawn(style: str, pool: str = "test", count: int = 150, seed: int = 3) -> list[tuple[Scene, list[str]]]:
    found = []
    for index in range(count):
        rng = generator(style, pool, seed, index)
        scene = sample_scene(style, rng)
        found.append((scene, describe(scene, rng)))
    return found


@pytest.mark.parametrize("style", STYLES)
def test_a_scene_can_be_drawn_again_on_its_own(style):
    expected = drawn(style, count=20)
    rng = generator(style, "test", 3, 17)
    scene = sample_scene(style, rng)
    assert (scene, describe(scene, rng)) == expected[17]
    np.testing.assert_array_equal(np.asarray(render(scene)), np.asarray(render(expected[17][0])))


@pytest.mark.parametrize("style", STYLES)
def test_no_scene_of_one_pool_appears_in_another(style):
    scenes = [sample_scene(style, generator(style, pool, 3, index)) for pool in POOLS for index in range(300)]
    assert len(set(scenes)) == len(scenes)


def test_another_seed_or_style_gives_other_scenes():
    scenes = {sample_scene("scenes", generator(style, "test", seed, index)) for style in STYLES for seed in (0, 1) for index in range(50)}
    assert len(scenes) == 100 * len(STYLES)


@pytest.mark.parametrize("style", STYLES)
def test_pictures_are_small_rgb_images_that_show_something(style):
    for scene, _ in drawn(style, count=20):
        image = render(scene)
        assert (image.mode, image.size) == ("RGB", (64, 64))
        assert np.asarray(image).std() > 5


def test_a_thing_is_drawn_where_its_box_says():
    thing = Thing("ball", "red", "large", 0.5, 0.9, 0.3, False)
    empty, filled = (np.asarray(render(Scene("scenes", "snow", 0.5, 1, things))).astype(int) for things in ((), (thing,)))
    changed = np.argwhere((empty != filled).any(-1)) / 64
    top, left = changed.min(0)
    bottom, right = changed.max(0)
    # a pixel of 1/64 on each side
    assert (left, top, right, bottom) == pytest.approx(thing.box, abs=2 / 64)


@pytest.mark.parametrize("style", STYLES)
def test_records_name_what_is_drawn_inside_the_picture(style):
    for scene, _ in drawn(style):
        record = to_record(scene)
        assert record["background"] in BACKGROUNDS
        assert [thing["name"] for thing in record["things"]] == [thing.name for thing in scene.things]
        for thing in record["things"]:
            left, top, right, bottom = thing["box"]
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            assert thing["colour"] in SPRITES[thing["name"]].colours
        assert len(scene.things) <= 3
        assert not any(thing.sky for thing in scene.things if BACKGROUNDS[scene.background].indoor)


def test_nearly_every_scene_holds_something():
    assert sum(not scene.things for style in STYLES for scene, _ in drawn(style)) <= 3


def without_place(caption: str, scene: Scene) -> str:
    """A caption without the words for its background, some of which sound like things ("at home", "above the tree tops")."""
    ground, sky = PLACES[scene.style][scene.background]
    for phrase in sorted((*ground, *sky), key=len, reverse=True):
        caption = caption.replace(phrase, "")
    return caption


def named(caption: str, style: str) -> list[set[str]]:
    """For each noun of a caption, the things that it may stand for; a noun of two words is told by its last."""
    meanings: dict[str, set[str]] = {}
    for name, nouns in NOUNS[style].items():
        for noun in nouns:
            meanings.setdefault(noun.split()[-1], set()).add(name)
    found = []
    for word in re.findall(r"[a-z]+", caption):
        singular = IRREGULAR.get(word) or next((w for w in (word, word.removesuffix("s"), word.removesuffix("es")) if w in meanings), word)
        if singular in meanings:
            found.append(meanings[singular])
    return found


def test_the_reader_of_nouns_in_these_tests_is_not_blind():
    assert named("two puppies beside a mug and buses", "scenes") == [{"dog"}, {"cup"}, {"bus"}]
    assert named("a person in red under the crescent moon", "scenes") == [{"man", "woman"}, {"moon"}]


@pytest.mark.parametrize("style", STYLES)
def test_captions_name_only_things_in_the_picture(style):
    for scene, captions in drawn(style):
        things = {thing.name for thing in scene.things}
        for caption in captions:
            nouns = named(without_place(caption, scene), style)
            assert all(meaning & things for meaning in nouns), (caption, things)
            assert bool(nouns) == bool(things), (caption, things)
            assert len(nouns) <= 3


@pytest.mark.parametrize("style", STYLES)
def test_each_caption_comes_with_the_things_that_it_names(style):
    for index in range(150):
        rng = generator(style, "test", 3, index)
        scene = sample_scene(style, rng)
        for caption, names in describe_naming(scene, rng):
            nouns = named(without_place(caption, scene), style)
            assert len(set(names)) == len(names)
            assert all(any(name in meaning for meaning in nouns) for name in names), (caption, names)
            assert all(meaning & set(names) for meaning in nouns), (caption, names)


@pytest.mark.parametrize("style", STYLES)
def test_captions_are_plain_lower_case_sentences_that_vary(style):
    texts = [text for _, captions in drawn(style) for text in captions]
    assert all(text == text.lower() == text.strip() for text in texts)
    assert all("  " not in text for text in texts)
    assert max(len(text.split()) for text in texts) <= 30  # well below the 40 tokens that decoders read
    assert len(set(texts)) > 0.8 * len(texts)
    assert all(len(captions) == 5 for _, captions in drawn(style, count=5))


@pytest.mark.parametrize("style", STYLES)
def test_no_caption_names_another_place_than_the_pictures(style):
    for scene, captions in drawn(style):
        foreign = {phrase for place, (ground, sky) in PLACES[style].items() if place != scene.background for phrase in (*ground, *sky)}
        own = " ".join(phrase for phrases in PLACES[style][scene.background] for phrase in phrases)
        for caption in captions:
            found = [phrase for phrase in foreign if phrase not in own and re.search(rf"\b{phrase}\b", caption)]
            assert not found, (caption, scene.background)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("background", [name for name, place in BACKGROUNDS.items() if not place.indoor])
def test_what_flies_is_never_said_to_be_on_the_ground(style, background):
    bird = Thing("bird", "red", "large", 0.3, 0.4, 0.2, False)
    kite = Thing("kite", "blue", "small", 0.7, 0.4, 0.2, False)
    ground, sky = PLACES[style][background]
    placed = 0
    for things in ((bird,), (bird, kite)):
        for caption in describe(Scene(style, background, 0.5, 1, things), np.random.default_rng(0), 60):
            for phrase in sky:
                placed += phrase in caption
                caption = caption.replace(phrase, "")
            assert not [phrase for phrase in ground if phrase in caption], caption
    assert placed > 40


@pytest.mark.parametrize("style", STYLES)
def test_a_relation_in_a_caption_is_true(style):
    left, right = Thing("car", "red", "medium", 0.2, 0.9, 0.2, False), Thing("tree", "green", "medium", 0.8, 0.9, 0.4, False)
    cars, trees = ("(?:" + "|".join(noun for noun in NOUNS[style][name]) + ")" for name in ("car", "tree"))
    sides = 0
    for caption in describe(Scene(style, "street", 0.5, 1, (left, right)), np.random.default_rng(0), 200):
        assert not re.search(rf"{cars} .*to the right of .*{trees}", caption)
        assert not re.search(rf"{trees} .*to the left of .*{cars}", caption)
        sides += "to the left of" in caption or "to the right of" in caption
    assert sides > 20
