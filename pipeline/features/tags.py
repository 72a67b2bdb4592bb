"""Object tags in a CLIP's space: class names as text features, and which of them were found in each picture.

Legend: M pictures, C classes of the detector, D CLIP width, O objects of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core.artefacts import again, repair, whole
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, digest_tree, read_json, write_json
from pipeline.core.params import StrictParams
from pipeline.core.paths import ImageSet
from pipeline.core.resume import finished_folder
from pipeline.core.tables import read_table
from pipeline.features.data import Objects
from pipeline.features.stores import read_origin, unit

if TYPE_CHECKING:
    from pipeline.features.encoders import Clip


@dataclass(frozen=True)
class TagParams(StrictParams):
    """`tag` in params.yaml: which detectors (entries of `detectors`) name the objects in the images of which data sets, for which CLIPs.

    prompt: the sentence of an object's name, read by CLIP's text tower (CLIP's own "a photo of a {}"; SynTIC names none).
    """

    detectors: tuple[str, ...]
    datasets: tuple[str, ...]
    clips: tuple[str, ...]
    prompt: str = "a photo of a {}"

    def __post_init__(self) -> None:
        if (self.prompt.count("{}"), self.prompt.count("{"), self.prompt.count("}")) != (1, 1, 1):
            raise ValueError("prompt must hold one {} for the object's name")


def embed_tags(clip_name: str, clip: Clip, detector: str, pictures: ImageSet, prompt: str) -> None:
    """Write what `read_tagged` reads. Raises `UserError` when tags and image features are not of the same pictures."""
    tags, store = pictures.tags(detector), pictures.features(clip_name)
    about = read_json(whole(tags / "tags.json"))
    origin = read_origin(store)
    if about["source_digest"] != origin.source_digest:
        stale = store if about["source_digest"] == digest_file(pictures.table) else tags
        raise UserError(f"{tags} was made from other pictures than {store}: {again(stale)}")
    if clip.digest != origin.clip_digest:
        raise UserError(f"{store} was made with other weights than {clip_name} has now: {again(store)}")
    ids = read_table(pictures.table, ["image_id"])["image_id"]
    ranked = _ranked(tags / "tags.parquet", ids, about["labels"])
    with finished_folder(pictures.tagged(clip_name, detector)) as folder:
        save_file({"labels": encode_labels(clip, about["labels"], prompt)}, folder / "labels.safetensors")
        pq.write_table(pa.table({"image_id": ids, "objects": pa.array(ranked, pa.list_(pa.int32()))}), folder / "objects.parquet")
        write_json(folder / "tagged.json", {
            "labels": about["labels"], "prompt": prompt, "clip_digest": clip.digest, "detector_digest": about["detector_digest"],
            "source_digest": origin.source_digest,
            "features_digest": digest_tree(store),  # what reads tags reads features too: a change of those must show here
        })


def encode_labels(clip: Clip, labels: Sequence[str], prompt: str) -> Tensor:
    """(C, D) unit text features of class names in a prompt with one `{}`."""
    return torch.from_numpy(unit(clip.encode_texts([prompt.format(label) for label in labels])))


def read_tagged(folder: Path, ids: Sequence[str], limit: int, clip_digest: str) -> Objects:
    """Distinct objects of the pictures `ids`, the surest first, at most `limit` each. Raises `UserError` for another CLIP's tags."""
    about = read_json(whole(folder / "tagged.json"))
    if about["clip_digest"] != clip_digest:
        raise UserError(f"{folder} was made with another CLIP than the image features: {again(folder)}")
    table = read_table(folder / "objects.parquet", ["image_id", "objects"])
    found = dict(zip(table["image_id"], table["objects"], strict=True))
    if missing := [key for key in ids if key not in found]:
        raise UserError(f"{folder} knows no image {missing[0]!r}: {again(folder)}")
    labels = folder / "labels.safetensors"
    try:
        labels_CD = load_file(labels)["labels"]
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{labels} is missing or damaged ({error}): {repair(folder)}") from None
    return objects_of([found[key] for key in ids], limit, labels_CD)


def objects_of(ranked: Sequence[Sequence[int]], limit: int, labels_CD: Tensor) -> Objects:
    """Objects from class numbers per picture, the surest first."""
    longest = max([1, *(min(len(row), limit) for row in ranked)])
    ids = [[*row[:limit], *[-1] * (longest - len(row[:limit]))] for row in ranked]
    return Objects(labels_CD, torch.tensor(ids, dtype=torch.long).reshape(len(ranked), longest))


def _ranked(table: Path, ids: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Distinct class numbers of each picture, the surest first."""
    rows = read_table(table, ["id", "label", "score"])
    found: dict[str, dict[str, float]] = {}
    for key, label, score in zip(rows["id"], rows["label"], rows["score"], strict=True):
        of_picture = found.setdefault(key, {})
        of_picture[label] = max(score, of_picture.get(label, 0.0))
    numbers = {label: number for number, label in enumerate(labels)}
    return [[numbers[label] for label in sorted(found.get(key, {}), key=lambda name: -found[key][name])] for key in ids]
