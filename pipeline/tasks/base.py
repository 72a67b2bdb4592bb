"""What tasks share: the metrics that they report, and scores as one long table.

Every task has a primary metric, by which systems are ranked and compared. It comes with an interval, and with controls: what of a score
does not come from looking at the item in question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..metrics import bootstrap
from ..metrics.judge import EvaluationParams
from ..systems import Setting


@dataclass(frozen=True)
class Metric:
    """A figure of a task. digits: behind the point, in print. scale: its unit or range. meaning: in words; one without them is kept, but
    stands in no table. interval: whether it is a mean over items whose intervals, over items and seeds, are reported; an item that
    it says nothing about has NaN, of every system."""

    name: str
    digits: int = 1
    scale: str = "0 to 100"
    higher_is_better: bool = True
    meaning: str = ""
    interval: bool = False

    def best(self, values: Iterable[float]) -> float:
        """The best of these values."""
        return (max if self.higher_is_better else min)(values)


@dataclass(frozen=True)
class Control:
    """Answers that do not come from looking at the item in question. kind: in a word. meaning: whose they are, behind "of"."""

    kind: str
    meaning: str


@dataclass(frozen=True)
class Score:
    """A metric over n items of a setting. low, high: its 95 % bootstrap interval over items; NaN where it has none."""

    setting: str
    metric: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Scored:
    """One setting, scored. values: by metric, one per item (N,), in the order of ids. about: counts, and what else is to be known, by
    name."""

    scores: tuple[Score, ...]
    ids: list[str]
    values: dict[str, list[float]]
    about: dict[str, Any]


class Scorer(Protocol):
    """Scores the answers of any system; what it needs for that is loaded once."""

    def score(self, name: str, setting: Setting, answers: Mapping[str, str], corpora: Sequence[str], own: str) -> Scored:
        """Answers by item id, in a setting of that name, of a system that knows the sentences of these corpora and looks with a CLIP of its
        own. `UserError` when artefacts do not belong together."""


@dataclass(frozen=True)
class Task:
    """What is asked of an item. item: what it is (`image`): its ids stand in columns `<item>_id`. primary: the name of a metric.
    compared_with: controls, in their order. plotted: metrics that curves show below the primary one."""

    item: str
    metrics: tuple[Metric, ...]
    primary: str
    compared_with: tuple[Control, ...]
    plotted: tuple[str, ...] = ()

    @property
    def controls(self) -> tuple[str, ...]:
        """The primary metric of answers that do not come from looking at the item in question: `CIDEr_shuffled`, `CIDEr_constant`."""
        return tuple(f"{self.primary}_{control.kind}" for control in self.compared_with)

    @property
    def margins(self) -> tuple[str, ...]:
        """The primary metric less each control, paired by item."""
        return tuple(f"{self.primary}_above_{control.kind}" for control in self.compared_with)

    @property
    def meanings(self) -> dict[str, str]:
        """What each control is, in words: "CIDEr of ..."."""
        return {name: f"{self.primary} of {control.meaning}" for name, control in zip(self.controls, self.compared_with, strict=True)}

    @property
    def names(self) -> list[str]:
        """Of all that may be scored: metrics, controls, margins."""
        return [*(metric.name for metric in self.metrics), *self.controls, *self.margins]

    @property
    def per_item(self) -> tuple[str, ...]:
        """What is kept of every item, for intervals: metrics that have one, and controls."""
        return *(metric.name for metric in self.metrics if metric.interval), *self.controls

    def metric(self, name: str) -> Metric:
        """By name; a control or margin is as the primary metric."""
        return next((metric for metric in self.metrics if metric.name == name), None) or self.metric(self.primary)

    def margin_items(self, items: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.float64]]:
        """Of each margin, the differences per item, where its control is among these items."""
        return {margin: np.subtract(items[self.primary], items[control], dtype=np.float64)
                for margin, control in zip(self.margins, self.controls, strict=True) if control in items}

    def scores(self, setting: str, corpus: Mapping[str, float], values: Mapping[str, NDArray[np.float64]],
               params: EvaluationParams) -> tuple[Score, ...]:
        """The scores of a setting, to four digits. corpus: metrics that are no means over items. values: by metric and item (N,), the
        primary one among them; NaN where a metric says nothing about an item, but not everywhere. What is in neither is left out."""
        values = {name: bootstrap.known(value) for name, value in values.items()}
        items = {name: values[name] for name in self.per_item if name in values and name not in self.controls} | self.margin_items(values)
        figures = {**{name: float(value.mean()) for name, value in {**values, **items}.items()}, **corpus}
        intervals = {name: bootstrap.interval(value, params.seed, params.samples) for name, value in items.items()}
        scores = []
        for name in self.names:
            if name in figures:
                low, high = intervals.get(name, (nan, nan))
                scores.append(Score(setting, name, round(figures[name], 4), round(low, 4), round(high, 4),
                                    len(values.get(name, values[self.primary]))))
        return tuple(scores)

    def wide(self, scores: Iterable[Score]) -> dict[str, float]:
        """Scores of one setting by name, for people and `dvc metrics`: values of metrics, then ends of intervals (`_low`, `_high`) and the
        controls. A margin has its interval alone: its value is the difference of two that stand there."""
        values: dict[str, float] = {}
        beside: dict[str, float] = {}
        for score in scores:
            if score.metric not in self.margins:
                (beside if score.metric in self.controls else values)[score.metric] = score.value
            if not isnan(score.low):
                beside |= {f"{score.metric}_low": score.low, f"{score.metric}_high": score.high}
        return values | beside

    def table(self) -> str:
        """The metrics that stand in tables, as Markdown: what the README holds and `unpaired metrics` prints."""
        rows = [(metric.name, metric.scale, "higher" if metric.higher_is_better else "lower", metric.meaning)
                for metric in self.metrics if metric.meaning]
        rows += [(control, self.metric(control).scale, "—", f"Control: {meaning}.") for control, meaning in self.meanings.items()]
        return "\n".join(f"| {' | '.join(row)} |" for row in [("metric", "scale", "better", "meaning"), ("---",) * 4,
                                                             *((f"`{name}`", *others) for name, *others in rows)])


def long(setting: str, n: int, figures: Mapping[str, float]) -> tuple[Score, ...]:
    """The way back from `Task.wide`; the margin's value is NaN."""
    return tuple(Score(setting, name, figures.get(name, nan), figures.get(f"{name}_low", nan), figures.get(f"{name}_high", nan), n)
                 for name in dict.fromkeys(name.removesuffix("_low").removesuffix("_high") for name in figures))
