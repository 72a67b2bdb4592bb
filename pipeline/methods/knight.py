"""Knight: k-nearest-neighbour cross-modality mapping, for images and videos ("From Association to Generation", Wang et al., IJCAI 2023).

Training and inference both see captions only: the k corpus captions nearest to the training caption, or to the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..core.errors import UserError
from ..core.params import Spread, Whole
from ..features.retrieval import search
from ..language.condition import Condition
from ..needs.base import Inputs, Need, PictureNeed
from ..needs.frames import Frames
from ..needs.images import Images
from ..needs.text import Neighbours, Sentences, Text
from .base import Method, MethodParams


@dataclass(frozen=True)
class KnightParams(MethodParams):
    """k: neighbours in the prefix, in training and at inference (paper: 5 in the released code, swept in Figure 6); 0 maps nothing:
    the caption's own feature in training, the image's at inference.

    noise_std: Gaussian noise on the neighbours in training (0.5 in the released code, on un-normalised features; not in the paper).
    normalized: unit neighbours (True) or the un-normalised ones of the released code (False).
    """

    k: Whole = 5
    noise_std: Spread = 0.0
    normalized: bool = True


@dataclass(frozen=True)
class KnightCaptionParams(MethodParams):
    """frames: what a video's prefix is made of. `pooled`: the k captions nearest to the mean of its key frames, as of a picture's feature.
    `each`: for every key frame, in the order of time, the mean of the k captions nearest to it (paper: Eq. 7-8). `shuffled`: the same in
    random order, as in the released code; the order follows from the video's pixels. Training is the same for all, so `frames.count`
    must be k in the latter two (5 in the released code).
    """

    frames: Literal["pooled", "each", "shuffled"] = "pooled"


class Knight(Method):
    paper = "Knight: From Association to Generation: Text-only Captioning by Unsupervised Cross-modal Mapping (Wang et al., IJCAI 2023)"
    supervision = "text"
    TrainParams = KnightParams
    CaptionParams = KnightCaptionParams

    @property
    def learns_from(self) -> tuple[Need[Any], ...]:
        return Text(), Neighbours()

    @property
    def looks_at(self) -> tuple[PictureNeed[Any], ...]:
        return (Images() if self.caption_params.frames == "pooled" else Frames(),)

    @property
    def looks_up(self) -> tuple[Need[Any], ...]:
        return (Text(),)

    @property
    def prefix_length(self) -> int:
        return max(self.train.k, 1)

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        """Features of each caption's k nearest other captions, most similar first: (B, k, D). Paper: section 3.2, Eq. 4-5."""
        neighbours_NK = corpus.of(Neighbours)
        if self.train.k > neighbours_NK.shape[1]:
            raise UserError(f"params.yaml: k is {self.train.k}, but the index holds {neighbours_NK.shape[1]} neighbours a caption: "
                            "raise index.neighbours")
        near_BK = neighbours_NK[rows, : self.train.k] if self.train.k else rows[:, None]
        vectors_BKD = self._features(corpus.of(Text), near_BK)
        noise_BKD = torch.randn(vectors_BKD.shape, generator=generator) * self.train.noise_std
        return Condition.full(vectors_BKD + noise_BKD.to(vectors_BKD.device))

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """Features of the k captions nearest to the image, most similar first: (B, k, D). Paper: section 3.2, Eq. 6. Of key frames the mean
        of those of each: (B, F, D). Paper: section 3.3, Eq. 7-8."""
        if self.caption_params.frames == "pooled":
            return Condition.full(self._near(seen.of(Images).float(), support.of(Text)))
        parts = seen.of(Frames)
        frames_BFD = parts.features.float()
        if frames_BFD.shape[1] != self.prefix_length:
            raise UserError(f"params.yaml: frames.count is {frames_BFD.shape[1]}, but a prefix of k = {self.train.k} has "
                            f"{self.prefix_length} vectors, whose places key frames take: make them equal, or caption with frames: pooled")
        if self.caption_params.frames == "shuffled":
            orders = [torch.randperm(frames_BFD.shape[1], generator=torch.Generator().manual_seed(seed)) for seed in parts.seeds.tolist()]
            frames_BFD = torch.stack([frames[order.to(frames.device)] for frames, order in zip(frames_BFD, orders, strict=True)])
        near_MKD = self._near(frames_BFD.flatten(0, 1), support.of(Text))
        return Condition.full(near_MKD.mean(1).unflatten(0, frames_BFD.shape[:2]))

    def _near(self, images_BD: Tensor, sentences: Sentences) -> Tensor:
        """Features (B, k, D) of the captions nearest to images or frames; these themselves where k is 0."""
        if self.train.k == 0:
            return images_BD[:, None]
        _, near_BK = search(sentences.index, images_BD.cpu().numpy(), self.train.k)
        return self._features(sentences, torch.from_numpy(near_BK).to(images_BD.device))

    def _features(self, corpus: Sentences, rows_BK: Tensor) -> Tensor:
        unit_BKD = corpus.features[rows_BK].float()
        return unit_BKD if self.train.normalized or self.train.k == 0 else unit_BKD * corpus.norms[rows_BK][..., None]
