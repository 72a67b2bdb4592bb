"""From a prefix to tokens: greedy and beam search with a key/value cache, without what is finished.

Scores, ties and lengths are those of transformers' `generate` (a test holds them together). What differs is the cost: an image leaves the
batch when its caption can no longer change, the prefix passes once per image and not once per beam, and a step does no more than one
forward pass, one top-k and one selection of cache rows. Legend: B images, K beams, P prefix length, T tokens, V vocabulary, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from pipeline.core.device import Precision
from pipeline.core.params import Count, StrictParams

_NEVER = -1e9


@dataclass(frozen=True)
class Decoding(StrictParams):
    """`captioning` in params.yaml. beams: 1 is greedy (DeCap), 5 is Knight's and CapDec's. length_penalty: beams are ranked by the sum
    of log-probabilities divided by length to this power. batch: images decoded at once. precision: see `Precision`."""

    beams: Annotated[int, Field(ge=1, le=1000)] = 5
    max_new_tokens: Annotated[int, Field(ge=1, le=10_000)] = 40
    length_penalty: Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)] = 1.0
    batch: Count = 256
    precision: Precision = "auto"


class Steps:
    """A language model under way: log-probabilities of the next token, row by row, the past kept."""

    def __init__(self, lm: Any, embeddings_BTW: Tensor, mask_BT: Tensor) -> None:
        self._lm = lm
        self._mask = mask_BT
        self._positions = mask_BT.sum(1, keepdim=True)
        self._plain = bool(mask_BT.all())  # nothing is masked: the model needs no mask
        result = lm(inputs_embeds=embeddings_BTW, attention_mask=mask_BT, position_ids=(mask_BT.cumsum(1) - 1).clamp(min=0),
                    use_cache=True, logits_to_keep=1)
        self._cache = result.past_key_values
        self.log_probs = result.logits[:, -1].float().log_softmax(-1)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the past, some perhaps several times."""
        if len(rows) == len(self._mask) and bool((rows == torch.arange(len(rows), device=rows.device)).all()):
            return
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def step(self, tokens_R: Tensor) -> None:
        """Append a token to every row."""
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        result = self._lm(input_ids=tokens_R[:, None], attention_mask=None if self._plain else self._mask, position_ids=self._positions,
                          past_key_values=self._cache, use_cache=True)
        self._positions = self._positions + 1
        self._cache = result.past_key_values
        self.log_probs = result.logits[:, -1].float().log_softmax(-1)


def greedy(lm: Any, embeddings_BTW: Tensor, mask_BT: Tensor, decoding: Decoding, end: int) -> list[list[int]]:
    """The likeliest token again and again, up to and without the end token."""
    steps = Steps(lm, embeddings_BTW, mask_BT)
    captions: list[list[int]] = [[] for _ in mask_BT]
    images_R = torch.arange(len(mask_BT), device=mask_BT.device)
    for length in range(1, decoding.max_new_tokens + 1):
        tokens_R = steps.log_probs.argmax(-1)
        goes_on = tokens_R != end
        for image, token in zip(images_R[goes_on].tolist(), tokens_R[goes_on].tolist(), strict=True):
            captions[image].append(token)
        images_R, tokens_R = images_R[goes_on], tokens_R[goes_on]
        if len(images_R) == 0 or length == decoding.max_new_tokens:
            break
        steps.select(goes_on.nonzero()[:, 0])
        steps.step(tokens_R)
    return captions


def beam_search(lm: Any, embeddings_BTW: Tensor, mask_BT: Tensor, decoding: Decoding, end: int) -> list[list[int]]:
    """The best of `beams` hypotheses by length-normalised log-probability, up to and without the end token."""
    steps, beams, device = Steps(lm, embeddings_BTW, mask_BT), decoding.beams, mask_BT.device
    captions: list[list[int]] = [[] for _ in mask_BT]
    images = torch.arange(len(mask_BT), device=device)
    sums_BK = torch.zeros(len(images), 1, device=device)  # one hypothesis so far, the empty one
    running_BKT = torch.empty(len(images), 1, 0, dtype=torch.long, device=device)
    done_BK = torch.full((len(images), beams), _NEVER, device=device)
    finished_BKT = torch.empty(len(images), beams, 0, dtype=torch.long, device=device)
    first_K = torch.arange(2 * beams, device=device) < beams
    for length in range(1, decoding.max_new_tokens + 1):
        total_BKV = sums_BK[..., None] + steps.log_probs.view(*sums_BK.shape, -1)
        vocabulary = total_BKV.shape[-1]
        best_BK2, flat_BK2 = total_BKV.flatten(1).topk(2 * beams, dim=1)
        beam_BK2, token_BK2 = flat_BK2 // vocabulary, flat_BK2 % vocabulary
        longer_BK2T = torch.cat([_pick(running_BKT, beam_BK2), token_BK2[..., None]], dim=2)
        ends_BK2 = (token_BK2 == end) | (length == decoding.max_new_tokens)

        scores_BK2 = torch.where(ends_BK2 & first_K, best_BK2 / length**decoding.length_penalty, _NEVER)
        padded_BKT = torch.nn.functional.pad(finished_BKT, (0, 1), value=end)
        done_BK, kept_BK = torch.cat([done_BK, scores_BK2], dim=1).topk(beams, dim=1)
        finished_BKT = _pick(torch.cat([padded_BKT, longer_BK2T], dim=1), kept_BK)

        sums_BK, kept_BK = torch.where(ends_BK2, _NEVER, best_BK2).topk(beams, dim=1)
        beam_BK, running_BKT = beam_BK2.gather(1, kept_BK), _pick(longer_BK2T, kept_BK)

        worst_B = done_BK[:, -1]
        open_B = (worst_B <= _NEVER / 2) | (sums_BK[:, 0] / length**decoding.length_penalty > worst_B)
        closed_B = ~open_B if length < decoding.max_new_tokens else torch.ones_like(open_B)
        for image, tokens in zip(images[closed_B].tolist(), finished_BKT[closed_B, 0].tolist(), strict=True):
            captions[image] = tokens[: tokens.index(end)] if end in tokens else tokens
        if bool(closed_B.all()):
            break
        rows_BK = torch.arange(len(images), device=device)[:, None] * total_BKV.shape[1] + beam_BK
        images, sums_BK, running_BKT = images[open_B], sums_BK[open_B], running_BKT[open_B]
        done_BK, finished_BKT = done_BK[open_B], finished_BKT[open_B]
        steps.select(rows_BK[open_B].flatten())
        steps.step(running_BKT[..., -1].flatten())
    return captions


def _pick(values_BKT: Tensor, rows_BK: Tensor) -> Tensor:
    """For each image the rows of its own that are named."""
    return values_BKT.gather(1, rows_BK[..., None].expand(-1, -1, values_BKT.shape[2]))
