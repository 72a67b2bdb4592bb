"""The memory that a corpus's neighbours take: `python -m benchmarks.neighbours_memory [--rows 1000000]`.

Prints the most memory that the process held at each step. The rows are random float16 units, as a feature store is
read; the queries are one of its shards, as the stage takes them.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.features.retrieval import Index, nearest_others
from pipeline.features.stores import SHARD_ROWS

_BLOCK = 50_000


def held() -> float:
    """The most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=SHARD_ROWS)
    parser.add_argument("--neighbours", type=int, default=20)
    args = parser.parse_args()
    print(f"libraries alone: {held():.2f} GiB")
    random = np.random.default_rng(0)
    features = np.empty((args.rows, args.width), dtype=np.float16)
    for start in range(0, args.rows, _BLOCK):
        block = random.standard_normal((min(_BLOCK, args.rows - start), args.width), dtype=np.float32)
        features[start : start + _BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    print(f"features in float16: {held():.2f} GiB")
    found = nearest_others(Index(torch.from_numpy(features)), features, range(args.queries), args.neighbours)[1]
    print(f"{found.shape[1]} neighbours of {found.shape[0]} of {args.rows} captions: {held():.2f} GiB")


if __name__ == "__main__":
    main()
