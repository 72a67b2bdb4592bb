"""What a language model is told of an image.

Legend: B batch, L condition length, D CLIP width, Q prompt tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What the decoder sees in place of an image: vectors (B, L, D) and which of them count, mask (B, L) bool.

    prompt: (B, Q) ids of the language model's own tokens that stand between the prefix and the start token, a hard prompt as ViECap's;
    rows of unlike length filled with `IGNORE`, as `pad` does. They take room: a method counts the longest in its `prefix_length`.
    """

    vectors: Tensor
    mask: Tensor
    prompt: Tensor | None = None

    @staticmethod
    def full(vectors_BLD: Tensor, prompt_BQ: Tensor | None = None) -> Condition:
        """A condition in which every vector counts."""
        return Condition(vectors_BLD, torch.ones(vectors_BLD.shape[:2], dtype=torch.bool, device=vectors_BLD.device), prompt_BQ)
