"""Captions and images into feature stores, shard by shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core import paths
from ..core.artefacts import whole_if_sealed
from ..core.errors import UserError
from ..core.files import digest_file, digest_of
from ..core.resume import resumable
from ..core.tables import read_table
from ..images import Source, locate, source_stamp
from ..videos import is_video
from .encoders import Clip
from .stores import Origin, write_shards


def embed_text(clip_name: str, clip: Clip, corpus: str) -> None:
    """Write the text store of a corpus: one row per row of its table, in that order."""
    table = paths.corpus_table(corpus)
    _embed_texts(paths.text_features(clip_name, corpus), clip, read_table(table, ["text"])["text"], origin_of(clip_name, clip, table),
                 f"embed {corpus} with {clip_name}")


def embed_references(clip_name: str, clip: Clip, dataset: str, prompt: str) -> None:
    """Write the store of a data set's references as the judge reads them, behind `prompt`: one row per row of their table."""
    table = paths.references_table(dataset)
    texts = [prompt + text for text in read_table(table, ["text"])["text"]]
    origin = replace(origin_of(clip_name, clip, table), source_digest=reference_source(dataset, prompt))
    _embed_texts(paths.reference_features(clip_name, dataset), clip, texts, origin, f"embed references of {dataset} with {clip_name}")


def picture_files(dataset: str) -> list[Source]:
    """The files of a data set's pictures, in its image table's order. `UserError` where videos are among them."""
    folder, table = whole_if_sealed(paths.raw(dataset)), paths.image_table(dataset)
    names = read_table(table, ["path"])["path"]
    if film := next(filter(is_video, names), None):
        raise UserError(f"{table} lists videos, such as {film}: name {dataset} in embed.frames.datasets in params.yaml, and nowhere where "
                        "single pictures are looked at")
    return [locate(folder, name) for name in names]


def embed_images(clip_name: str, clip: Clip, dataset: str) -> None:
    """Write the store of a data set's pictures: one row per row of its image table, in that order."""
    files, table = picture_files(dataset), paths.image_table(dataset)
    origin = origin_of(clip_name, clip, table)
    with resumable(paths.image_features(clip_name, dataset), __name__, origin=asdict(origin), batch=clip.params.batch,
                   files=[source_stamp(f) for f in files], **machine(clip)) as work:
        write_shards(work, (len(files), clip.width), origin, f"embed images of {dataset} with {clip_name}",
                     lambda start, stop: (clip.encode_files(files[start:stop]), 0))


def reference_source(dataset: str, prompt: str) -> str:
    """Digest of what a store of reference features is made from: the table, and the prompt before each sentence."""
    return digest_of([digest_file(paths.references_table(dataset)), prompt])


def _embed_texts(target: Path, clip: Clip, texts: Sequence[str], origin: Origin, label: str) -> None:
    def encode(start: int, stop: int) -> tuple[NDArray[np.float32], int]:
        part = texts[start:stop]
        tokens = clip.tokens(part)
        return clip.encode_tokens(tokens), clip.count_truncated(part, tokens)

    with resumable(target, __name__, origin=asdict(origin), batch=clip.params.batch, **machine(clip)) as work:
        write_shards(work, (len(texts), clip.width), origin, label, encode)


def origin_of(clip_name: str, clip: Clip, table: Path) -> Origin:
    """Of features of a table's rows; `UserError` where there is none."""
    if not table.exists():
        raise UserError(f"{table} is missing: run `dvc repro`")
    return Origin(clip_name, clip.digest, clip.width, clip.preprocessing, digest_file(table), clip.precision)


def machine(clip: Clip) -> dict[str, Any]:
    """What rounding depends on: shards of two devices are never mixed."""
    return {"device": clip.device.type, "threads": torch.get_num_threads()}
