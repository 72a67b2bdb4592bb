"""Texts of the web: found by the name of a thing, about a picture or not, and in no other data set's way."""

from __future__ import annotations

import json
import re
from collections import Counter

import pyarrow.parquet as pq
import pytest

from pipeline.core import paths
from pipeline.core.files import digest_tree
from pipeline.core.params import check
from pipeline.corpus.extract import ExtractParams, extract
from pipeline.metrics.chair import Vocabulary
from pipeline.world.captions import NO_THINGS, colour_words, synonyms
from pipeline.world.dataset import WorldParams, write_dataset
from pipeline.world.films import film_stream
from pipeline.world.questions import question_stream
from pipeline.world.scenes import POOLS, STYLES, generator, sample_scene
from pipeline.world.sprites import CLASSES
from pipeline.world.web import LOOK, alt_texts, sample_page, web_stream

WORDS = Vocabulary(synonyms(), colour_words(), NO_THINGS)
PARAMS = WorldParams("web", seed=31, corpus=60, unlabelled=0, val=0, test=0)


@pytest.fixture(scope="module")
def pages() -> list[tuple[str, str]]:
    return [sample_page(web_stream("corpus", 700, index)) for index in range(2000)]


def named(text: str) -> list[tuple[str, ...]]:
    """What the words of a text may name, each by itself, whatever stands between them."""
    return [mention.objects for word in re.findall("[a-z]+", text.lower()) for mention in WORDS.mentions(word)]


def test_a_page_can_be_drawn_again_on_its_own(pages):
    assert sample_page(web_stream("corpus", 700, 17)) == pages[17]


def test_streams_meet_no_others_and_pools_differ():
    streams = [make(style, pool, seed, index) for make in (generator, question_stream, film_stream) for style in STYLES
               for pool in POOLS for seed in (0, 3) for index in range(20)]
    streams += [web_stream(pool, seed, index) for pool in POOLS for seed in (0, 3) for index in range(20)]
    assert len({int(rng.integers(2**63)) for rng in streams}) == len(streams)


def test_the_thing_that_a_page_was_asked_for_is_named_in_its_text(pages):
    for query, text in pages:
        assert any(query in objects for objects in named(text)), (query, text)
    assert {query for query, _ in pages} == set(CLASSES)


def test_texts_are_as_the_web_has_them(pages):
    texts = [text for _, text in pages]
    for kind in ("#", "IMG_", ".png", "free shipping", "stock photo", "vector illustration", "coloring page"):
        assert 0.003 < sum(kind.lower() in text.lower() for text in texts) / len(texts) < 0.2, kind
    assert 0.1 < sum(bool(re.search("[A-Z]{4}", text)) for text in texts) / len(texts) < 0.3
    assert max(len(text.split()) for text in texts) < 30
    assert max(Counter(texts).values()) < 20


def test_alt_texts_name_things_that_the_picture_shows_alone_and_come_with_them():
    for index in range(300):
        rng = web_stream("test", 700, index)
        scene = sample_scene(LOOK, rng)
        for text, names in alt_texts(scene, rng):
            assert set(names) <= {thing.name for thing in scene.things}
            assert all(set(objects) & set(names) for objects in named(text)), (text, names)
            assert all(any(name in objects for objects in named(text)) for name in names), (text, names)


def test_a_corpus_of_web_texts_is_extracted_with_as_many_texts_as_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset("web", PARAMS)
    (file,) = [path.name for path in paths.raw("web").iterdir() if path.name != "unpaired-manifest.json"]
    images = json.loads((paths.raw("web") / file).read_text())["images"]
    assert [(image["query"], image["sentences"][0]["raw"]) for image in images] == [
        sample_page(web_stream("corpus", 31, index)) for index in range(60)]
    extract(paths.raw("web"), paths.corpus("web"), ExtractParams("karpathy", "dataset.json"))
    table = pq.read_table(paths.corpus_table("web"))
    assert sorted(table["text"].to_pylist()) == sorted(image["sentences"][0]["raw"] for image in images)
    digest = digest_tree(paths.raw("web"))
    write_dataset("web", PARAMS)
    assert digest_tree(paths.raw("web")) == digest


@pytest.mark.parametrize("more", [{"val": 1}, {"test": 1}, {"unlabelled": 1}, {"pictures": True}, {"moving": True}])
def test_web_texts_have_no_pictures_to_show(user_error, more):
    none = {"unlabelled": 0, "val": 0, "test": 0}
    assert "style web has corpus alone" in user_error(check, WorldParams, {"style": "web", "seed": 1, **none, **more}, "world.web")
