"""The hot paths against twins written the way public code does it, in the same run: `python -m benchmarks.against_public_style`.

Prints ratios; times on shared machines are not stable. Each pair's results are compared before they are timed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pycocoevalcap.cider.cider import Cider

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.core import paths
from pipeline.features.encoders import Clip, ClipParams
from pipeline.features.retrieval import Index, nearest_others, project
from pipeline.metrics.constant import constant_cider
from pipeline.world.captions import describe
from pipeline.world.scenes import generator, sample_scene

WIDTH, CAPTIONS, QUERIES, NEIGHBOURS = 512, 50_000, 512, 5


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The fastest of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def unit(rows: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=-1)


def loop_neighbours(corpus: torch.Tensor, queries: range) -> np.ndarray:
    """Knight's released way: one caption at a time, k times a full maximum."""
    found = []
    for row in queries:
        similarity = corpus @ corpus[row]
        similarity[row] = 0
        near = []
        for _ in range(NEIGHBOURS):
            best = int(similarity.argmax().item())
            near.append(best)
            similarity[best] = 0
        found.append(near)
    return np.array(found)


def loop_projection(images: torch.Tensor, corpus: torch.Tensor) -> torch.Tensor:
    """DeCap's notebook: one image at a time over the whole support set, cast to float32 at every call."""
    return torch.stack([torch.softmax(100 * (image @ corpus.float().T), dim=-1) @ corpus.float() for image in images])


def loop_constant(candidates: list[str], references: list[list[str]]) -> np.ndarray:
    """Each sentence given to every image, and all of them scored, by pycocoevalcap."""
    truth = dict(enumerate(references))
    return np.array([100 * Cider().compute_score(truth, {image: [text] for image in truth})[0] for text in candidates])


def main() -> None:
    corpus = unit(CAPTIONS, 0)
    index, rows = Index(corpus.half()), range(QUERIES)
    half = corpus.half()
    agree = (nearest_others(index, half.numpy(), rows, NEIGHBOURS)[1] == loop_neighbours(half.float(), rows)).mean()
    base, tile = half.float(), torch.empty(len(rows) * 8192)

    def bare() -> None:
        for start in range(0, CAPTIONS, 8192):
            part = base[start : start + 8192]
            torch.mm(base[rows.start : rows.stop], part.T, out=tile[: len(rows) * len(part)].view(len(rows), len(part)))

    share = seconds(bare) / seconds(lambda: nearest_others(index, half.numpy(), rows, NEIGHBOURS))
    print(f"neighbours of captions: {share:.2f} of the rate of the bare product")
    report("neighbours of captions", f"{agree:.2%} equal", lambda: nearest_others(index, half.numpy(), rows, NEIGHBOURS),
           lambda: loop_neighbours(half.float(), rows))

    images = unit(QUERIES, 1)
    difference = (project(images, half, 0.01) - loop_projection(images, half)).abs().max()
    report("projection onto the corpus", f"difference {difference:.1e}", lambda: project(images, half, 0.01),
           lambda: loop_projection(images, half))

    references = [describe(sample_scene("scenes", rng), rng) for rng in (generator("scenes", "val", 6, i) for i in range(1000))]
    candidates = [texts[0] for texts in references[:20]]
    difference = np.abs(constant_cider(candidates, references) - loop_constant(candidates, references)).max()
    report("constant sentences", f"difference {difference:.1e}", lambda: constant_cider(candidates, references),
           lambda: loop_constant(candidates, references))

    clip = Clip(paths.foundation("micro"), ClipParams(), torch.device("cpu"))
    texts = [describe(sample_scene("scenes", rng), rng, 1)[0] for rng in (generator("scenes", "val", 5, i) for i in range(1024))]
    tokens = clip.tokens(texts)
    with torch.inference_mode():
        padded = clip.model.encode_text(tokens).numpy()
        report("text embedding", f"difference {np.abs(clip.encode_tokens(tokens) - padded).max():.1e}", lambda: clip.encode_tokens(tokens),
               lambda: [clip.model.encode_text(tokens[i : i + 256]) for i in range(0, len(tokens), 256)])


def report(label: str, agreement: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    fast, slow = seconds(ours), seconds(theirs)
    print(f"{label:28} ours {fast:7.3f} s   public style {slow:7.3f} s   {slow / fast:6.1f} x   ({agreement})", flush=True)


if __name__ == "__main__":
    main()
