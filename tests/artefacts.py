"""Artefacts of a small corpus in the current folder, written as the stages write them, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from pipeline.core import paths
from pipeline.core.files import digest_file, write_json
from pipeline.features.stores import Origin, write_store
from pipeline.features.tagging import Detection, DetectorParams, write_tags

CLIP, CLIP_DIGEST, WIDTH = "tiny", "c" * 64, 8
LABELS = ["cat", "dog", "tree", "sun"]
# below the folder of synthetic pairs: as CLIP saw the pictures, refined, projected, both
PAIR_STORES = ("features/tiny.zarr", "../refined/tiny/features.zarr", "../projected/tiny/synthetic.zarr", "../projected/tiny/refined.zarr")


def write_corpus(name: str, texts: Sequence[str], heldout: Sequence[int] = ()) -> None:
    """The corpus table; `heldout` are the rows of held-out sentences."""
    paths.corpus(name).mkdir(parents=True, exist_ok=True)
    rows = range(len(texts))
    pq.write_table(pa.table({
        "caption_id": [f"{name}-{row}" for row in rows], "image_id": [str(row // 5) for row in rows], "text": list(texts),
        "split": ["heldout" if row in heldout else "train" for row in rows],
    }), paths.corpus_table(name))


def write_texts(corpus: str, features: np.ndarray, clip_digest: str = CLIP_DIGEST) -> None:
    """The store of a corpus's text features."""
    origin = Origin(CLIP, clip_digest, features.shape[1], "none", digest_file(paths.corpus_table(corpus)))
    write_store(paths.text_features(CLIP, corpus), features, origin)


def write_pairs(corpus: str, rows: Sequence[int], features: np.ndarray, found: Sequence[Sequence[Detection]] = (),
                clip_digest: str = CLIP_DIGEST) -> None:
    """Synthetic pairs of some rows of a corpus, with a store of pseudo-features and tags."""
    folder = paths.synthetic(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(paths.corpus_table(corpus)).take(list(rows)).select(["caption_id", "text", "split"])
    pq.write_table(table.append_column("row", pa.array(list(rows))).append_column("attempts", pa.array([1] * len(rows))),
                   folder / "pairs.parquet")
    write_pair_store(corpus, "features/tiny.zarr", features, clip_digest)
    write_tags(folder / "tags.parquet", table["caption_id"].to_pylist(), found or [[]] * len(rows))
    write_json(folder / "report.json", {"asked": len(rows)})
    write_json(folder / "tags.json", {"labels": LABELS, "detector_digest": "d" * 64})


def write_pair_store(corpus: str, name: str, features: np.ndarray, clip_digest: str = CLIP_DIGEST) -> None:
    """One of `PAIR_STORES`."""
    folder = paths.synthetic(corpus)
    origin = Origin(CLIP, clip_digest, features.shape[1], "none", digest_file(folder / "pairs.parquet"))
    write_store(folder / name, features, origin)


class StubDetector:
    """Calls a picture by how bright it is: nothing below 40, then the class of every further 60, and always a sun, less surely."""

    folder, labels, digest, params, device = Path("stub"), LABELS, "d" * 64, DetectorParams("stub"), torch.device("cpu")

    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        return [_seen(float(np.asarray(image).mean())) for image in images]


def _seen(brightness: float) -> list[Detection]:
    if brightness < 40:
        return []
    whole, upper = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.5)
    return [Detection(LABELS[int(brightness - 40) // 60], 0.9, whole), Detection("sun", brightness / 512, upper)]
