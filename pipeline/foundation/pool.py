"""The foundation pool: scenes of several kinds with what is said of them, kept in memory as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.progress import track
from ..core.workers import workers
from ..world.captions import describe_naming
from ..world.films import describe_film_naming, film_stream, sample_film
from ..world.scenes import STYLES, Scene, Thing, generator, render, sample_scene
from ..world.sprites import CLASSES, COLOURS
from ..world.web import LOOK, WEB, alt_texts, web_stream

CAPTIONS_PER_SCENE = 5
FILMS = "films"
KINDS = (*STYLES, FILMS, WEB)
FIRST_STYLES = ("scenes", "album")  # all that there was when most of the shipped models were trained
_BLOCK = 500
_COLOUR_NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class Pool:
    """images: (N, 64, 64, 3) uint8. captions: N lists of five. named: the classes that each caption names. styles: (N,) index into
    `KINDS`. things: N tuples. backgrounds: N names."""

    images: NDArray[np.uint8]
    captions: list[list[str]]
    named: list[list[tuple[str, ...]]]
    styles: NDArray[np.int64]
    things: list[tuple[Thing, ...]]
    backgrounds: list[str]

    def pixels(self, rows: NDArray[np.int64]) -> Tensor:
        """(B, 3, 64, 64) float32 from -1 to 1."""
        return torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


Block = tuple[NDArray[np.uint8], list[list[str]], list[list[tuple[str, ...]]], list[tuple[Thing, ...]], list[str]]


def draw_block(pool: str, seed: int, start: int, stop: int, styles: Sequence[str] = FIRST_STYLES) -> Block:
    """Scenes `start` to `stop` of a pool, the styles taking turns."""
    images, captions, named, things, backgrounds = [], [], [], [], []
    for index in range(start, stop):
        scene, described = _described(styles[index % len(styles)], pool, seed, index)
        images.append(np.asarray(render(scene)))
        captions.append([text for text, _ in described])
        named.append([names for _, names in described])
        things.append(scene.things)
        backgrounds.append(scene.background)
    return np.stack(images), captions, named, things, backgrounds


def _described(kind: str, pool: str, seed: int, index: int) -> tuple[Scene, list[tuple[str, tuple[str, ...]]]]:
    """A scene of a kind, and five captions with the classes that each names; of a film any moment, and captions of the whole film."""
    if kind == FILMS:
        rng = film_stream("scenes", pool, seed, index)
        film = sample_film("scenes", rng)
        told = describe_film_naming(film, rng, CAPTIONS_PER_SCENE)
        return film.at(float(rng.random())), told
    if kind == WEB:
        rng = web_stream(pool, seed, index)
        scene = sample_scene(LOOK, rng)
        return scene, alt_texts(scene, rng, CAPTIONS_PER_SCENE)
    rng = generator(kind, pool, seed, index)
    scene = sample_scene(kind, rng)
    return scene, describe_naming(scene, rng, CAPTIONS_PER_SCENE)


def draw_pool(pool: str, seed: int, count: int, styles: Sequence[str] = FIRST_STYLES) -> Pool:
    """`count` scenes, the styles, any of `KINDS`, taking turns."""
    starts = range(0, count, _BLOCK)
    stops = [min(start + _BLOCK, count) for start in starts]
    images, captions, named, things, backgrounds = [], [], [], [], []
    with workers() as executor:
        blocks = executor.map(draw_block, [pool] * len(stops), [seed] * len(stops), starts, stops, [styles] * len(stops))
        for block in track(blocks, f"draw {pool}", count, "scenes", size=_BLOCK):
            images.append(block[0])
            captions.extend(block[1])
            named.extend(block[2])
            things.extend(block[3])
            backgrounds.extend(block[4])
    order = np.array([KINDS.index(style) for style in styles])
    return Pool(np.concatenate(images), captions, named, order[np.arange(count) % len(order)], things, backgrounds)


def coverage(things: Sequence[Sequence[Thing]], cells: int) -> Tensor:
    """(B, 27 + 11, cells, cells): how much of each cell the boxes of each class, then of each colour, cover; 0 to 1."""
    maps = np.zeros((len(things), len(CLASSES) + len(COLOURS), cells, cells), np.float32)
    edges = np.arange(cells + 1) / cells
    for row, scene in enumerate(things):
        for thing in scene:
            left, top, right, bottom = thing.box
            across = np.clip(np.minimum(right, edges[1:]) - np.maximum(left, edges[:-1]), 0, None) * cells
            down = np.clip(np.minimum(bottom, edges[1:]) - np.maximum(top, edges[:-1]), 0, None) * cells
            share = np.outer(down, across)
            for channel in (CLASSES.index(thing.name), len(CLASSES) + _COLOUR_NAMES.index(thing.colour)):
                maps[row, channel] = np.maximum(maps[row, channel], share)
    return torch.from_numpy(maps)
