"""A caption that lets gradients through: tokens drawn by Gumbel-Softmax (Jang et al., 2017), each fed back as a mixture of embeddings.

Legend: B batch, T tokens, V vocabulary, W width of the language model's embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.language.decoding import Steps


@dataclass(frozen=True)
class Rollout:
    """tokens: (B, T, V) distributions, one-hot where they are hard; times another model's embeddings (V, ...), what that model reads.
    mask: (B, T) bool, up to and with the first end token."""

    tokens: Tensor
    mask: Tensor


def roll_out(lm: Any, steps: Steps, end: int, length: int, temperature: float, generator: torch.Generator, hard: bool = True) -> Rollout:
    """At most `length` tokens, fewer where all have ended.

    temperature: of the softmax, low is close to one-hot. hard: one-hot, with the gradient of the soft ones (straight-through).
    """
    words = lm.get_input_embeddings()
    words_VW = words(torch.arange(steps.log_probs.shape[1], device=steps.log_probs.device))
    tokens, mask, open_B = [], [], torch.ones(len(steps.log_probs), dtype=torch.bool, device=words_VW.device)
    while True:
        noise_BV = -torch.empty(steps.log_probs.shape, device=generator.device).exponential_(generator=generator).log()
        token_BV = ((steps.log_probs + noise_BV.to(words_VW.device)) / temperature).softmax(-1)
        chosen_B = token_BV.argmax(-1)
        if hard:
            token_BV = torch.nn.functional.one_hot(chosen_B, token_BV.shape[1]) + (token_BV - token_BV.detach())
        tokens.append(token_BV)
        mask.append(open_B)
        open_B = open_B & (chosen_B != end)
        if len(tokens) == length or not bool(open_B.any()):
            return Rollout(torch.stack(tokens, dim=1), torch.stack(mask, dim=1))
        steps.step_embedded(token_BV @ words_VW)
