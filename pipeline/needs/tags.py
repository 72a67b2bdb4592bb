"""Detected objects as text features.

Legend: M pictures, C classes of the detector, D CLIP width, O objects of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..core import paths
from ..core.artefacts import again, repair, whole
from ..core.errors import UserError
from ..core.files import digest_file, read_json
from ..core.params import section
from ..core.tables import read_table
from ..features.tags import TagParams, encode_labels
from .base import Models, PictureNeed

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..features.encoders import Clip


@dataclass(frozen=True)
class Found:
    """Objects of M pictures. labels: (C, D) unit text features of the detector's classes. ids: (M, O) of them, -1 where none is."""

    labels: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> Found:
        return Found(self.labels, self.ids[rows])

    def to(self, device: torch.device) -> Found:
        """The same on a device."""
        return Found(self.labels.to(device), self.ids.to(device))


@dataclass(frozen=True)
class Objects(PictureNeed[Found]):
    """Distinct objects that a detector finds, the surest first, at most `limit` a picture."""

    detector: str
    limit: int
    kinds = ("tagged",)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.tagged(clip, self.detector, dataset)]

    def models(self, clip: str, dataset: str) -> Models:
        folder = paths.tagged(clip, self.detector, dataset)
        about = read_json(whole(folder / "tagged.json"))
        return Models({f"CLIP {clip}": about["clip_digest"], f"detector {self.detector}": about["detector_digest"]},
                      (folder, paths.tags(self.detector, dataset)))

    def load(self, clip: str, dataset: str) -> Found:
        folder, table = paths.tagged(clip, self.detector, dataset), self.table(dataset)
        if read_json(whole(folder / "tagged.json"))["source_digest"] != digest_file(table):
            raise UserError(f"{folder} was made from other images than {table}: {again(folder)}")
        labels = folder / "labels.safetensors"
        try:
            labels_CD = load_file(labels)["labels"]
        except (OSError, KeyError, SafetensorError) as error:
            raise UserError(f"{labels} is missing or damaged ({error}): {repair(folder)}") from None
        return found(read_table(folder / "objects.parquet", ["objects"])["objects"], self.limit, labels_CD)

    def maker(self, clip: Clip, params: dict[str, Any]) -> ObjectMaker:
        return ObjectMaker(self, clip, params)


class ObjectMaker:
    """Objects of pictures in memory, and what they are called."""

    def __init__(self, need: Objects, clip: Clip, params: dict[str, Any]) -> None:
        from ..features.tagging import load_detector

        self.limit, self.detector = need.limit, load_detector(need.detector, params, clip.device)
        self.batch = self.detector.params.batch
        self.models = Models({f"detector {need.detector}": self.detector.digest}, (self.detector.folder,))
        self.labels_CD = encode_labels(clip, self.detector.labels, section(TagParams, params, "tag").prompt)

    def prepare(self, picture: Image) -> Image:
        """The picture itself."""
        return picture

    def make(self, prepared: Sequence[Image]) -> tuple[Found, list[dict[str, Any]]]:
        detected = self.detector.detect(prepared)
        ranked = [list(dict.fromkeys(self.detector.labels.index(each.label) for each in one)) for one in detected]
        return found(ranked, self.limit, self.labels_CD), [{"objects": [asdict(each) for each in one]} for one in detected]


def found(ranked: Sequence[Sequence[int]], limit: int, labels_CD: Tensor) -> Found:
    """Objects from class numbers per picture, the surest first."""
    longest = max([1, *(min(len(row), limit) for row in ranked)])
    ids = [[*row[:limit], *[-1] * (longest - len(row[:limit]))] for row in ranked]
    return Found(labels_CD, torch.tensor(ids, dtype=torch.long).reshape(len(ranked), longest))
