"""Captions that say one thing: those of the same image, whether the image itself is known or not.

Legend: N captions, B of them in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core import paths
from ..core.errors import UserError
from ..core.tables import read_table
from .base import Models, Need


@dataclass(frozen=True)
class Groups:
    """Captions by image. order: (N,) rows of the corpus, those of one image side by side. place: (N,) where each row stands there. first,
    count: (N,) where the captions of its image begin, and how many there are."""

    order: Tensor
    place: Tensor
    first: Tensor
    count: Tensor

    def to(self, device: torch.device) -> Groups:
        """The same on a device."""
        return Groups(*(values.to(device) for values in (self.order, self.place, self.first, self.count)))

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) for each of these rows another caption of its image, all others alike; a caption that has none is its own."""
        count_B = self.count[rows]
        steps_B = 1 + (torch.rand(len(rows), generator=generator).to(rows.device) * (count_B - 1)).long()
        return self.order[self.first[rows] + (self.place[rows] - self.first[rows] + steps_B) % count_B]


@dataclass(frozen=True)
class Siblings(Need[Groups]):
    """Which captions are of the same image, as the corpus table says it."""

    kinds = ("text",)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return []

    def models(self, clip: str, dataset: str) -> Models:
        """None: no model says what belongs together."""
        return Models({}, ())

    def load(self, clip: str, dataset: str) -> Groups:
        table = paths.corpus_table(dataset)
        ids = read_table(table, ["image_id"])["image_id"]
        keys = [(row, "") if key is None else (-1, key) for row, key in enumerate(ids)]  # of no image: a caption alone
        number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        groups_N = np.array([number_of[key] for key in keys])
        counts = np.bincount(groups_N)
        if counts.max() < 2:
            raise UserError(f"{table} has no two captions of one image: set train.several to false, or name a corpus that has")
        order = np.argsort(groups_N, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        firsts = np.cumsum(counts) - counts
        return Groups(*map(torch.from_numpy, (order, place, firsts[groups_N], counts[groups_N])))
