"""The chart of a setting: every system by what it learns from, as dots with intervals on axes that the page draws without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from ..tasks.base import Metric, Task
from .data import Result, SettingResults


@dataclass(frozen=True)
class Line:
    """A control, by its name: the lowest and highest of any system. place: of the highest."""

    control: str
    low: float
    high: float
    place: float


@dataclass(frozen=True)
class Axis:
    """From 0 to its last tick; places along it are in per cent."""

    metric: Metric
    ticks: tuple[tuple[str, float], ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Dot:
    """A score and its interval on an axis, in per cent."""

    place: float
    low: float
    high: float


@dataclass(frozen=True)
class Chart:
    """groups: supervision, and its systems, best first, each with a dot on each axis, None where it was not scored."""

    axes: tuple[Axis, ...]
    groups: tuple[tuple[str, tuple[tuple[Result, tuple[Dot | None, ...]], ...]], ...]


def chart(setting: SettingResults, task: Task, beside: Sequence[str]) -> Chart:
    """The primary metric and, where systems have them, metrics beside it."""
    names = [name for name in (task.primary, *beside) if any(name in result.scores for result in setting.results)]
    ends, axes = [], []
    for name in names:
        controls = {control: its for control in task.controls if name == task.primary
                    and (its := [result.scores[control].value for result in setting.results if control in result.scores])}
        highs = [result.scores[name].high for result in setting.results if name in result.scores]
        highest = max(highs + [value for its in controls.values() for value in its])
        ticks = [float(tick) for tick in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, highest or 1)]
        ends.append(ticks[-1])
        axes.append(Axis(task.metric(name), tuple((f"{tick:g}", 100 * tick / ticks[-1]) for tick in ticks),
                         tuple(Line(control, min(its), max(its), 100 * max(its) / ticks[-1]) for control, its in controls.items())))

    def dot(result: Result, name: str, end: float) -> Dot | None:
        if name not in result.scores:
            return None
        score = result.scores[name]
        return Dot(*(100 * value / end for value in (score.value, score.low, score.high)))

    return Chart(tuple(axes), tuple((supervision, tuple((result, tuple(map(dot, [result] * len(names), names, ends))) for result in its))
                                    for supervision, its in setting.by_supervision))
