"""Regions of pictures: what MacCap puts in place of one feature.

Legend: M pictures, B of them in memory, R regions, D CLIP width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core import paths
from ..core.files import digest_file
from ..core.params import section
from ..features.regions import Prepared, RegionParams, boxes, find, prepare
from ..features.stores import read, read_seeds
from .base import Models, Parts, PictureNeed

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..features.encoders import Clip


@dataclass(frozen=True)
class Regions(PictureNeed[Parts]):
    """As `regions` in params.yaml has them."""

    kinds = ("regions",)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.regions(clip, dataset)]

    def load(self, clip: str, dataset: str) -> Parts:
        store = read(*self.folders(clip, dataset)).require(source_digest=digest_file(self.table(dataset)))
        return Parts(torch.from_numpy(store.features), torch.from_numpy(read_seeds(store.path)))

    def maker(self, clip: Clip, params: dict[str, Any]) -> RegionMaker:
        return RegionMaker(clip, params)


class RegionMaker:
    """Regions of pictures in memory, and where they lie."""

    def __init__(self, clip: Clip, params: dict[str, Any]) -> None:
        self.clip, self.batch, self.params = clip, clip.params.batch, section(RegionParams, params, "regions")
        self.models = Models({f"CLIP {clip.folder.name}": clip.digest}, (clip.folder,))

    def prepare(self, picture: Image) -> Prepared:
        """Its pixels as the CLIP takes them, and what noise and boxes follow from."""
        return prepare(self.clip, picture)

    def make(self, prepared: Sequence[Prepared]) -> tuple[Parts, list[dict[str, Any]]]:
        found = find(self.clip, prepared, self.params)
        parts = Parts(found.features, torch.tensor([each.seed for each in prepared]))
        return parts, [{"size": each.size, "regions": its} for each, its in zip(prepared, boxes(self.clip, found, prepared), strict=True)]
