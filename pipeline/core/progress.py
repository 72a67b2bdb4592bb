"""Progress of long work: a bar on a terminal, plain lines with rate and remaining time elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[T], label: str, total: int, unit: str = "it", done: int = 0, size: int = 1) -> Iterator[T]:
    """Yield `items`, reporting on stderr. `done` of `total` units count as finished before; each item is worth `size` units."""
    if sys.stderr.isatty():
        with tqdm(total=total, initial=done, desc=label, unit=unit) as bar:
            for item in items:
                yield item
                bar.update(min(size, total - bar.n))
        return
    start = last = time.monotonic()
    first = done
    for item in items:
        yield item
        done = min(done + size, total)
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES or done == total:
            last = now
            rate = (done - first) / max(now - start, 1e-9)
            left = (total - done) / rate if rate else 0.0
            print(f"{label}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {left:.0f} s left", file=sys.stderr, flush=True)
