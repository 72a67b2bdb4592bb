"""Regions of pictures: what MacCap puts in place of one feature.

Legend: M pictures, B of them in memory, R regions, D CLIP width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import zarr
from torch import Tensor

from pipeline.core import paths
from pipeline.core.files import digest_file
from pipeline.core.params import section
from pipeline.features.regions import Prepared, RegionParams, boxes, find, prepare
from pipeline.features.stores import read
from pipeline.needs.base import Models, PictureNeed

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipeline.features.encoders import Clip


@dataclass(frozen=True)
class Parts:
    """Regions of M pictures. features: (M, R, D) unit rows, float16 as stored. seeds: (M,) int64, from their pixels, for noise."""

    features: Tensor
    seeds: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Any) -> Parts:
        return Parts(self.features[rows], self.seeds[rows])

    def to(self, device: torch.device) -> Parts:
        """The same on a device; seeds stay on the CPU, where noise is drawn."""
        return Parts(self.features.to(device), self.seeds)


@dataclass(frozen=True)
class Regions(PictureNeed[Parts]):
    """As `regions` in params.yaml has them."""

    kinds = ("regions",)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.regions(clip, dataset)]

    def load(self, clip: str, dataset: str) -> Parts:
        store = read(*self.folders(clip, dataset)).require(source_digest=digest_file(self.table(dataset)))
        seeds = np.asarray(zarr.open_array(store.path / "seeds", mode="r", zarr_format=3)[...])
        return Parts(torch.from_numpy(store.features), torch.from_numpy(seeds))

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
