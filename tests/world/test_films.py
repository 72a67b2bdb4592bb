"""Films of the micro-world: drawn again they are the same, things move as the record says, and captions tell the truth of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.core import paths
from pipeline.core.files import digest_tree, read_json
from pipeline.core.params import check
from pipeline.corpus.extract import ExtractParams, extract
from pipeline.metrics.chair import Vocabulary
from pipeline.metrics.motion import MotionWords, motions
from pipeline.world import dataset
from pipeline.world.captions import NO_THINGS, colour_words, describe, synonyms
from pipeline.world.dataset import WorldParams, write_dataset
from pipeline.world.films import Film, describe_film, describe_film_naming, film_record, film_stream, frames, motion_words, sample_film
from pipeline.world.questions import ask, question_stream
from pipeline.world.scenes import POOLS, STYLES, Thing, generator, render, sample_scene, to_record

WORDS = MotionWords({words[0]: words for words in motion_words()}, Vocabulary(synonyms(), colour_words(), NO_THINGS))
MOMENTS = np.linspace(0, 1, 9).tolist()
# of what was drawn before there was more
STILLS = "b44b35e6382aa37c9f226fafd318f0e25ee56005cf6c2b9579feaa364d91728d"
FILMS_AND_QUESTIONS = "dfcdf8c9829fb790e4ca8efc99cbc0f6c3308a2a12f951162e7df13f4edee378"
LISTS = "10769dcce299ee9af99647cd447e370c67cf0f437943c0cc7000106c0b08139d"


def told(style: str, count: int, pool: str = "test") -> Iterator[tuple[Film, list[str]]]:
    """Films with their captions, as the tokenizer leaves them."""
    for index in range(count):
        rng = film_stream(style, pool, 5, index)
        film = sample_film(style, rng)
        yield film, [" ".join(re.findall("[a-z]+", text)) for text in describe_film(film, rng)]


def ways(kind: str) -> list[tuple[Film, int, list[Thing | None]]]:
    """Films in which something does this, its number, and where it is at each of the moments, None where it is not there."""
    found = []
    for film, _ in films():
        for number, motion in film.motions.items():
            if kind in motion.kinds:
                its = (motion.begin.name, motion.begin.colour, motion.begin.size)
                others = sum((t.name, t.colour, t.size) == its for t in film.scene.things)
                seen = [[t for t in film.at(moment).things if (t.name, t.colour, t.size) == its] for moment in MOMENTS]
                if others == 1:
                    assert max(map(len, seen)) == 1
                    found.append((film, number, [its[0] if its else None for its in seen]))
    assert len(found) > 30
    return found


@cache
def films() -> list[tuple[Film, list[str]]]:
    return list(told("scenes", 2000))


def there(things: list[Thing | None]) -> list[Thing]:
    found = [thing for thing in things if thing is not None]
    assert len(found) == len(MOMENTS)
    return found


@pytest.mark.parametrize("style", STYLES)
def test_a_film_can_be_drawn_again_on_its_own(style: str) -> None:
    expected = list(told(style, 12))
    rng = film_stream(style, "test", 5, 11)
    film = sample_film(style, rng)
    assert film == expected[11][0]
    assert [picture.tobytes() for picture in frames(film)] == [picture.tobytes() for picture in frames(expected[11][0])]
    assert [" ".join(re.findall("[a-z]+", text)) for text in describe_film(film, rng)] == expected[11][1]


def test_streams_of_films_scenes_and_questions_never_meet_nor_do_those_of_two_pools() -> None:
    streams = [stream(style, pool, seed, index) for stream in (generator, question_stream, film_stream) for style in STYLES
               for pool in POOLS for seed in (0, 3) for index in range(40)]
    assert len({int(rng.integers(2**63)) for rng in streams}) == len(streams)
    found = [json.dumps(film_record(film)) for style in STYLES for pool in POOLS for film, _ in told(style, 60, pool)]
    assert len(set(found)) == len(found)


def test_stills_are_as_they_were_before_there_were_films() -> None:
    digest = hashlib.sha256()
    for style in ("scenes", "album"):
        for pool in ("corpus", "unlabelled", "val", "test"):
            for index in range(5):
                rng = generator(style, pool, 11, index)
                scene = sample_scene(style, rng)
                texts = describe(scene, rng)
                digest.update(json.dumps([to_record(scene), texts]).encode())
                digest.update(render(scene).tobytes())
    assert digest.hexdigest() == STILLS


def test_films_questions_and_lists_of_words_are_as_they_were_before_there_were_snapshots() -> None:
    digest = hashlib.sha256()
    for style in ("scenes", "album"):
        for pool in ("corpus", "test"):
            for index in range(5):
                rng = film_stream(style, pool, 13, index)
                film = sample_film(style, rng)
                digest.update(json.dumps([film_record(film), describe_film(film, rng)]).encode())
                digest.update(frames(film)[0].tobytes())
                scene = sample_scene(style, generator(style, pool, 11, index))
                digest.update(json.dumps([question.text for question in ask(scene, question_stream(style, pool, 11, index), 12)]).encode())
    assert digest.hexdigest() == FILMS_AND_QUESTIONS
    words = json.dumps([synonyms(), colour_words(), motion_words()])
    assert hashlib.sha256(words.encode()).hexdigest() == LISTS


@pytest.mark.parametrize(("kind", "value", "sign"), [("left", "x", -1), ("right", "x", 1), ("up", "y", -1), ("down", "y", 1),
                                                     ("closer", "height", 1), ("closer", "y", 1), ("away", "height", -1)])
def test_a_thing_moves_one_way_all_the_time(kind: str, value: str, sign: int) -> None:
    for _, _, seen in ways(kind):
        steps = np.diff([getattr(thing, value) for thing in there(seen)])
        assert (sign * steps > 0.005).all()
        np.testing.assert_allclose(steps, steps[0])


@pytest.mark.parametrize("kind", ["left", "right"])
def test_a_thing_looks_where_it_goes(kind: str) -> None:
    assert all(thing.flipped == (kind == "right") for _, _, seen in ways(kind) for thing in there(seen))


@pytest.mark.parametrize(("kind", "first", "last"), [("appears", False, True), ("disappears", True, False)])
def test_what_appears_was_not_there_and_what_disappears_was(kind: str, first: bool, last: bool) -> None:
    for _, _, seen in ways(kind):
        shown = [thing is not None for thing in seen]
        assert (shown[0], shown[-1]) == (first, last)
        assert sum(a != b for a, b in pairwise(shown)) == 1


def test_what_goes_behind_a_thing_is_drawn_before_it_and_comes_out_on_its_other_side() -> None:
    for film, number, seen in ways("behind"):
        past = film.motions[number].past
        assert past is not None
        other = film.scene.things[past]
        sides = [np.sign(thing.x - other.x) for thing in there(seen)]
        assert sides[0] == -sides[-1] != 0
        for moment, thing in zip(MOMENTS, there(seen), strict=True):
            order = film.at(moment).things
            assert order.index(thing) < order.index(other)


def test_something_is_seen_to_happen_in_every_film() -> None:
    for film, _ in films()[:200]:
        pictures = [np.asarray(picture).astype(int) for picture in frames(film)]
        assert 8 <= len(pictures) <= 24
        assert pictures[0].shape == (128, 128, 3)
        assert (np.abs(pictures[0] - pictures[-1]).max(-1) > 20).sum() > 30


def doing(film: Film) -> list[tuple[str, frozenset[str]]]:
    return [(thing["name"], frozenset(thing["motions"])) for thing in film_record(film)["things"]]


@pytest.mark.parametrize("style", STYLES)
def test_captions_name_motions_that_the_film_has_and_most_name_one(style: str) -> None:
    found = list(told(style, 300))
    texts = [text for _, its in found for text in its]
    truth = motions(texts, [doing(film) for film, its in found for _ in its], WORDS)
    wrong = [text for text, named, right in zip(texts, truth.per_image["moved"], truth.per_image["moved_right"], strict=True)
             if named != right]
    assert not wrong
    assert truth.corpus["MotionAccuracy"] == 1.0
    named = np.array([bool(WORDS.said(text)) for text in texts])
    assert 0.7 < named.mean() < 0.95
    assert truth.per_image["MotionCorrect"].sum() == named.sum()


def test_each_caption_comes_with_the_things_that_it_names() -> None:
    for index in range(300):
        rng = film_stream("scenes", "test", 5, index)
        film = sample_film("scenes", rng)
        for text, names in describe_film_naming(film, rng):
            mentions = WORDS.vocabulary.mentions(" ".join(re.findall("[a-z]+", text)))
            assert all(set(mention.objects) & set(names) for mention in mentions), (text, names)
            assert all(any(name in mention.objects for mention in mentions) for name in names), (text, names)


def test_captions_of_other_films_are_mostly_wrong() -> None:
    first, *others = films()[:300]
    truth = motions([its[0] for _, its in (first, *others)], [doing(film) for film, _ in (*others, first)], WORDS)
    assert truth.per_image["MotionCorrect"].mean() < 0.1


def test_every_phrase_for_a_motion_is_said_somewhere() -> None:
    said = Counter(phrase for _, its in films() for text in its for words in motion_words() for phrase in words if phrase in text)
    assert {phrase for words in motion_words() for phrase in words} <= set(said)


PARAMS = WorldParams("scenes", seed=11, corpus=4, unlabelled=2, val=2, test=3, moving=True)
FILES = {f"{pool}/{index:05d}.mp4" for pool, count in (("unlabelled", 2), ("val", 2), ("test", 3)) for index in range(count)}
CORPUS_FILES = {f"corpus/{index:05d}.mp4" for index in range(4)}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def records(name: str, params: WorldParams = PARAMS) -> list[dict[str, Any]]:
    write_dataset(name, params)
    images: list[dict[str, Any]] = read_json(paths.raw(name) / "dataset.json")["images"]
    return images


def test_boxes_are_in_the_pixels_of_the_film(fresh: None) -> None:
    images = records("films")
    record = read_json(paths.raw("films") / "instances.json")
    assert {(image["width"], image["height"]) for image in record["images"]} == {(128, 128)}
    boxes = [thing["box"] for image in images for thing in image.get("scene", {}).get("things", [])]
    for each, (left, top, right, bottom) in zip(record["annotations"], boxes, strict=True):
        np.testing.assert_allclose(each["bbox"], [128 * left, 128 * top, 128 * (right - left), 128 * (bottom - top)], atol=0.011)
    assert [each["motions"] for each in record["annotations"]] == [thing["motions"] for image in images
                                                                   for thing in image.get("scene", {}).get("things", [])]


@pytest.mark.parametrize("pictures", [False, True])
def test_films_are_written_as_videos_those_of_the_corpus_only_where_asked(fresh: None, pictures: bool) -> None:
    images = records("films", replace(PARAMS, pictures=pictures))
    folder = paths.raw("films") / "images"
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == FILES | (CORPUS_FILES if pictures else set())
    assert written == {f"{image['filepath']}/{image['filename']}" for image in images if "filename" in image}
    for image in images:
        texts = [sentence["raw"] for sentence in image["sentences"]]
        pool = "corpus" if image["split"] == "train" else image["split"]
        rng = film_stream("scenes", pool, 11, int(image["filename"][:5]) if "filename" in image else image["imgid"])
        film = sample_film("scenes", rng)
        assert texts == ([] if pool == "unlabelled" else describe_film(film, rng))
        if "filename" in image:
            assert image["scene"] == film_record(film)
            with av.open(str(folder / image["filepath"] / image["filename"])) as video:
                stream = video.streams.video[0]
                assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 128, 128)
                decoded = [frame.to_image() for frame in video.decode(stream)]
            assert len(decoded) == film.frames
            assert 8 <= len(decoded) <= 24
            for shown, drawn in zip(decoded, frames(film), strict=True):
                assert np.abs(np.asarray(shown).astype(int) - np.asarray(drawn).astype(int)).mean() < 6


def test_what_things_do_is_extracted_with_the_words_for_it(fresh: None) -> None:
    images = records("films")
    listed = (paths.raw("films") / "motions.txt").read_text().splitlines()
    assert [line.split(", ") for line in listed] == motion_words()
    extract(paths.raw("films"), paths.corpus("films"), ExtractParams("karpathy", "dataset.json", "images", instances="instances.json",
                                                                     synonyms="synonyms.txt", motions="motions.txt"))
    assert read_json(paths.vocabulary("films"))["motions"] == {words[0]: words for words in motion_words()}
    expected = [(str(image["imgid"]), thing["name"], thing["motions"]) for image in images if image["split"] in ("val", "test")
                for thing in image["scene"]["things"]]
    table = pq.read_table(paths.objects_table("films")).to_pydict()
    assert list(zip(table["image_id"], table["object"], table["motions"], strict=True)) == expected
    assert any(its for _, _, its in expected)


def test_the_same_parameters_film_the_same_bytes_and_another_seed_others(fresh: None) -> None:
    digests = []
    for params in (PARAMS, PARAMS, replace(PARAMS, seed=12)):
        write_dataset("films", params)
        digests.append(digest_tree(paths.raw("films")))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("after", [0, 7])
def test_films_that_were_interrupted_come_out_the_same(fresh: None, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    write_dataset("films", PARAMS)
    whole = {path.relative_to(paths.raw("films")): path.read_bytes() for path in paths.raw("films").rglob("*") if path.is_file()}
    whole.pop(Path("unpaired-manifest.json"))
    track = dataset.track

    def dying(items: Any, *args: Any, **options: Any) -> Iterator[Any]:
        for number, item in enumerate(track(items, *args, **options)):
            if number == after:
                (cut,) = list(paths.WORK.glob("*/*/output/images/test"))
                (cut / "00000.mp4").write_bytes(b"half a film")
                raise KeyboardInterrupt
            yield item

    paths.raw("films").rename("aside")
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "track", dying)
        with pytest.raises(KeyboardInterrupt):
            write_dataset("films", PARAMS)
    assert not paths.raw("films").exists()
    write_dataset("films", PARAMS)
    again = {path.relative_to(paths.raw("films")): path.read_bytes() for path in paths.raw("films").rglob("*") if path.is_file()}
    again.pop(Path("unpaired-manifest.json"))
    assert again == whole


def test_questions_about_films_are_refused(user_error) -> None:
    message = user_error(check, WorldParams, {"style": "scenes", "seed": 1, "questions": 1, "moving": True}, "world.films")
    assert "questions are asked about pictures" in message
