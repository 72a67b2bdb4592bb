"""Snapshots beside scenes: nearly the same words, other habits; what is measured across them is habits, not words that were never read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pipeline.core import paths
from pipeline.corpus.extract import ExtractParams, extract
from pipeline.metrics.chair import Shown, Vocabulary, chair
from pipeline.metrics.cider import cider_d
from pipeline.world.captions import COLOUR_WORDS, NO_THINGS, NOUNS, colour_words, describe, synonyms
from pipeline.world.dataset import WorldParams, write_dataset
from pipeline.world.scenes import Scene, generator, sample_scene

Told = list[tuple[Scene, list[str]]]


def told(style: str, pool: str, count: int, captions: int = 5) -> Told:
    found = []
    for index in range(count):
        rng = generator(style, pool, 700, index)
        scene = sample_scene(style, rng)
        found.append((scene, describe(scene, rng, captions)))
    return found


@pytest.fixture(scope="module")
def corpora() -> dict[str, list[list[str]]]:
    """The words of each sentence."""
    return {style: [text.split() for _, texts in told(style, "corpus", 3000) for text in texts] for style in ("scenes", "snapshots")}


def test_nine_tenths_of_its_words_and_of_their_uses_are_those_of_scenes(corpora):
    known = {word for words in corpora["scenes"] for word in words}
    used = Counter(word for words in corpora["snapshots"] for word in words)
    assert len(known & set(used)) > 0.9 * len(used)
    assert sum(count for word, count in used.items() if word in known) > 0.9 * used.total()


def test_its_sentences_are_longer_and_of_people_more_often(corpora):
    lengths, people = ({style: float(np.mean([measure(words) for words in its])) for style, its in corpora.items()} for measure in (
        len, lambda words: not {"man", "men", "guy", "guys", "woman", "women", "lady", "ladies", "person", "people"}.isdisjoint(words)))
    assert lengths["snapshots"] > 1.1 * lengths["scenes"]
    assert people["snapshots"] > 1.5 * people["scenes"]


def test_every_picture_is_told_the_truth_of():
    drawn = told("snapshots", "test", 2000)
    shown = [Shown(tuple((thing.name, thing.colour) for thing in scene.things)) for scene, _ in drawn]
    for texts in zip(*(texts for _, texts in drawn), strict=True):
        truth = chair(texts, shown, Vocabulary(synonyms(), colour_words(), NO_THINGS))
        assert truth.per_image["CHAIRs"].sum() == 0
        assert truth.per_image["Correct"].all()
        assert truth.corpus["ColourAccuracy"] == 1


def test_it_needs_no_word_for_a_thing_or_colour_that_the_lists_of_other_data_sets_lack():
    others = [style for style in NOUNS if style != "snapshots"]
    for name, nouns in NOUNS["snapshots"].items():
        assert set(nouns) <= {noun for style in others for noun in NOUNS[style][name]}
    assert COLOUR_WORDS["snapshots"] == {}


def test_who_speaks_as_scenes_do_scores_about_half_of_who_speaks_its_language():
    """As DeCap's 35.7 CIDEr from COCO to Flickr30k of 56.7 within Flickr30k."""
    drawn = told("snapshots", "test", 1000, captions=6)
    references = [texts[:5] for _, texts in drawn]
    as_scenes = [describe(replace(scene, style="scenes"), np.random.default_rng([700, index]), 1)[0]
                 for index, (scene, _) in enumerate(drawn)]
    within, across = (cider_d(texts, references).mean() for texts in ([texts[5] for _, texts in drawn], as_scenes))
    assert 0.4 < across / within < 0.75


def test_a_data_set_of_snapshots_is_drawn_and_extracted_as_the_others_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset("snapshots", WorldParams("snapshots", seed=21, corpus=4, unlabelled=1, val=2, test=3, questions=2))
    report = extract(paths.raw("snapshots"), paths.corpus("snapshots"), ExtractParams(
        "karpathy", "dataset.json", "images", instances="instances.json", synonyms="synonyms.txt", colours="colours.txt"))
    assert report["images"] == {"unlabelled": 1, "val": 2, "test": 3}
    assert report["corpus"]["kept"] == 5 * 4
