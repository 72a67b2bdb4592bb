"""A caption that lets gradients through: tokens drawn by Gumbel-Softmax (Jang et al., 2017), each fed back as a mixture of embeddings.

Two ways, of the same captions: token by token with the key/value cache, or drawn without gradients first and read again in one pass.

Legend: B batch, T tokens, V vocabulary, W width of the language model's embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .decoding import Steps


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
        token_BV = ((steps.log_probs + _gumbel(steps.log_probs, generator)) / temperature).softmax(-1)
        chosen_B = token_BV.argmax(-1)
        if hard:
            token_BV = _straight_through(token_BV, chosen_B)
        tokens.append(token_BV)
        mask.append(open_B)
        open_B = open_B & (chosen_B != end)
        if len(tokens) == length or not bool(open_B.any()):
            return Rollout(torch.stack(tokens, dim=1), torch.stack(mask, dim=1))
        steps.step_embedded(token_BV @ words_VW)


def roll_out_in_one_pass(predict: Callable[[Tensor], Tensor], steps: Steps, end: int, length: int, temperature: float,
                         generator: torch.Generator) -> Rollout:
    """The hard tokens that `roll_out` draws with the same generator, and their gradients but for those through what is fed back: each token
    is learnt as if those before it were given. Less time and memory, since the drawing keeps nothing.

    steps: without gradients. predict: from the tokens (B, T - 1) of a caption but the last, logits (B, T, V) of all of them.
    """
    ids, noise, mask, open_B = [], [], [], torch.ones(len(steps.log_probs), dtype=torch.bool, device=steps.log_probs.device)
    with torch.no_grad():
        while True:
            noise.append(_gumbel(steps.log_probs, generator))
            ids.append((steps.log_probs + noise[-1]).argmax(-1))
            mask.append(open_B)
            open_B = open_B & (ids[-1] != end)
            if len(ids) == length or not bool(open_B.any()):
                break
            steps.step(ids[-1])
    ids_BT = torch.stack(ids, dim=1)
    log_probs_BTV = predict(ids_BT[:, :-1]).float().log_softmax(-1)
    tokens_BTV = ((log_probs_BTV + torch.stack(noise, dim=1)) / temperature).softmax(-1)
    return Rollout(_straight_through(tokens_BTV, ids_BT), torch.stack(mask, dim=1))


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Gumbel noise of a tensor's shape, on its device."""
    return -torch.empty(like.shape, device=generator.device).exponential_(generator=generator).log().to(like.device)


def _straight_through(soft: Tensor, chosen: Tensor) -> Tensor:
    """(..., V) one-hot, with the gradient of the soft ones."""
    return torch.nn.functional.one_hot(chosen, soft.shape[-1]) + (soft - soft.detach())
