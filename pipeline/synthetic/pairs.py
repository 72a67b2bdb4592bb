"""Reading synthetic pairs and object tags: which captions were drawn, their pseudo-features, and the objects as text features.

Legend: N corpus captions, M pairs, D CLIP width, C classes of the detector, L objects of one picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, read_json
from pipeline.core.tables import read_table
from pipeline.features.stores import read, unit
from pipeline.methods.base import Objects, Pairs

_HELDOUT_SHARE = 20  # one in twenty of the captions drawn is held out, whatever the corpus's own share


def choose_rows(splits: Sequence[str], count: int | None) -> NDArray[np.int64]:
    """Rows of the `count` captions that are drawn, in the corpus's order: a fixed random choice, a twentieth of it held-out sentences.

    All rows when `count` is None or no smaller than the corpus.
    """
    names = np.array(splits)
    if count is None or count >= len(names):
        return np.arange(len(names))
    rng = np.random.default_rng(len(names))
    heldout, train = (rng.permutation(np.flatnonzero(kind)) for kind in (names == "heldout", names != "heldout"))
    kept = max(min(max(1, count // _HELDOUT_SHARE), len(heldout)), count - len(train))
    return np.sort(np.concatenate([heldout[:kept], train[: count - kept]]))


def pair_features(clip: str, corpus: str, refined: bool, projected: bool) -> Path:
    """The store of pseudo-features: as CLIP saw the pictures, optimised (SynTIC Eq. 2), projected (Eq. 3), or both."""
    if projected:
        return paths.projected(clip, corpus) / ("refined.zarr" if refined else "synthetic.zarr")
    return paths.refined(clip, corpus) / "features.zarr" if refined else paths.synthetic(corpus) / "features" / f"{clip}.zarr"


def read_pairs(corpus: str) -> tuple[list[int], list[str]]:
    """Rows of the corpus that have a synthetic picture, and their caption ids; `UserError` if they are another corpus's."""
    folder, table = paths.synthetic(corpus), paths.corpus_table(corpus)
    pairs = read_table(folder / "pairs.parquet", ["row", "caption_id", "text"])
    whole = read_table(table, ["caption_id", "text"])
    captions = list(zip(whole["caption_id"], whole["text"], strict=True))
    drawn = zip(pairs["row"], pairs["caption_id"], pairs["text"], strict=True)
    if any(row >= len(captions) or captions[row] != (key, text) for row, key, text in drawn):
        raise UserError(f"{folder} was made from another corpus than {table}: run `dvc repro`")
    return pairs["row"], pairs["caption_id"]


def load_pairs(clip: str, corpus: str, captions: int, refined: bool, projected: bool, objects: int, device: torch.device,
               encode: Callable[[Sequence[str]], Tensor] | None, clip_digest: str | None = None) -> Pairs:
    """The pairs of a corpus of `captions` captions. objects: most tags a picture; encode: text features of class names, None for no tags.
    clip_digest: of the CLIP that the features must come from.

    Raises `UserError` when artefacts are missing or do not belong together.
    """
    folder = paths.synthetic(corpus)
    rows, ids = read_pairs(corpus)
    store = read(pair_features(clip, corpus, refined, projected)).require(clip_digest, digest_file(folder / "pairs.parquet"))
    pair_of = torch.full((captions,), -1, dtype=torch.long)
    pair_of[torch.tensor(rows)] = torch.arange(len(rows))
    found = read_objects(folder, ids, objects, device, encode) if encode else None
    return Pairs(pair_of.to(device), torch.from_numpy(store.features).to(device), found)


def read_objects(folder: Path, ids: Sequence[str], limit: int, device: torch.device, encode: Callable[[Sequence[str]], Tensor]) -> Objects:
    """Distinct objects of each picture in `ids`, the surest first, at most `limit`; (C, D) text features of the detector's classes."""
    labels: list[str] = read_json(folder / "tags.json")["labels"]
    table = read_table(folder / "tags.parquet", ["id", "label", "score"])
    found: dict[str, dict[str, float]] = {}
    for key, label, score in zip(table["id"], table["label"], table["score"], strict=True):
        of_picture = found.setdefault(key, {})
        of_picture[label] = max(score, of_picture.get(label, 0.0))
    numbers = {label: number for number, label in enumerate(labels)}
    ranked = [[numbers[label] for label in sorted(found.get(key, {}), key=lambda name: -found[key][name])] for key in ids]
    return objects_of(ranked, limit, encode(labels)).to(device)


def objects_of(ranked: Sequence[Sequence[int]], limit: int, labels_CD: Tensor) -> Objects:
    """Objects from class numbers per picture, the surest first."""
    longest = max([1, *(min(len(row), limit) for row in ranked)])
    ids = [[*row[:limit], *[-1] * (longest - len(row[:limit]))] for row in ranked]
    return Objects(labels_CD, torch.tensor(ids, dtype=torch.long).reshape(len(ranked), longest))


def label_encoder(clip: Any, prompt: str) -> Callable[[Sequence[str]], Tensor]:
    """Unit text features of class names in a prompt with one `{}`."""
    return lambda labels: torch.from_numpy(unit(clip.encode_texts([prompt.format(label) for label in labels])))
