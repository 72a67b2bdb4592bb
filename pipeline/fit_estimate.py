"""`unpaired fit --dry-run`: how long each step of a fit takes here, by the rates of a few batches.

What is timed is the costly part of each step alone, by the functions that the step itself calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from .core import paths
from .core.device import choose_device
from .core.tables import read_table
from .features.encoders import Clip, load_clip
from .features.retrieval import Index, nearest_others
from .features.stores import half
from .fit import WORDS, Wish, begin, prepare
from .language.condition import Condition
from .language.decoders import build, pad
from .portable import CLIP, CORPUS, SYSTEM
from .systems import find_system
from .training import Plan, encode_captions

_QUERIES = 512
_HELDOUT = 2000  # sentences by which weights are chosen, at most


def estimate(wish: Wish) -> None:
    """Print a line for each step that takes long, and make nothing. Raises `UserError` for what a fit would refuse in its beginning."""
    with TemporaryDirectory() as place:
        prepare(wish, Path(place))
        with chdir(place):
            params, device = begin(wish), choose_device()
            table = read_table(paths.corpus_table(CORPUS), ["text", "split"])
            texts, clip = table["text"], load_clip(CLIP, params, device)
            plan = Plan.of(SYSTEM, find_system(SYSTEM, params), params)
            _say("2 of 4: features", _embedding(clip, texts))
            if wish.method == "knight":
                _say("2 of 4: neighbours", _neighbours(len(texts), clip.width, params["index"]["neighbours"], device))
            if plan.trains:
                _say(f"3 of 4: {plan.recipe.steps:,} steps of training", _training(plan, clip, texts, table["split"].count("heldout")))


def _say(step: str, seconds: float) -> None:
    print(f"{step}: about {f'{seconds:.0f} s' if seconds < 120 else f'{seconds / 60:.0f} min'}", flush=True)


def _seconds(work: Callable[[], Any], times: int = 3) -> float:
    """Of one call; the first is not counted."""
    work()
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def _embedding(clip: Clip, texts: list[str]) -> float:
    sample = texts[:: max(len(texts) // (4 * clip.params.batch), 1)]
    return _seconds(lambda: clip.encode_texts(sample), 1) / len(sample) * len(texts)


def _neighbours(number: int, width: int, neighbours: int, device: torch.device) -> float:
    rows = half(np.random.default_rng(0).normal(size=(number, width)).astype(np.float32))
    index, queries = Index(torch.from_numpy(rows).to(device)), range(min(_QUERIES, number))
    return _seconds(lambda: nearest_others(index, rows, queries, neighbours)) / len(queries) * number


def _training(plan: Plan, clip: Clip, texts: list[str], heldout: int) -> float:
    recipe, method = plan.recipe, plan.method
    decoder = build(plan.decoder, paths.foundation(WORDS), clip.width, method.prefix_length, method.mapper).to(clip.device)
    typical = sorted(texts[:: max(len(texts) // (4 * recipe.batch), 1)], key=len)  # a batch holds sentences of like length
    ids = pad(encode_captions(decoder, typical[len(typical) // 2 :][: recipe.batch], plan.decoder.max_tokens)[0]).to(clip.device)
    condition = Condition.full(torch.randn(len(ids), method.prefix_length, clip.width, device=clip.device))
    optimiser = torch.optim.AdamW(decoder.parameters(), fused=True)

    def step() -> None:
        decoder.loss(condition, ids).backward()
        optimiser.step()
        optimiser.zero_grad()

    @torch.no_grad()
    def look() -> None:
        decoder.loss(condition, ids)

    looks = -(-recipe.steps // recipe.evaluate_every)
    return recipe.steps * _seconds(step) + looks * min(heldout, _HELDOUT) / len(ids) * _seconds(look)
