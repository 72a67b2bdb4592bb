"""What a language model is told of an image.

Legend: B batch, L condition length, D CLIP width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What the decoder sees in place of an image: vectors (B, L, D) and which of them count, mask (B, L) bool."""

    vectors: Tensor
    mask: Tensor

    @staticmethod
    def full(vectors_BLD: Tensor) -> Condition:
        """A condition in which every vector counts."""
        return Condition(vectors_BLD, torch.ones(vectors_BLD.shape[:2], dtype=torch.bool, device=vectors_BLD.device))
