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
from pipeline.core.paths import ImageSet
from pipeline.features.stores import Origin, write_store
from pipeline.features.tagging import Detection, DetectorParams, tag_images
from pipeline.features.tags import embed_tags
from pipeline.images import write_pictures

CLIP, CLIP_DIGEST, WIDTH = "tiny", "c" * 64, 8
DETECTOR, DETECTOR_DIGEST = "stub", "d" * 64
LABELS = ["cat", "dog", "tree", "sun"]
PROMPT = "a photo of a {}"
# below the features of drawn pictures: as CLIP saw them, refined, projected, both
PAIR_STORES = ("drawn", "refined/features", "projected/drawn", "projected/refined")


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
    pictures, clip = ImageSet(corpus, drawn=True), clip or StubClip()
    pictures.folder.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(paths.corpus_table(corpus)).take(list(rows))
    keys, shard = [f"{row:09d}" for row in rows], "pictures-000000.tar"
    write_pictures(pictures.folder / shard, {key: Image.new("RGB", (8, 8), (row % 256, 0, 0)) for key, row in zip(keys, rows, strict=True)},
                   dict(zip(keys, table["text"].to_pylist(), strict=True)))
    pq.write_table(pa.table({
        "image_id": table["caption_id"], "path": [f"{shard}!{key}.png" for key in keys], "split": table["split"], "text": table["text"],
        "attempts": [1] * len(keys),
    }), pictures.table)
    write_json(pictures.folder / "report.json", {"asked": len(rows), "drawn": len(rows), "drawn_again": 0, "blanked_for_good": [],
                                                 "captions_in_corpus": pq.read_metadata(paths.corpus_table(corpus)).num_rows})
    seal(pictures.folder)
    write_pair_store(corpus, "drawn", features, clip.digest)
    write_found(pictures, found or [[]] * len(rows), clip)


def write_found(pictures: ImageSet, found: Sequence[Sequence[Detection]], clip: Any = None) -> None:
    """What was found in pictures that lie there with their features, as tags and in the space of `clip` (else of `StubClip`)."""
    tag_images(DETECTOR, ToldDetector(found), pictures)
    embed_tags(CLIP, clip or StubClip(), DETECTOR, pictures, PROMPT)


def write_pair_store(corpus: str, name: str, features: np.ndarray, clip_digest: str = CLIP_DIGEST) -> None:
    """One of `PAIR_STORES`."""
    origin = Origin(CLIP, clip_digest, features.shape[1], "none", digest_file(ImageSet(corpus, drawn=True).table), "float32")
    write_store(paths.synthetic_features(CLIP, corpus) / name, features, origin)
    seal(paths.synthetic_features(CLIP, corpus) / name.split("/")[0])


def _seen(brightness: float) -> list[Detection]:
    if brightness < 40:
        return []
    whole, upper = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.5)
    return [Detection(LABELS[int(brightness - 40) // 60], 0.9, whole), Detection("sun", brightness / 512, upper)]
