"""What tasks share: the metrics that they report, and scores as one long table.

Every task has a primary metric, by which systems are ranked and compared. It comes with an interval, and with a control: the same answers,
each given to another item, which is what of a score does not come from looking at the item in question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import bootstrap
from pipeline.metrics.judge import EvaluationParams
from pipeline.systems import Setting


@dataclass(frozen=True)
class Metric:
    """A figure of a task. digits: behind the point, in print. meaning: in words; one without them is kept, but stands in no table."""

    name: str
    digits: int = 1
    meaning: str = ""


@dataclass(frozen=True)
class Score:
    """A metric over the n items of a setting. low, high: its 95 % bootstrap interval over items; NaN where it has none."""

    setting: str
    metric: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Scored:
    """One setting, scored. values: by metric, one per item (N,), in the order of ids. about: counts, by name."""

    scores: tuple[Score, ...]
    ids: list[str]
    values: dict[str, list[float]]
    about: dict[str, int]


class Scorer(Protocol):
    """Scores the answers of any system; what it needs for that is loaded once."""

    def score(self, name: str, setting: Setting, answers: Mapping[str, str]) -> Scored:
        """Answers by item id, in a setting of that name. `UserError` when artefacts do not belong together."""


@dataclass(frozen=True)
class Task:
    """What is asked of an item. item: what it is (`image`): its ids stand in columns `<item>_id`. primary: the name of a metric."""

    item: str
    metrics: tuple[Metric, ...]
    primary: str

    @property
    def control(self) -> str:
        """The primary metric of the same answers, each given to another item."""
        return f"{self.primary}_shuffled"

    @property
    def margin(self) -> str:
        """The primary metric less its control, paired by item."""
        return f"{self.primary}_above_shuffled"

    @property
    def names(self) -> list[str]:
        """Of all that is scored: metrics, control, margin."""
        return [*(metric.name for metric in self.metrics), self.control, self.margin]

    def scores(self, setting: str, corpus: Mapping[str, float], values: Mapping[str, NDArray[np.float64]],
               params: EvaluationParams) -> tuple[Score, ...]:
        """The scores of a setting, to four digits. corpus: metrics that are no means over items. values: by metric and item (N,), the
        primary one and its control among them."""
        primary, control = values[self.primary], values[self.control]
        figures = {**{name: float(value.mean()) for name, value in {**values, self.margin: primary - control}.items()}, **corpus}
        intervals = {self.primary: bootstrap.interval(primary, params.seed, params.samples),
                     self.margin: bootstrap.paired_interval(primary, control, params.seed, params.samples)}
        scores = []
        for name in self.names:
            low, high = intervals.get(name, (nan, nan))
            scores.append(Score(setting, name, round(figures[name], 4), round(low, 4), round(high, 4), len(primary)))
        return tuple(scores)

    def wide(self, scores: Iterable[Score]) -> dict[str, float]:
        """Scores of one setting by name, for people and `dvc metrics`: values of metrics, then ends of intervals (`_low`, `_high`) and the
        control. The margin has its interval alone: its value is the difference of two that stand there."""
        values: dict[str, float] = {}
        beside: dict[str, float] = {}
        for score in scores:
            if score.metric != self.margin:
                (beside if score.metric == self.control else values)[score.metric] = score.value
            if not isnan(score.low):
                beside |= {f"{score.metric}_low": score.low, f"{score.metric}_high": score.high}
        return values | beside


def long(setting: str, n: int, figures: Mapping[str, float]) -> tuple[Score, ...]:
    """The way back from `Task.wide`; the margin's value is NaN."""
    return tuple(Score(setting, name, figures.get(name, nan), figures.get(f"{name}_low", nan), figures.get(f"{name}_high", nan), n)
                 for name in dict.fromkeys(name.removesuffix("_low").removesuffix("_high") for name in figures))
