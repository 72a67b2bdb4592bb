"""The CLIP that a system looks with, for methods that read sentences of their own while they caption: reranking, MAGIC, ZeroCap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core import paths
from ..core.files import digest_model
from ..core.params import load
from .base import Models, PictureNeed

if TYPE_CHECKING:
    from ..features.encoders import Clip


@dataclass(frozen=True)
class Tower:
    """The same CLIP for every picture; it is loaded when it is first put on a device."""

    name: str
    digest: str
    clip: Clip | None = None

    def __getitem__(self, rows: Any) -> Tower:
        return self

    def to(self, device: torch.device) -> Tower:
        """Itself, loaded on a device."""
        return Tower(self.name, self.digest, self.clip or _loaded(self.name, device, self.digest))


@dataclass(frozen=True)
class TextTower(PictureNeed[Tower]):
    """It stands beside what is read of pictures, and has the weights that saw them."""

    kinds = ("image", "frames", "regions", "tagged")

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.foundation(clip)]

    def digest(self, clip: str, dataset: str) -> list[str]:
        return [digest_model(paths.foundation(clip))]

    def models(self, clip: str, dataset: str) -> Models:
        return Models({f"CLIP {clip}": digest_model(paths.foundation(clip))}, (paths.foundation(clip),))

    def load(self, clip: str, dataset: str) -> Tower:
        return Tower(clip, digest_model(paths.foundation(clip)))

    def maker(self, clip: Clip, params: dict[str, Any]) -> TowerMaker:
        return TowerMaker(clip)


class TowerMaker:
    """Hands on the CLIP that looks at pictures in memory."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.batch = clip, clip.params.batch
        self.models = Models({f"CLIP {clip.folder.name}": clip.digest}, (clip.folder,))

    def prepare(self, picture: Any) -> None:
        """Nothing of the picture is needed."""

    def make(self, prepared: Sequence[None]) -> tuple[Tower, list[dict[str, Any]]]:
        return Tower(self.clip.folder.name, self.clip.digest, self.clip), [{}] * len(prepared)

    def join(self, of_frames: Tower, counts: Sequence[int]) -> Tower:
        """The same for every video."""
        return of_frames


@cache
def _loaded(name: str, device: torch.device, digest: str) -> Clip:
    from ..features.encoders import load_clip

    return load_clip(name, load(), device)
