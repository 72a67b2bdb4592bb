"""The axes on which a setting's systems are drawn; the page draws them itself, so that text keeps its size whatever the width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from ..tasks.base import Metric, Task
from .data import SettingResults


@dataclass(frozen=True)
class Line:
    """A control, by its name: the lowest and highest of any system."""

    control: str
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """From 0 to its last tick."""

    metric: Metric
    ticks: tuple[float, ...]
    lines: tuple[Line, ...]

    def place(self, value: float) -> float:
        """Where a value stands along the axis, in per cent."""
        return round(100 * value / self.ticks[-1], 2)


def axes(setting: SettingResults, task: Task, beside: Sequence[str]) -> list[Axis]:
    """Of the primary metric, and of those beside it that systems have; none without results."""
    found = []
    for name in (task.primary, *beside):
        if scores := [result.scores[name] for result in setting.results if name in result.scores]:
            lines = _controls(setting, task) if name == task.primary else []
            highest = max(*(score.high for score in scores), *(line.high for line in lines), 0)
            ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, highest or 1)
            found.append(Axis(task.metric(name), tuple(map(float, ticks)), tuple(lines)))
    return found


def _controls(setting: SettingResults, task: Task) -> list[Line]:
    return [Line(control, min(its), max(its)) for control in task.controls
            if (its := [result.scores[control].value for result in setting.results if control in result.scores])]
