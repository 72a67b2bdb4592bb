"""Percentile bootstrap over images and seeds (Efron 1979): how far a mean of per-image scores moves when images, and trainings, are drawn
anew.

Scores are (N,) of one training, or (S, N) of S seeds of a system, in the same order of seeds for all. A resample draws images and seeds
with replacement: the same images for all that is compared, and the same seeds where both have as many, since trainings with one seed share
what it decides, and sometimes the model. Seeds are few: their deviations are widened by sqrt(S / (S - 1)), which gives their mean its
unbiased variance; even so three of them tell apart what is alike in more than 5 % of cases. With one seed the interval is over images
alone, which says nothing of another training.
An item that a metric says nothing about has NaN, of every training and system, and is left out.
The same scores, seed and number of samples give the same interval. Meant for means: a corpus BLEU or METEOR is none, and takes
its interval from sentence scores only as an approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_CELLS = 1_000_000  # indices drawn at a time: 8 MB


@dataclass(frozen=True)
class Comparison:
    """System a against b in a setting by a metric: difference and ratio of their means over seeds and items, each followed by the ends of
    its interval.

    ratio: None where the denominator may be zero. seeds: of a and of b; with one of either the interval says nothing of trainings.
    """

    setting: str
    metric: str
    a: str
    b: str
    difference: tuple[float, float, float]
    ratio: tuple[float, float, float] | None
    seeds: tuple[int, int] = (1, 1)

    @property
    def told_apart(self) -> bool:
        """Whether 0 is outside the interval of the difference."""
        return self.difference[1] > 0 or self.difference[2] < 0


def known(scores: np.ndarray) -> np.ndarray:
    """Scores (..., N) without the items that a metric says nothing about."""
    unknown = np.isnan(scores.reshape(-1, scores.shape[-1])).any(axis=0)
    return scores[..., ~unknown] if unknown.any() else scores


def interval(scores: np.ndarray, seed: int, samples: int = 1000, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of scores (N,) or (S, N), in their unit."""
    return _percentiles(_resampled(seed, samples, scores)[0], level)


def paired_interval(a: np.ndarray, b: np.ndarray, seed: int, samples: int = 1000, level: float = 0.95) -> tuple[float, float]:
    """Interval of mean(a) - mean(b), scores (N,) or (S, N) of two systems on the same images; one without 0 is a significant
    difference."""
    assert a.shape[-1] == b.shape[-1]
    ours, theirs = _resampled(seed, samples, a, b)
    return _percentiles(ours - theirs, level)


def ratio_interval(a: np.ndarray, b: np.ndarray, seed: int, samples: int = 1000, level: float = 0.95) -> tuple[float, float] | None:
    """Interval of mean(a) / mean(b), likewise; None when a resample's mean(b) is not positive."""
    ours, theirs = _resampled(seed, samples, a, b)
    return _percentiles(ours / theirs, level) if theirs.min() > 0 else None


def compare(setting: str, metric: str, a: str, b: str, ours: np.ndarray, theirs: np.ndarray, seed: int, samples: int) -> Comparison:
    """ours, theirs: scores (N,) or (S, N) of a and of b on the same images."""
    first, second = (float(np.mean(known(scores), dtype=np.float64)) for scores in (ours, theirs))
    means = _resampled(seed, samples, ours, theirs)
    ratio = (first / second, *_percentiles(means[0] / means[1], 0.95)) if means[1].min() > 0 else None
    return Comparison(setting, metric, a, b, (first - second, *_percentiles(means[0] - means[1], 0.95)), ratio,
                      (len(np.atleast_2d(ours)), len(np.atleast_2d(theirs))))


def _resampled(seed: int, samples: int, *groups: np.ndarray) -> list[np.ndarray]:
    """Of each system, the means (samples,) over seeds and images drawn with replacement."""
    rows = [np.atleast_2d(group) for group in groups]
    means = _resampled_means(known(np.concatenate(rows)).T, seed, samples)
    generator = np.random.default_rng([seed, 1])
    seeds = {count: generator.integers(count, size=(samples, count)) for count in dict.fromkeys(map(len, rows))}
    found, start = [], 0
    for count in map(len, rows):
        its = means[:, start : start + count]
        start += count
        middle, drawn = its.mean(axis=1), np.take_along_axis(its, seeds[count], axis=1).mean(axis=1)
        found.append(middle + np.sqrt(count / (count - 1)) * (drawn - middle) if count > 1 else drawn)
    return found


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
