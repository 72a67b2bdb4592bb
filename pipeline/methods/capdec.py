"""CapDec: noise on text features in training, so that the decoder also understands image features (Nukrai et al., EMNLP 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..core.params import Spread
from ..language.condition import Condition
from ..needs.base import Inputs
from ..needs.images import Images
from ..needs.text import Text
from .base import Method, MethodParams


@dataclass(frozen=True)
class CapDecParams(MethodParams):
    """noise_variance: variance of the Gaussian noise per dimension (paper: 0.016 for 640 dimensions, section 3.2).

    The noise's length grows with the square root of the width, so a narrower CLIP wants another value for the same angle.
    """

    noise_variance: Spread = 0.016


class CapDec(Method):
    paper = "CapDec: Text-Only Training for Image Captioning using Noise-Injected CLIP (Nukrai et al., EMNLP 2022)"
    supervision = "text"
    TrainParams = CapDecParams

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        """n(t + noise): (B, 1, D), unit rows. Paper: Eq. 1."""
        text_BD = corpus.of(Text).features[rows].float()
        noise_BD = torch.randn(text_BD.shape, generator=generator) * self.train.noise_variance**0.5
        return Condition.full(normalize(text_BD + noise_BD.to(text_BD.device), dim=-1)[:, None])

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """The image feature, without noise: (B, 1, D)."""
        return Condition.full(seen.of(Images).float()[:, None])
