"""Sentences with their text features, and each caption's nearest others.

Legend: N captions, K neighbours, D CLIP width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..core import paths
from ..core.files import digest_file
from ..core.tables import read_table
from ..features.indexing import read_neighbours
from ..features.retrieval import Index
from ..features.stores import read
from .base import Models, Need


@dataclass(frozen=True)
class Sentences:
    """The captions of one data set. features: (N, D) unit text features, float16. norms: (N,) lengths before normalisation."""

    name: str
    texts: Sequence[str]
    features: Tensor
    norms: Tensor

    def to(self, device: torch.device) -> Sentences:
        """The same on a device."""
        return Sentences(self.name, self.texts, self.features.to(device), self.norms.to(device))

    @cached_property
    def index(self) -> Index:
        """Nearest-neighbour search over `features`, built when first asked for."""
        return Index(self.features)


@dataclass(frozen=True)
class Text(Need[Sentences]):
    """Captions and their CLIP features."""

    kinds = ("text",)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.text_features(clip, dataset)]

    def load(self, clip: str, dataset: str) -> Sentences:
        store = read(paths.text_features(clip, dataset)).require(source_digest=digest_file(paths.corpus_table(dataset)))
        texts = read_table(paths.corpus_table(dataset), ["text"])["text"]
        return Sentences(dataset, texts, torch.from_numpy(store.features), torch.from_numpy(store.norms))


@dataclass(frozen=True)
class Neighbours(Need[Tensor]):
    """Rows of each caption's nearest others, best first: (N, K) int32."""

    kinds = ("text",)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.neighbours(clip, dataset)]

    def models(self, clip: str, dataset: str) -> Models:
        return Models.of_store(paths.text_features(clip, dataset))

    def load(self, clip: str, dataset: str) -> Tensor:
        return torch.from_numpy(read_neighbours(clip, dataset))
