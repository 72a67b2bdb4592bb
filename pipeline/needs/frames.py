"""Key frames of videos, in the order of time.

Legend: M videos, B of them in memory, F key frames, D CLIP width.
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
from ..features.frames import FrameParams, seed_of
from ..features.regions import Prepared, prepare
from ..features.stores import read, read_seeds, unit
from .base import Models, Parts, PictureNeed

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..features.encoders import Clip


@dataclass(frozen=True)
class Frames(PictureNeed[Parts]):
    """As `frames` in params.yaml has them: (M, F, D). A picture is a video that stands still."""

    kinds = ("frames",)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.frames(clip, dataset)]

    def load(self, clip: str, dataset: str) -> Parts:
        store = read(*self.folders(clip, dataset)).require(source_digest=digest_file(self.table(dataset)))
        return Parts(torch.from_numpy(store.features), torch.from_numpy(read_seeds(store.path)))

    def maker(self, clip: Clip, params: dict[str, Any]) -> FrameMaker:
        return FrameMaker(clip, section(FrameParams, params, "frames").count)


class FrameMaker:
    """Single frames (B, 1, D) float32, and of these videos (B, F, D)."""

    def __init__(self, clip: Clip, count: int) -> None:
        self.clip, self.batch, self.count = clip, clip.params.batch, count
        self.models = Models({f"CLIP {clip.folder.name}": clip.digest}, (clip.folder,))

    def prepare(self, picture: Image) -> Prepared:
        """Its pixels as the CLIP takes them, and what its video's seed follows from."""
        return prepare(self.clip, picture)

    def make(self, prepared: Sequence[Prepared]) -> tuple[Parts, list[dict[str, Any]]]:
        features = torch.from_numpy(unit(self.clip.encode_pixels([each.pixels for each in prepared])))
        return Parts(features[:, None], torch.tensor([each.seed for each in prepared])), [{}] * len(prepared)

    def join(self, of_frames: Parts, counts: Sequence[int]) -> Parts:
        """Frames by videos; a picture's one as often as a video has some."""
        features, seeds = of_frames.features[:, 0].split(list(counts)), of_frames.seeds.split(list(counts))
        return Parts(torch.stack([its.expand(self.count, -1) for its in features]),
                     torch.tensor([seed_of(its.expand(self.count).tolist()) for its in seeds]))
