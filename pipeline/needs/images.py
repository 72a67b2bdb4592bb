"""CLIP features of whole pictures, and of drawn ones what optimisation and projection made of them.

Legend: M pictures, B of them in memory, D CLIP width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..core import paths
from ..core.files import digest_file
from ..features.stores import read, unit
from .base import Models, PictureNeed

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..features.encoders import Clip


@dataclass(frozen=True)
class Images(PictureNeed[Tensor]):
    """Unit rows (M, D), float16 as stored."""

    kinds: ClassVar[tuple[str, ...]] = ("image", "frames", "regions", "tagged")

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.image_features(clip, dataset)]

    def load(self, clip: str, dataset: str) -> Tensor:
        store = read(*self.folders(clip, dataset)).require(source_digest=digest_file(self.table(dataset)))
        return torch.from_numpy(store.features)

    def maker(self, clip: Clip, params: dict[str, Any]) -> ImageMaker:
        return ImageMaker(clip)


class ImageMaker:
    """Unit rows (B, D) float32 of pictures in memory."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.batch = clip, clip.params.batch
        self.models = Models({f"CLIP {clip.folder.name}": clip.digest}, (clip.folder,))

    def prepare(self, picture: Image) -> Tensor:
        """Its pixels as the CLIP takes them: a photograph shrinks to a few hundred kilobytes."""
        return self.clip.pixels(picture)

    def make(self, prepared: Sequence[Tensor]) -> tuple[Tensor, list[dict[str, Any]]]:
        return torch.from_numpy(unit(self.clip.encode_pixels(prepared))), [{}] * len(prepared)

    def join(self, of_frames: Tensor, counts: Sequence[int]) -> Tensor:
        """The mean of a video's key frames; a picture's feature as it is."""
        parts = of_frames.split(list(counts))
        return torch.stack([part[0] if len(part) == 1 else normalize(part.mean(0), dim=-1) for part in parts])


@dataclass(frozen=True)
class PseudoFeatures(Images):
    """Features that stand for those of real pictures: of drawn ones, optimised (SynTIC, Eq. 2), projected onto captions (Eq. 3)."""

    optimized: bool
    projected: bool
    kinds = ("synthetic",)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.pseudo_features(clip, dataset, self.optimized, self.projected)]
