"""What methods see: sentences with their features, pictures of sentences, and what is known of pictures to be captioned.

Legend: N corpus captions, K neighbours, D CLIP width, M pictures, C classes of the detector, O objects, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor, device, empty, float32

if TYPE_CHECKING:
    from pipeline.features.retrieval import Index

_EMPTY = empty(0)

@dataclass(frozen=True)
class Objects:
    """Detected objects as text. labels: (C, D) unit text features of the detector's classes. ids: (B, O) of them, -1 where none is."""

    labels: Tensor
    ids: Tensor

    def __getitem__(self, rows: Any) -> Objects:
        return Objects(self.labels, self.ids[rows])

    def to(self, device: device) -> Objects:
        """The same on a device."""
        return Objects(self.labels.to(device), self.ids.to(device))


@dataclass(frozen=True)
class Seen:
    """What captioning knows of pictures. features: (B, D) unit rows. objects: what was detected, where a method asks."""

    features: Tensor
    objects: Objects | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Any) -> Seen:
        return Seen(self.features[rows], self.objects[rows] if self.objects else None)

    def to(self, device: device) -> Seen:
        """The same on a device, features in float32."""
        return Seen(self.features.to(device, float32), self.objects.to(device) if self.objects else None)


@dataclass(frozen=True)
class Pairs:
    """Pictures of captions, drawn or real. picture_of: (N,) row of each caption's picture, -1 where it has none.

    pictures: what is known of them, M rows; features may be float16.
    """

    picture_of: Tensor
    pictures: Seen


@dataclass(frozen=True)
class Corpus:
    """Sentences of one data set and what a method asked to know of them, in training and as support at inference.

    name: of the corpus in params.yaml. features: (N, D) unit text features, float16. norms: (N,) lengths before normalisation.
    neighbours: (N, K) rows of the nearest other captions, best first. pairs: for methods trained on pictures.
    What was not asked for is empty.
    """

    name: str
    texts: Sequence[str]
    features: Tensor = _EMPTY
    norms: Tensor = _EMPTY
    neighbours: Tensor = _EMPTY
    pairs: Pairs | None = None

    @cached_property
    def index(self) -> Index:
        """Nearest-neighbour search over `features`, built when first asked for."""
        from pipeline.features.retrieval import Index

        return Index(self.features)
