"""Captions per second of batched decoding against a plain loop: one picture at a time, the whole prefix run again for each token.

    python -m benchmarks.decoding [--size default|gpt2] [--pictures 64]

Random weights, and no end before the last token, so that both make the same number of tokens. Both decode the same conditions; captions
are compared. `generate` is transformers' own, in the same batches: what a leaner use of the model saves shows beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from pipeline.core import paths
from pipeline.language.condition import Condition
from pipeline.language.decoders import Decoder, DecoderParams, build
from pipeline.language.decoding import Decoding
from pipeline.methods.base import VectorMapper

PREFIX, WIDTH, TOKENS = 5, 128, 16
SIZES = {"default": DecoderParams(layers=4, heads=4, width=128, dropout=0.0),
         "gpt2": DecoderParams(layers=12, heads=12, width=768, dropout=0.0)}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


@torch.inference_mode()
def plain_greedy(decoder: Decoder, condition: Condition, tokens: int) -> list[list[int]]:
    """One picture at a time, without a cache, as ClipCap's, CapDec's and DeCap's scripts do."""
    found = []
    for vectors, mask in zip(condition.vectors, condition.mask, strict=True):
        one, ids = Condition(vectors[None], mask[None]), [decoder.tokenizer.start]
        for _ in range(tokens):
            ids.append(int(decoder.logits(one, torch.tensor([ids]))[0, -1].argmax()))
        found.append(ids[1:])
    return found


@torch.inference_mode()
def plain_beams(decoder: Decoder, condition: Condition, tokens: int, beams: int) -> list[list[int]]:
    """The same with beams, all of one picture in a batch, ranked by mean log-probability."""
    found = []
    for vectors, mask in zip(condition.vectors, condition.mask, strict=True):
        rows, sums = [[decoder.tokenizer.start]], torch.zeros(1)
        for _ in range(tokens):
            one = Condition(vectors.expand(len(rows), *vectors.shape), mask.expand(len(rows), *mask.shape))
            total = sums[:, None] + decoder.logits(one, torch.tensor(rows))[:, -1].log_softmax(-1)
            sums, flat = total.flatten().topk(beams)
            rows = [[*rows[int(i) // total.shape[1]], int(i) % total.shape[1]] for i in flat]
        found.append(rows[0][1:])
    return found


@torch.inference_mode()
def generate(decoder: Decoder, condition: Condition, decoding: Decoding) -> None:
    """transformers' own search in one batch."""
    embeddings, mask = decoder._embed(condition, torch.full((len(condition.vectors), 1), decoder.tokenizer.start))
    decoder.lm.generate(inputs_embeds=embeddings, attention_mask=mask, num_beams=decoding.beams, do_sample=False,
                        max_new_tokens=decoding.max_new_tokens, eos_token_id=decoder.tokenizer.end, pad_token_id=decoder.tokenizer.end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="default")
    parser.add_argument("--pictures", type=int, default=64)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    decoder = build(SIZES[arguments.size], paths.foundation("micro"), WIDTH, PREFIX, VectorMapper).eval()
    never = torch.zeros(decoder.tokenizer.size)
    never[decoder.tokenizer.end] = -1e4
    decoder.lm.lm_head.bias = torch.nn.Parameter(never)
    condition = Condition.full(torch.randn(arguments.pictures, PREFIX, WIDTH))
    said: dict[int, list[list[int]]] = {}
    decoder.tokenizer.decode = lambda ids: list(ids)  # type: ignore[method-assign, assignment, return-value]
    print(f"{arguments.size}: {sum(p.numel() for p in decoder.parameters()) / 1e6:.1f} M parameters, {arguments.pictures} pictures, "
          f"{TOKENS} tokens, {torch.get_num_threads()} threads")
    for beams in (1, 3):
        decoding = Decoding(beams=beams, max_new_tokens=TOKENS)
        decoder.generate(condition, decoding)  # what is loaded lazily is loaded now
        said[beams], ours = timed(lambda: decoder.generate(condition, decoding))  # noqa: B023
        _, theirs = timed(lambda: generate(decoder, condition, decoding))  # noqa: B023
        plain, slow = timed(lambda: plain_greedy(decoder, condition, TOKENS) if beams == 1 else  # noqa: B023
                            plain_beams(decoder, condition, TOKENS, beams))  # noqa: B023
        same = sum(a == b for a, b in zip(said[beams], plain, strict=True)) / len(plain)
        print(f"beams {beams}: {ours / TOKENS * 1e3:.1f} ms a step, transformers' generate {theirs / TOKENS * 1e3:.1f} ms "
              f"({theirs / ours:.1f} x); plain loop {slow / ours:.1f} x slower; same captions {same:.1%}", flush=True)


if __name__ == "__main__":
    main()
