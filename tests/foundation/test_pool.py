"""The foundation pool: each scene with its captions, whatever the blocks and workers that draw it."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.foundation import diffusion, language, pool
from pipeline.foundation.pool import KINDS, Pool, draw_block, draw_pool
from pipeline.world.captions import describe
from pipeline.world.films import describe_film, film_stream, sample_film
from pipeline.world.scenes import STYLES, generator, render, sample_scene
from pipeline.world.web import alt_texts, web_stream

# of pools and pages as they were when the shipped models were trained on them
SHIPPED = "d25e92a6a5b104c12120c0b6f599c82694b7fb8835669f1e6ccd01a08b27b13f"


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch):
    """draw(count, block, styles): a pool drawn in this process, in blocks of so many scenes."""
    monkeypatch.setattr(pool, "workers", lambda: ThreadPoolExecutor(2))

    def drawn(count: int, block: int = 3, styles: tuple[str, ...] = STYLES) -> Pool:
        monkeypatch.setattr(pool, "_BLOCK", block)
        return draw_pool("val", 7, count, styles)

    return drawn


@pytest.mark.parametrize("styles", [STYLES, ("scenes", "scenes", "album")])
def test_every_row_of_a_pool_is_the_scene_of_its_number(draw, styles):
    found = draw(8, styles=styles)
    assert found.images.shape == (8, 64, 64, 3)
    for index in range(8):
        style = styles[index % len(styles)]
        rng = generator(style, "val", 7, index)
        scene = sample_scene(style, rng)
        np.testing.assert_array_equal(found.images[index], np.asarray(render(scene)))
        assert found.captions[index] == describe(scene, rng, 5)
        assert (found.things[index], found.backgrounds[index], STYLES[found.styles[index]]) == (scene.things, scene.background, style)
        names = {thing.name for thing in scene.things}
        assert [set(named) <= names for named in found.named[index]] == [True] * 5


def test_films_give_a_moment_with_what_is_said_of_the_whole_and_pages_a_picture_with_texts_about_it(draw) -> None:
    found = draw(4, styles=("films", "web"))
    assert [KINDS[number] for number in found.styles] == ["films", "web"] * 2
    rng = film_stream("scenes", "val", 7, 2)
    film = sample_film("scenes", rng)
    assert found.captions[2] == describe_film(film, rng)
    moment = film.at(float(rng.random()))
    np.testing.assert_array_equal(found.images[2], np.asarray(render(moment)))
    assert found.things[2] == moment.things
    rng = web_stream("val", 7, 3)
    scene = sample_scene("scenes", rng)
    assert found.things[3] == scene.things
    assert list(zip(found.captions[3], found.named[3], strict=True)) == alt_texts(scene, rng)


def test_a_pool_does_not_depend_on_its_blocks(draw):
    one, other = draw(8, block=3), draw(8, block=500)
    np.testing.assert_array_equal(one.images, other.images)
    assert (one.captions, one.named, one.things, one.backgrounds) == (other.captions, other.named, other.things, other.backgrounds)


def test_pools_of_the_shipped_models_are_drawn_as_they_were() -> None:
    digest = hashlib.sha256()
    block = draw_block("foundation", 1, 0, 40)
    digest.update(block[0].tobytes() + json.dumps(block[1:3]).encode() + repr(block[3:]).encode())
    recipe = diffusion.Recipe()
    block = draw_block("foundation", recipe.seed, 0, 20, recipe.styles)
    digest.update(block[0].tobytes() + json.dumps(block[1:3]).encode())
    digest.update(json.dumps(language.read_pages(language.Recipe().seed, 0, 40)).encode())
    assert digest.hexdigest() == SHIPPED


def test_pixels_run_from_minus_one_to_one_channels_first(draw):
    found = draw(4)
    pixels = found.pixels(np.array([2, 0]))
    assert pixels.shape == (2, 3, 64, 64)
    assert -1 <= pixels.min() < -0.5 < 0.5 < pixels.max() <= 1
    np.testing.assert_allclose((pixels[0].permute(1, 2, 0) + 1) * 127.5, found.images[2], atol=1e-4)
