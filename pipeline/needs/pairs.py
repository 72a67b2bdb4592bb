"""Captions with their pictures, drawn or real.

Legend: N captions, M pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core import paths
from ..core.errors import UserError
from ..core.files import digest_file
from ..core.tables import read_table
from .base import Inputs, Models, Need, PictureNeed, models_of, read


@dataclass(frozen=True)
class Paired:
    """Pictures of captions. picture_of: (N,) row of each caption's picture, -1 where it has none. pictures: what is known of M pictures."""

    picture_of: Tensor
    pictures: Inputs

    def to(self, device: torch.device) -> Paired:
        """The same on a device."""
        return Paired(self.picture_of.to(device), self.pictures.to(device))

    def __getitem__(self, rows: Tensor) -> Inputs:
        """What is known of the pictures of captions (B,)."""
        return self.pictures[self.picture_of[rows]]


@dataclass(frozen=True)
class Pairs(Need[Paired]):
    """What `of` names of the pictures of a data set's captions."""

    of: tuple[PictureNeed[Any], ...]

    @property
    def parts(self) -> tuple[Need[Any], ...]:
        return self.of

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [folder for need in self.of for folder in need.folders(clip, dataset)]

    def digest(self, clip: str, dataset: str) -> list[str]:
        return [digest_file(paths.corpus_table(dataset)), *(digest for need in self.of for digest in need.digest(clip, dataset))]

    def models(self, clip: str, dataset: str) -> Models:
        return models_of(self.of, clip, dataset)

    def load(self, clip: str, dataset: str) -> Paired:
        table = paths.image_table(dataset)
        row_of = {key: row for row, key in enumerate(read_table(table, ["image_id"])["image_id"])}
        rows = [row_of.get(key, -1) for key in read_table(paths.corpus_table(dataset), ["image_id"])["image_id"]]
        if max(rows, default=-1) < 0:
            raise UserError(f"{table} holds no picture of a caption of {dataset}: set extract.{dataset}.paired to true, or name a corpus "
                            "that has its pictures")
        return Paired(torch.tensor(rows), read(self.of, clip, dataset))
