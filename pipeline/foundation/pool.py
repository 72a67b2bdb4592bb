"""The foundation pool: scenes of every style with their captions, kept in memory as arrays."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from pipeline.progress import track
from pipeline.world.captions import describe
from pipeline.world.scenes import STYLES, generator, render, sample_scene

CAPTIONS_PER_SCENE = 5
_BLOCK = 500


@dataclass(frozen=True)
class Pool:
    """images: (N, 64, 64, 3) uint8. captions: N lists of five. styles: (N,) index into `STYLES`."""

    images: NDArray[np.uint8]
    captions: list[list[str]]
    styles: NDArray[np.int64]


def draw_block(pool: str, seed: int, start: int, stop: int) -> tuple[NDArray[np.uint8], list[list[str]]]:
    """Scenes `start` to `stop` of a pool, the styles taking turns."""
    images, captions = [], []
    for index in range(start, stop):
        style = STYLES[index % len(STYLES)]
        rng = generator(style, pool, seed, index)
        scene = sample_scene(style, rng)
        images.append(np.asarray(render(scene)))
        captions.append(describe(scene, rng, CAPTIONS_PER_SCENE))
    return np.stack(images), captions


def draw_pool(pool: str, seed: int, count: int, workers: int = 2) -> Pool:
    """`count` scenes, half of each style; the result does not depend on `workers`."""
    starts = range(0, count, _BLOCK)
    stops = [min(start + _BLOCK, count) for start in starts]
    images, captions = [], []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        blocks = executor.map(draw_block, [pool] * len(stops), [seed] * len(stops), starts, stops)
        for block_images, block_captions in track(blocks, f"draw {pool}", count, "scenes", size=_BLOCK):
            images.append(block_images)
            captions.extend(block_captions)
    return Pool(np.concatenate(images), captions, np.arange(count) % len(STYLES))
