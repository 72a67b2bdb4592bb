"""Two systems on the same items: how far apart they are, with paired 95 % bootstrap intervals over items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import UserError
from pipeline.metrics import bootstrap
from pipeline.metrics.judge import EvaluationParams


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


def compare(setting: str, a: str, b: str, ours: np.ndarray, theirs: np.ndarray, params: EvaluationParams) -> Comparison:
    """ours, theirs: a metric of a and of b per item (N,), in one order."""
    draw = params.seed, params.samples
    difference = float((ours - theirs).mean()), *bootstrap.paired_interval(ours, theirs, *draw)
    try:
        ratio = float(ours.mean() / theirs.mean()), *bootstrap.ratio_interval(ours, theirs, *draw)
    except UserError:
        return Comparison(setting, a, b, difference, None)
    return Comparison(setting, a, b, difference, ratio)
