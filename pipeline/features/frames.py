"""Key frames of videos in a CLIP's space, and their mean, which stands for a video where a system looks at one picture.

Layout of a store: `features` (N, F, D) float16 unit rows in the order of time, `norms` (N, F) float32, `seeds` (N,) int64. Beside it lies
an image store (N, D) of the means.

Legend: N videos, B of them in memory, F key frames, D CLIP width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ..core import paths
from ..core.artefacts import whole_if_sealed
from ..core.params import Size, StrictParams
from ..core.resume import finished_folder, resumable
from ..core.tables import read_table
from ..images import Source, locate, prepared_ahead, source_stamp
from ..videos import open_frames
from .embedding import machine, origin_of
from .encoders import Clip
from .regions import Prepared, prepare
from .stores import read, unit, write_seeded_shards, write_shards, write_store


@dataclass(frozen=True)
class FrameParams(StrictParams):
    """`frames` in params.yaml. count: F, key frames of a video at equal steps (Knight: 5)."""

    count: Size = 5


def seed_of(seeds: Sequence[int]) -> int:
    """The seed of a video, from those of its key frames in their order."""
    return int.from_bytes(hashlib.sha256(repr(list(seeds)).encode()).digest()[:8], "big") >> 1


def mean(frames: NDArray[np.floating]) -> NDArray[np.float32]:
    """(B, D) means of unit rows (B, F, D), as image features of videos: what baselines are given in Tewel et al. (2022) and in Knight."""
    return unit(frames).mean(axis=1, dtype=np.float32)


def embed_frames(clip_name: str, clip: Clip, dataset: str, params: FrameParams) -> None:
    """Write the store of a data set's videos, one row per row of its image table, and that of their means. A picture among them is a video
    that stands still."""
    folder, table = whole_if_sealed(paths.raw(dataset)), paths.image_table(dataset)
    files = [locate(folder, name) for name in read_table(table, ["path"])["path"]]
    origin, target = origin_of(clip_name, clip, table), paths.frames(clip_name, dataset)
    with resumable(target, __name__, origin=asdict(origin), batch=clip.params.batch, frames=asdict(params),
                   files=[source_stamp(file) for file in files], **machine(clip)) as work:
        write_seeded_shards(work, (len(files), params.count, clip.width), origin, f"embed frames of {dataset} with {clip_name}", "videos",
                            lambda start, stop: _encode(clip, files[start:stop], params.count))
    with finished_folder(paths.image_features(clip_name, dataset)) as means:
        write_store(means, mean(read(target).features), origin)


def embed_means(clip_name: str, clip: Clip, dataset: str, params: FrameParams) -> None:
    """Write the image store of a data set's videos alone: what a judge sees of them."""
    folder, table = whole_if_sealed(paths.raw(dataset)), paths.image_table(dataset)
    files = [locate(folder, name) for name in read_table(table, ["path"])["path"]]
    origin = origin_of(clip_name, clip, table)
    with resumable(paths.image_features(clip_name, dataset), __name__, origin=asdict(origin), batch=clip.params.batch,
                   frames=asdict(params), files=[source_stamp(file) for file in files], **machine(clip)) as work:
        write_shards(work, (len(files), clip.width), origin, f"embed videos of {dataset} with {clip_name}",
                     lambda start, stop: (mean(_encode(clip, files[start:stop], params.count)[0]), 0))


def _encode(clip: Clip, files: Sequence[Source], count: int) -> tuple[NDArray[np.float32], list[int]]:
    """Raw features (B, F, D) of the key frames of videos on disk, and the videos' seeds; two batches of frames in memory at a time."""
    def prepared(source: Source) -> list[Prepared]:
        frames = [prepare(clip, frame) for frame in open_frames(source, count)]
        return frames if len(frames) == count else frames * count

    features, seeds = [], []
    for batch in prepared_ahead(files, max(1, clip.params.batch // count), prepared):
        found = clip.encode_pixels([frame.pixels for frames in batch for frame in frames])
        features.append(found.reshape(len(batch), count, clip.width))
        seeds += [seed_of([frame.seed for frame in frames]) for frames in batch]
    return np.concatenate(features), seeds
