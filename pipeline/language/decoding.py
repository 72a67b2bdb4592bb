"""From a prefix to tokens: greedy search, beam search and samples with a key/value cache, without what is finished.

Scores, ties and lengths are those of transformers' `generate` (a test holds them together). What differs is the cost: an image leaves the
batch when its caption can no longer change, the prefix passes once per image and not once per beam, and a step does no more than one
forward pass, one top-k and one selection of cache rows.
Legend: B images, K beams, N samples an image, R rows under way, P prefix length, T tokens, V vocabulary, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ..core.device import Precision
from ..core.params import Count, StrictParams, Temperature

_NEVER = -1e9


@dataclass(frozen=True)
class Decoding(StrictParams):
    """`captioning` in params.yaml. beams: 1 is greedy (DeCap), 5 is Knight's and CapDec's. length_penalty: beams are ranked by the sum
    of log-probabilities divided by length to this power. temperature, top_p: where a method asks for samples, of the softmax that they
    are drawn from, and the share of it, likeliest tokens first, that is drawn from (Holtzman et al., 2020). batch: images decoded at once.
    precision: see `Precision`."""

    beams: Annotated[int, Field(ge=1, le=1000)] = 5
    max_new_tokens: Annotated[int, Field(ge=1, le=10_000)] = 40
    length_penalty: Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)] = 1.0
    temperature: Temperature = 1.0
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    batch: Count = 256
    precision: Precision = "auto"


Rescore = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A hook on every step. From the tokens so far (R, T), the log-probabilities of the next one (R, V) and each row's image (R,), its place in
the batch: scores (R, V) in place of the latter, finite, of any sum. It may take gradients under `torch.enable_grad`."""


def unchanged(tokens_RT: Tensor, log_probs_RV: Tensor, images_R: Tensor) -> Tensor:
    """The language model's own scores."""
    return log_probs_RV


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
        """Go on with these rows of the past, some perhaps several times. `log_probs` is of them after the next step."""
        if len(rows) == len(self._mask) and bool((rows == torch.arange(len(rows), device=rows.device)).all()):
            return
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def step(self, tokens_R: Tensor) -> None:
        """Append a token to every row."""
        self._step(input_ids=tokens_R[:, None])

    def step_embedded(self, embeddings_RW: Tensor) -> None:
        """Append what stands for a token."""
        self._step(inputs_embeds=embeddings_RW[:, None])

    def _step(self, **given: Tensor) -> None:
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        result = self._lm(**given, attention_mask=None if self._plain else self._mask, position_ids=self._positions,
                          past_key_values=self._cache, use_cache=True)
        self._positions = self._positions + 1
        self._cache = result.past_key_values
        self.log_probs = result.logits[:, -1].float().log_softmax(-1)


def greedy(steps: Steps, decoding: Decoding, end: int, rescore: Rescore = unchanged) -> list[list[int]]:
    """For each image the likeliest token again and again, up to and without the end token."""
    return _token_by_token(steps, decoding, end, rescore, 1, lambda scores_RV, rows_R, length: scores_RV.argmax(-1))


def sample(steps: Steps, decoding: Decoding, end: int, seeds: Sequence[int], samples: int,
           rescore: Rescore = unchanged) -> list[list[list[int]]]:
    """`samples` for each image, drawn token by token, up to and without the end token.

    seeds: one per image, from which alone its draws follow, whatever is sampled beside it.
    """
    draws = [torch.rand(samples, decoding.max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    draws_RT = torch.cat(draws).to(steps.log_probs.device)

    def choose(scores_RV: Tensor, rows_R: Tensor, length: int) -> Tensor:
        return draw(scores_RV / decoding.temperature, decoding.top_p, draws_RT[rows_R, length])

    images_R = torch.arange(len(seeds), device=draws_RT.device).repeat_interleave(samples)
    steps.select(images_R)
    steps.log_probs = steps.log_probs[images_R]
    found = _token_by_token(steps, decoding, end, rescore, samples, choose)
    return [found[first : first + samples] for first in range(0, len(found), samples)]


def draw(logits_RV: Tensor, top_p: float, draws_R: Tensor) -> Tensor:
    """(R,) tokens at places in [0, 1) of the softmax's cumulative sum, of the fewest likeliest tokens that make up `top_p` of it."""
    probs_RV, tokens_RV = logits_RV.softmax(-1).sort(dim=-1, descending=True, stable=True)
    sums_RV = probs_RV.cumsum(-1)
    kept_R1 = sums_RV.masked_fill(sums_RV - probs_RV >= top_p, 0).amax(-1, keepdim=True)
    return tokens_RV.gather(1, torch.searchsorted(sums_RV, draws_R[:, None] * kept_R1))[:, 0]


def _token_by_token(steps: Steps, decoding: Decoding, end: int, rescore: Rescore, per_image: int,
                    choose: Callable[[Tensor, Tensor, int], Tensor]) -> list[list[int]]:
    """A caption for each row of the steps. choose: from scores (R, V), rows (R,) and the length so far, each row's next token (R,)."""
    captions: list[list[int]] = [[] for _ in steps.log_probs]
    rows_R = torch.arange(len(captions), device=steps.log_probs.device)
    tokens_RT = torch.empty(len(captions), 0, dtype=torch.long, device=rows_R.device)
    for length in range(decoding.max_new_tokens):
        chosen_R = choose(rescore(tokens_RT, steps.log_probs, rows_R // per_image), rows_R, length)
        goes_on = chosen_R != end
        rows_R, chosen_R, tokens_RT = rows_R[goes_on], chosen_R[goes_on], torch.cat([tokens_RT, chosen_R[:, None]], dim=1)[goes_on]
        for row, token in zip(rows_R.tolist(), chosen_R.tolist(), strict=True):
            captions[row].append(token)
        if len(rows_R) == 0 or length + 1 == decoding.max_new_tokens:
            break
        steps.select(goes_on.nonzero()[:, 0])
        steps.step(chosen_R)
    return captions


def beam_search(steps: Steps, decoding: Decoding, end: int, best: int = 1, rescore: Rescore = unchanged) -> list[list[list[int]]]:
    """For each image the `best` of its beams by length-normalised log-probability, best first, up to and without the end token."""
    beams, device = decoding.beams, steps.log_probs.device
    captions: list[list[list[int]]] = [[] for _ in steps.log_probs]
    images = torch.arange(len(captions), device=device)
    sums_BK = torch.zeros(len(images), 1, device=device)  # one hypothesis so far, the empty one
    running_BKT = torch.empty(len(images), 1, 0, dtype=torch.long, device=device)
    done_BK = torch.full((len(images), beams), _NEVER, device=device)
    finished_BKT = torch.empty(len(images), beams, 0, dtype=torch.long, device=device)
    first_K = torch.arange(2 * beams, device=device) < beams
    for length in range(1, decoding.max_new_tokens + 1):
        scores_RV = rescore(running_BKT.flatten(0, 1), steps.log_probs, images.repeat_interleave(sums_BK.shape[1]))
        total_BKV = sums_BK[..., None] + scores_RV.view(*sums_BK.shape, -1)
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
        for image, hypotheses in zip(images[closed_B].tolist(), finished_BKT[closed_B, :best].tolist(), strict=True):
            captions[image] = [tokens[: tokens.index(end)] if end in tokens else tokens for tokens in hypotheses]
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
