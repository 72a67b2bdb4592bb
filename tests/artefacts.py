"""Artefacts of a small corpus in the current folder, written as the stages write them, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from pipeline.core import paths
from pipeline.core.artefacts import MANIFEST, seal
from pipeline.core.files import digest_file, read_json, write_json
from pipeline.features.stores import Origin, write_store
from pipeline.features.tagging import Detection, DetectorParams, tag_images
from pipeline.features.tags import embed_tags
from pipeline.images import write_pictures

CLIP, CLIP_DIGEST, WIDTH = "tiny", "c" * 64, 8
DETECTOR, DETECTOR_DIGEST = "stub", "d" * 64
LABELS = ["cat", "dog", "tree", "sun"]
PROMPT = "a photo of a {}"
# features of drawn pictures, and whether they are optimised and projected
PAIR_STORES = {"drawn": (False, False), "optimised": (True, False), "projected": (False, True), "both": (True, True)}


def seal_again(path: Path) -> None:
    """Seal the artefact that a path is, or lies in, as a test left it: what is wrong in it is then as if its stage had written it so."""
    for folder in (path, *path.parents):
        if (folder / MANIFEST).is_file():
            seal(folder)


def edit_json(path: Path, **values: Any) -> None:
    """Other values in a JSON file of an artefact."""
    write_json(path, {**read_json(path), **values})
    seal_again(path)


def edit_table(path: Path, table: pa.Table) -> None:
    """Another table in an artefact."""
    pq.write_table(table, path)
    seal_again(path)


class StubClip:
    """A CLIP in whose space the n-th of the texts that are encoded together is the n-th axis."""

    digest, width, preprocessing, precision = CLIP_DIGEST, WIDTH, "none", "float32"

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(len(texts), WIDTH, dtype=np.float32)


class StubDetector:
    """Calls a picture by how bright it is: nothing below 40, then the class of every further 60, and always a sun, less surely."""

    folder, labels, digest, params = Path(DETECTOR), LABELS, DETECTOR_DIGEST, DetectorParams()
    precision, device = "float32", torch.device("cpu")

    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        return [_seen(float(np.asarray(image).mean())) for image in images]


class ToldDetector(StubDetector):
    """Finds in one picture after the other what it was told, whatever they show."""

    def __init__(self, found: Sequence[Sequence[Detection]]) -> None:
        self.found = list(found)

    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        now, self.found = self.found[: len(images)], self.found[len(images) :]
        return [list(each) for each in now]


def write_corpus(name: str, texts: Sequence[str], heldout: Sequence[int] = ()) -> None:
    """The corpus table, five sentences an image; `heldout` are the rows of held-out sentences."""
    paths.corpus(name).mkdir(parents=True, exist_ok=True)
    rows = range(len(texts))
    pq.write_table(pa.table({
        "caption_id": [f"{name}-{row}" for row in rows], "image_id": [str(row // 5) for row in rows], "text": list(texts),
        "split": ["heldout" if row in heldout else "train" for row in rows],
    }), paths.corpus_table(name))
    seal(paths.corpus(name))


def write_texts(corpus: str, features: np.ndarray, clip_digest: str = CLIP_DIGEST) -> None:
    """The store of a corpus's text features."""
    origin = Origin(CLIP, clip_digest, features.shape[1], "none", digest_file(paths.corpus_table(corpus)), "float32")
    write_store(paths.text_features(CLIP, corpus), features, origin)
    seal(paths.text_features(CLIP, corpus))


def write_pairs(corpus: str, rows: Sequence[int], features: np.ndarray, found: Sequence[Sequence[Detection]] = (),
                clip: Any = None) -> None:
    """Plain pictures drawn of some rows of a corpus, with the store of their features and what was found in them, in the space of `clip`
    (else of `StubClip`)."""
    dataset, clip, table = paths.drawn(corpus), clip or StubClip(), pq.read_table(paths.corpus_table(corpus))
    paths.raw(dataset).mkdir(parents=True, exist_ok=True)
    paths.corpus(dataset).mkdir(parents=True, exist_ok=True)
    keys, shard, drawn = [f"{row:09d}" for row in rows], "pictures-000000.tar", table.take(list(rows))
    pictures = {key: Image.new("RGB", (8, 8), (row % 256, 0, 0)) for key, row in zip(keys, rows, strict=True)}
    write_pictures(paths.raw(dataset) / shard, pictures, dict(zip(keys, drawn["text"].to_pylist(), strict=True)))
    pq.write_table(pa.table({
        "image_id": drawn["caption_id"], "path": [f"{shard}!{key}.png" for key in keys], "split": drawn["split"], "text": drawn["text"],
        "attempts": [1] * len(keys),
    }), paths.image_table(dataset))
    ids = pa.array([key if row in rows else None for row, key in enumerate(table["caption_id"].to_pylist())], pa.string())
    pq.write_table(table.set_column(1, "image_id", ids), paths.corpus_table(dataset))
    write_json(paths.corpus(dataset) / "report.json", {
        "asked": len(rows), "drawn": len(rows), "drawn_again": 0, "blanked_for_good": [], "captions_in_corpus": table.num_rows,
        "corpus_digest": digest_file(paths.corpus_table(corpus)),
    })
    seal(paths.raw(dataset))
    seal(paths.corpus(dataset))
    write_pair_store(corpus, "drawn", features, clip.digest)
    write_found(dataset, found or [[]] * len(rows), clip)


def write_found(dataset: str, found: Sequence[Sequence[Detection]], clip: Any = None) -> None:
    """What was found in pictures that lie there with their features, as tags and in the space of `clip` (else of `StubClip`)."""
    tag_images(DETECTOR, ToldDetector(found), dataset)
    embed_tags(CLIP, clip or StubClip(), DETECTOR, dataset, PROMPT)


def pair_store(corpus: str, name: str) -> Path:
    """Where one of `PAIR_STORES` lies."""
    return paths.pseudo_features(CLIP, paths.drawn(corpus), *PAIR_STORES[name])


def write_pair_store(corpus: str, name: str, features: np.ndarray, clip_digest: str = CLIP_DIGEST) -> None:
    """One of `PAIR_STORES`."""
    path, table = pair_store(corpus, name), paths.image_table(paths.drawn(corpus))
    write_store(path, features, Origin(CLIP, clip_digest, features.shape[1], "none", digest_file(table), "float32"))
    seal(path if name == "drawn" else path.parent)


def _seen(brightness: float) -> list[Detection]:
    if brightness < 40:
        return []
    whole, upper = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.5)
    return [Detection(LABELS[int(brightness - 40) // 60], 0.9, whole), Detection("sun", brightness / 512, upper)]
