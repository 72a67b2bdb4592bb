"""CLOSE: noise on text features in training, mapped to a few tokens of the language model (Gu et al., ICCV 2023, arXiv:2211.09778).

With one caption an image it is CapDec with another mapper. With several, a decoder reads one caption and learns to say another of the
same image, so that what it is told and what it says differ as image and caption do, and less noise is wanted. Main differences from the
public code (allenai/close):
- Language model: a T5-base, whose encoder reads the tokens. Here our decoder, as for every method, with the tokens as its prefix.
- Several captions: each caption is read, and all others of its image are said. Here each caption is said once an epoch, and another one
  drawn to be read: in expectation the same pairs, in batches of as many texts as any method's.
- Targets are lower-cased there; here as the decoder's tokens have them.
Legend: B batch, P prefix length, D CLIP width, W width of the language model's embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..core.params import Size, Spread
from ..language.condition import Condition
from ..needs.base import Inputs, Need
from ..needs.images import Images
from ..needs.siblings import Siblings
from ..needs.text import Text
from .base import Method, MethodParams
from .clipcap import full


@dataclass(frozen=True)
class CloseParams(MethodParams):
    """noise_std: standard deviation of the Gaussian noise per dimension (released code, for 768 dimensions: 0.12; 0.04 with `several`).

    several: read one caption, say another of the same image. prefix: tokens that a feature becomes (4).
    """

    noise_std: Spread = 0.12
    several: bool = False
    prefix: Size = 4


class LinearTokens(nn.Module):
    """One feature to P embeddings, by one linear layer."""

    def __init__(self, clip_width: int, lm_width: int, prefix: int) -> None:
        super().__init__()
        self.linear = nn.Linear(clip_width, prefix * lm_width)
        self.prefix = prefix

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Prefix (B, P, W) and its mask (B, P)."""
        return full(self.linear(condition.vectors[:, 0]).unflatten(1, (self.prefix, -1)))


class Close(Method):
    paper = "CLOSE: I Can't Believe There's No Images! Learning Visual Tasks Using only Language Supervision (Gu et al., ICCV 2023)"
    supervision = "text"
    TrainParams = CloseParams

    @property
    def learns_from(self) -> tuple[Need[Any], ...]:
        return Text(), *([Siblings()] if self.train.several else [])

    @property
    def prefix_length(self) -> int:
        return int(self.train.prefix)

    def mapper(self, clip_width: int, lm_width: int, shape: str) -> nn.Module:
        """CLOSE's own, whatever the decoder's `mapper` says."""
        return LinearTokens(clip_width, lm_width, self.train.prefix)

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        """n(t + noise), t of the caption itself or of another one of its image: (B, 1, D), unit rows."""
        read = corpus.of(Siblings).draw(rows, generator) if self.train.several else rows
        text_BD = corpus.of(Text).features[read].float()
        noise_BD = torch.randn(text_BD.shape, generator=generator) * self.train.noise_std
        return Condition.full(normalize(text_BD + noise_BD.to(text_BD.device), dim=-1)[:, None])

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """The image feature, without noise: (B, 1, D)."""
        return Condition.full(seen.of(Images).float()[:, None])
