"""Percentile bootstrap over images (Efron 1979): how far a mean of per-image scores moves when the images are drawn anew.

The same scores, seed and number of samples give the same interval. Meant for means: a corpus BLEU or METEOR is none, and takes
its interval from sentence scores only as an approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_CELLS = 1_000_000  # indices drawn at a time: 8 MB


@dataclass(frozen=True)
class Comparison:
    """System a against b in a setting: difference and ratio of their means over items, each followed by the ends of its interval.

    ratio: None where the denominator may be zero.
    """

    setting: str
    a: str
    b: str
    difference: tuple[float, float, float]
    ratio: tuple[float, float, float] | None


def interval(scores: np.ndarray, seed: int, samples: int = 1000, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of scores (N,), in their unit."""
    return _percentiles(_resampled_means(scores[:, None], seed, samples)[:, 0], level)


def paired_interval(a: np.ndarray, b: np.ndarray, seed: int, samples: int = 1000, level: float = 0.95) -> tuple[float, float]:
    """Interval of mean(a - b) of two systems' scores (N,) on the same images; one without 0 is a significant difference."""
    assert a.shape == b.shape
    return interval(np.subtract(a, b, dtype=np.float64), seed, samples, level)


def ratio_interval(a: np.ndarray, b: np.ndarray, seed: int, samples: int = 1000, level: float = 0.95) -> tuple[float, float] | None:
    """Interval of mean(a) / mean(b) of scores (N,) on the same images; None when a resample's mean(b) is not positive."""
    means = _resampled_means(np.stack([a, b], axis=1), seed, samples)
    return _percentiles(means[:, 0] / means[:, 1], level) if means[:, 1].min() > 0 else None


def compare(setting: str, a: str, b: str, ours: np.ndarray, theirs: np.ndarray, seed: int, samples: int) -> Comparison:
    """ours, theirs: scores (N,) of a and of b on the same images."""
    ends = ratio_interval(ours, theirs, seed, samples)
    return Comparison(setting, a, b, (float((ours - theirs).mean()), *paired_interval(ours, theirs, seed, samples)),
                      (float(ours.mean() / theirs.mean()), *ends) if ends else None)


def _resampled_means(scores_NK: np.ndarray, seed: int, samples: int) -> np.ndarray:
    """Means (samples, K) over N images drawn with replacement; the K columns are drawn together."""
    count = len(scores_NK)
    generator = np.random.default_rng(seed)
    rows = max(1, _CELLS // count)
    chunks = []
    for start in range(0, samples, rows):
        drawn = generator.integers(count, size=(min(rows, samples - start), count))
        chunks.append(np.stack([column[drawn].mean(axis=1, dtype=np.float64) for column in scores_NK.T], axis=1))
    return np.concatenate(chunks)


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
