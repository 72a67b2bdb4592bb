"""Object tags in a CLIP's space: class names as text features, and which of them were found in each picture.

Legend: C classes of the detector, D CLIP width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..core import paths
from ..core.artefacts import again, whole
from ..core.errors import UserError
from ..core.files import digest_file, digest_tree, read_json, write_json
from ..core.params import StrictParams
from ..core.resume import finished_folder
from ..core.tables import read_table
from .stores import read_origin, unit

if TYPE_CHECKING:
    from .encoders import Clip


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


def embed_tags(clip_name: str, clip: Clip, detector: str, dataset: str, prompt: str) -> None:
    """Write the classes in a CLIP's space, and which were found in each of a data set's pictures.

    Raises `UserError` when tags and image features are not of the same pictures.
    """
    tags, store, table = paths.tags(detector, dataset), paths.image_features(clip_name, dataset), paths.image_table(dataset)
    about = read_json(whole(tags / "tags.json"))
    origin = read_origin(store)
    if about["source_digest"] != origin.source_digest:
        stale = store if about["source_digest"] == digest_file(table) else tags
        raise UserError(f"{tags} was made from other pictures than {store}: {again(stale)}")
    if clip.digest != origin.clip_digest:
        raise UserError(f"{store} was made with other weights than {clip_name} has now: {again(store)}")
    ids = read_table(table, ["image_id"])["image_id"]
    ranked = _ranked(tags / "tags.parquet", ids, about["labels"])
    with finished_folder(paths.tagged(clip_name, detector, dataset)) as folder:
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


def _ranked(table: Path, ids: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Distinct class numbers of each picture, the surest first."""
    rows = read_table(table, ["id", "label", "score"])
    found: dict[str, dict[str, float]] = {}
    for key, label, score in zip(rows["id"], rows["label"], rows["score"], strict=True):
        of_picture = found.setdefault(key, {})
        of_picture[label] = max(score, of_picture.get(label, 0.0))
    numbers = {label: number for number, label in enumerate(labels)}
    return [[numbers[label] for label in sorted(found.get(key, {}), key=lambda name: -found[key][name])] for key in ids]
