"""DeCap: a decoder of text features; at inference the image is projected onto the corpus (Li et al., ICLR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..core.params import Temperature
from ..features.retrieval import project
from ..language.condition import Condition
from ..needs.base import Inputs, Need
from ..needs.images import Images
from ..needs.text import Text
from .base import Method, MethodParams


@dataclass(frozen=True)
class DeCapCaptionParams(MethodParams):
    """temperature: of the softmax over the support set (released notebook: 1/100; the paper gives no other value)."""

    temperature: Temperature = 0.01


class DeCap(Method):
    paper = "DeCap: Decoding CLIP Latents for Zero-Shot Captioning via Text-Only Training (Li et al., ICLR 2023)"
    supervision = "text"
    CaptionParams = DeCapCaptionParams

    @property
    def looks_up(self) -> tuple[Need[Any], ...]:
        return (Text(),)

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        """The caption's own text feature, without noise: (B, 1, D), unit rows. Paper: section 3.2."""
        return Condition.full(corpus.of(Text).features[rows].float()[:, None])

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """The image as a mixture of corpus captions, normalised again: (B, 1, D). Paper: Eq. 3-4."""
        mixtures_BD = project(seen.of(Images).float(), support.of(Text).features, self.caption_params.temperature)
        return Condition.full(normalize(mixtures_BD, dim=-1)[:, None])
