"""ClipCap: a mapper from the image feature to a prefix, trained on captioned images (Mokady et al., 2021, arXiv:2111.09734).

Paired: the upper bound that text-only methods are held against. The prefix is made of one feature at once, by an MLP or by a transformer
with learned constants. Main differences from the public code (rmokady/CLIP_prefix_caption):
- Features: its training takes them as encoded unless told `--normalize_prefix`, and only one of its notebooks, the transformer's,
  normalises them. Here training and inference see unit features.
- Language model: its recipe for the transformer freezes GPT-2 and trains the mapper alone (`--only_prefix`). Here both are always trained.
- Transformer: it turns the feature into `clip_length` vectors, a number of its own (40 in the recipe, as many as constants); here into P.
  Its layers are initialised one by one; here all start alike, as copies of one. Its attention has no biases on queries, keys and values;
  here it has, and they start at zero.
Legend: B batch, P prefix length, D CLIP width, W width of the language model's embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.errors import UserError
from ..core.params import Size
from ..language.condition import Condition
from ..needs.base import Inputs, Need
from ..needs.images import Images
from ..needs.pairs import Pairs
from .base import Method, MethodParams


@dataclass(frozen=True)
class ClipCapParams(MethodParams):
    """mapping: `mlp` or `transformer` (paper, section 3.2-3.3; 8 layers, 8 heads).

    prefix: length of the prefix (paper: 10 for the MLP; 40 for the transformer in the released code).
    layers, heads: of the transformer.
    """

    mapping: Literal["mlp", "transformer"] = "mlp"
    prefix: Size = 10
    layers: Size = 8
    heads: Size = 8


class MlpMapping(nn.Module):
    """One feature to P embeddings through a hidden layer of half their size, tanh."""

    def __init__(self, clip_width: int, lm_width: int, prefix: int) -> None:
        super().__init__()
        hidden = prefix * lm_width // 2
        self.layers = nn.Sequential(nn.Linear(clip_width, hidden), nn.Tanh(), nn.Linear(hidden, prefix * lm_width))
        self.prefix = prefix

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Prefix (B, P, W) and its mask (B, P)."""
        return full(self.layers(condition.vectors[:, 0]).unflatten(1, (self.prefix, -1)))


class TransformerMapping(nn.Module):
    """P embeddings of the feature and P learned constants through pre-norm layers; what becomes of the constants is the prefix."""

    def __init__(self, clip_width: int, lm_width: int, prefix: int, layers: int, heads: int) -> None:
        super().__init__()
        if lm_width % heads:
            raise UserError(f"params.yaml: ClipCap's heads {heads} must divide the language model's width {lm_width}")
        self.spread = nn.Linear(clip_width, prefix * lm_width)
        self.constants = nn.Parameter(torch.randn(prefix, lm_width))
        layer = nn.TransformerEncoderLayer(lm_width, heads, 2 * lm_width, dropout=0.0, batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Prefix (B, P, W) and its mask (B, P)."""
        prefix = len(self.constants)
        seen_BPW = self.spread(condition.vectors[:, 0]).unflatten(1, (prefix, -1))
        whole = torch.cat([seen_BPW, self.constants.expand(len(seen_BPW), -1, -1)], dim=1)
        return full(self.transformer(whole)[:, prefix:])


def full(prefix_BPW: Tensor) -> tuple[Tensor, Tensor]:
    """A prefix in which every embedding counts."""
    return prefix_BPW, torch.ones(prefix_BPW.shape[:2], dtype=torch.bool, device=prefix_BPW.device)


class ClipCap(Method):
    paper = "ClipCap: CLIP Prefix for Image Captioning (Mokady et al., 2021); supervised, the upper bound"
    supervision = "paired"
    TrainParams = ClipCapParams

    @property
    def learns_from(self) -> tuple[Need[Any], ...]:
        return (Pairs((Images(),)),)

    @property
    def prefix_length(self) -> int:
        return int(self.train.prefix)

    def mapper(self, clip_width: int, lm_width: int, shape: str) -> nn.Module:
        """ClipCap's own, whatever the decoder's `mapper` says."""
        if self.train.mapping == "mlp":
            return MlpMapping(clip_width, lm_width, self.train.prefix)
        return TransformerMapping(clip_width, lm_width, self.train.prefix, self.train.layers, self.train.heads)

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        """The feature of each caption's own image: (B, 1, D), unit rows."""
        return Condition.full(corpus.of(Pairs)[rows].of(Images).float()[:, None])

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """The image feature: (B, 1, D)."""
        return Condition.full(seen.of(Images).float()[:, None])
