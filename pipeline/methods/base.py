"""What every method shares: what it may see, what it hands to the decoder, and the protocol between them.

Legend: B batch, L prefix length, D CLIP width, N corpus captions, K neighbours, M pairs, C classes of the detector, O objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.core.params import StrictParams

if TYPE_CHECKING:
    from faiss import Index

Supervision = Literal["text", "synthetic", "few-pairs", "paired"]


@dataclass(frozen=True)
class MethodParams(StrictParams):
    """Keys that a method adds to a system's `train` (or `caption`) parameters."""


@dataclass(frozen=True)
class NoParams(MethodParams):
    """A method without parameters of its own."""


@dataclass(frozen=True)
class ObjectTags:
    """prompt: a class name's place in a sentence is `{}`. limit: most objects a picture."""

    prompt: str
    limit: int


@dataclass(frozen=True)
class Condition:
    """What the decoder sees in place of an image: vectors (B, L, D) and which of them count, mask (B, L) bool."""

    vectors: Tensor
    mask: Tensor

    @staticmethod
    def full(vectors_BLD: Tensor) -> Condition:
        """A condition in which every vector counts."""
        return Condition(vectors_BLD, torch.ones(vectors_BLD.shape[:2], dtype=torch.bool, device=vectors_BLD.device))


@dataclass(frozen=True)
class Objects:
    """Detected objects as text. labels: (C, D) unit text features of the detector's classes. ids: (B, O) of them, -1 where none is."""

    labels: Tensor
    ids: Tensor

    def __getitem__(self, rows: Any) -> Objects:
        return Objects(self.labels, self.ids[rows])

    def to(self, device: torch.device) -> Objects:
        """The same on a device."""
        return Objects(self.labels.to(device), self.ids.to(device))


@dataclass(frozen=True)
class Pairs:
    """Synthetic pictures of some captions. pair_of: (N,) row of each caption's picture, -1 where it has none.

    features: (M, D) unit pseudo-features, float16. objects: what was detected in the pictures, (M, O); None where no method asks.
    """

    pair_of: Tensor
    features: Tensor
    objects: Objects | None = None


@dataclass(frozen=True)
class Images:
    """What captioning knows of pictures. features: (B, D) unit rows. objects: what was detected, where a method asks."""

    features: Tensor
    objects: Objects | None = None

    def __getitem__(self, rows: Any) -> Images:
        return Images(self.features[rows], self.objects[rows] if self.objects else None)

    def to(self, device: torch.device) -> Images:
        """The same on a device, features in float32."""
        return Images(self.features.to(device, torch.float32), self.objects.to(device) if self.objects else None)


@dataclass(frozen=True)
class Corpus:
    """Sentences and their CLIP text features: all that a text-only method may see, in training and as support at inference.

    name: of the corpus in params.yaml. features: (N, D) unit rows, float16. norms: (N,) lengths before normalisation. neighbours: (N, K)
    rows of the nearest other captions, best first. index: nearest-neighbour search over `features`. pairs: for methods trained on them.
    """

    name: str
    texts: Sequence[str]
    features: Tensor
    norms: Tensor
    neighbours: Tensor
    index: Index
    pairs: Pairs | None = None


class Method:
    """How one paper bridges what it may train on and what it gets at inference.

    A method made of conditions implements `training_condition` and `inference_condition`; a training-free one implements `caption`.
    """

    paper: ClassVar[str]
    supervision: ClassVar[Supervision]
    TrainParams: ClassVar[type[MethodParams]] = NoParams
    CaptionParams: ClassVar[type[MethodParams]] = NoParams
    trains: ClassVar[bool] = True
    uses_support: ClassVar[bool] = True  # whether captioning looks at a support set, so that another one makes a difference
    uses_pairs: ClassVar[bool] = False  # whether training needs synthetic pictures of the captions

    def __init__(self, train: Any, caption: Any) -> None:
        self.train = train
        self.caption_params = caption

    @property
    def prefix_length(self) -> int:
        """L: how many vectors a condition has."""
        return 1

    @property
    def objects(self) -> ObjectTags | None:
        """How detected objects are told to the method; None if it takes none."""
        return None

    def front(self, clip_width: int) -> nn.Module | None:
        """A trainable part before the decoder's mapper, from `Condition` to `Condition`; None for most methods."""
        return None

    def training_condition(self, corpus: Corpus, rows: Tensor, generator: torch.Generator) -> Condition:
        """What stands for the images of the captions at `rows` (B,). All randomness comes from `generator`."""
        raise NotImplementedError(f"{type(self).__name__} is not trained")

    def inference_condition(self, images: Images, support: Corpus) -> Condition:
        """What the decoder gets for pictures."""
        raise NotImplementedError(f"{type(self).__name__} captions without a decoder")

    def caption(self, images: Images, support: Corpus) -> list[str]:
        """One caption per image, for methods without a decoder."""
        raise NotImplementedError(f"{type(self).__name__} needs a decoder")

    @property
    def decodes(self) -> bool:
        """Whether conditions go through a decoder; a method that implements `caption` has none."""
        return type(self).caption is Method.caption
