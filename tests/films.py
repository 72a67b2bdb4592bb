"""A small data set of videos with a picture among them, for tests of what looks at them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.videos import write_video

FILES = ("a.mp4", "b.mp4", "c.png", "d.mp4", "e.mp4")  # d has fewer frames than are wanted, e is a copy of a
FRAMES = {"a.mp4": 11, "b.mp4": 8, "d.mp4": 2}


def blocks(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture that looks like no other one, to a CLIP that has learnt nothing too."""
    colours = np.random.default_rng(seed).integers(0, 255, (2, 2, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def film(path: Path, frames: int, seed: int) -> None:
    """A video whose every frame is another picture."""
    write_video(path, [blocks(100 * seed + number) for number in range(frames)], rate=8)


def write_films(dataset: str) -> list[Path]:
    """`FILES` with their image table, in the current folder."""
    folder = paths.raw(dataset)
    folder.mkdir(parents=True)
    for seed, (name, frames) in enumerate(FRAMES.items(), 1):
        film(folder / name, frames, seed)
    blocks(7, (80, 60)).save(folder / "c.png")
    shutil.copyfile(folder / "a.mp4", folder / "e.mp4")
    paths.corpus(dataset).mkdir(parents=True)
    pq.write_table(pa.table({"image_id": [name[0] for name in FILES], "path": list(FILES), "split": ["test"] * len(FILES)}),
                   paths.image_table(dataset))
    seal(paths.corpus(dataset))
    return [folder / name for name in FILES]
