"""Each caption's nearest other captions.

Cost: N x N x D multiply-adds (60,000 captions of width 128: 0.9 TFLOP), done in blocks; what is kept is N x k rows. An index for search
is not kept: an exact one is the features themselves, and is built from them in no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from pydantic import Field

from ..core import paths
from ..core.artefacts import again, repair, whole
from ..core.errors import UserError
from ..core.params import StrictParams
from ..core.resume import resumable
from .retrieval import Index, nearest_others
from .stores import SHARD_ROWS, chunk_files, create_array, forget_description, read, read_origin


@dataclass(frozen=True)
class IndexParams(StrictParams):
    """`index` in params.yaml.

    corpora: whose captions' neighbours are found, which Knight is trained on. neighbours: how many other captions are kept for each;
    Knight's k may not exceed it.
    """

    corpora: tuple[str, ...] = ()
    neighbours: Annotated[int, Field(ge=1, le=10_000)] = 20


def index_corpus(clip_name: str, corpus: str, params: IndexParams, device: torch.device) -> None:
    """Write the neighbours of a corpus in one CLIP space. Raises `UserError` for a corpus of too few captions."""
    store = read(paths.text_features(clip_name, corpus))
    rows = len(store.features)
    with resumable(paths.neighbours(clip_name, corpus), __name__, source=store.origin.source_digest, clip=store.origin.clip_digest,
                   neighbours=params.neighbours, device=device.type) as work:
        index = Index(torch.from_numpy(store.features).to(device))
        forget_description(work.output)
        array = create_array(work.output, (rows, params.neighbours), "int32", -1)
        for start, stop in work.shards(rows, SHARD_ROWS, f"neighbours of {corpus}", "captions"):
            array[start:stop] = nearest_others(index, store.features, range(start, stop), params.neighbours)[1]
            work.record(str(start), files=chunk_files(work.output, start))
        array.attrs.update({"source_digest": store.origin.source_digest, "clip_digest": store.origin.clip_digest})


def read_neighbours(clip_name: str, corpus: str) -> NDArray[np.int32]:
    """(N, K) rows of each caption's nearest others. Raises `UserError` if they were not found in the features that are there."""
    store = paths.text_features(clip_name, corpus)
    origin = read_origin(store)
    folder = paths.neighbours(clip_name, corpus)
    if not (folder / "zarr.json").exists():
        raise UserError(f"{folder} is missing: add {corpus} to index.corpora in params.yaml and run `dvc repro`")
    whole(folder)
    try:
        neighbours = zarr.open_array(folder, mode="r")
        made_from = (neighbours.attrs.get("source_digest"), neighbours.attrs.get("clip_digest"))
        found = np.asarray(neighbours[...])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{folder} is damaged ({error}): {repair(folder)}") from None
    if made_from != (origin.source_digest, origin.clip_digest):
        raise UserError(f"{folder} was made from another corpus or CLIP than {store}: {again(folder)}")
    if (found < 0).any():  # what Zarr reads where a chunk is missing
        raise UserError(f"{folder} lacks chunks: {repair(folder)}")
    return found
