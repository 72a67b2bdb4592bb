"""What a language model is told of an image.

Legend: B batch, L condition length, D CLIP width, Q prompt tokens, S tokens that a text begins with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What the decoder sees in place of an image: vectors (B, L, D) and which of them count, mask (B, L) bool; without any, L = 0, there is
    no prefix.

    prompt: (B, Q) ids of the language model's own tokens that stand between the prefix and the start token, a hard prompt as ViECap's;
    rows of unlike length filled with `IGNORE`, as `pad` does. They take room: a method counts the longest in its `prefix_length`.
    begun: (B, S) ids that the text begins with, start token and a question as a rule, in place of the start token alone; rows of unlike
    length filled with `IGNORE` in front. It is for what is written, not for training.
    """

    vectors: Tensor
    mask: Tensor
    prompt: Tensor | None = None
    begun: Tensor | None = None

    @staticmethod
    def full(vectors_BLD: Tensor, prompt_BQ: Tensor | None = None) -> Condition:
        """A condition in which every vector counts."""
        return Condition(vectors_BLD, torch.ones(vectors_BLD.shape[:2], dtype=torch.bool, device=vectors_BLD.device), prompt_BQ)

    def without_vectors(self) -> Condition:
        """The same text, told nothing of an image."""
        return replace(self, vectors=self.vectors[:, :0], mask=self.mask[:, :0], prompt=None)


def question_prompt(question: str) -> str:
    """What an answer is the rest of (MacCap's released code, after BLIP-2)."""
    return f"Question: {question} Short answer:"
