"""Results of sweeps, data/sweeps/*.csv, as the report shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.metrics.bootstrap import Comparison
from pipeline.metrics.judge import EvaluationParams
from pipeline.sweep_table import Row, comparisons, read_rows
from pipeline.tasks.base import Task


@dataclass(frozen=True)
class Point:
    """A variant over its seeds, by the primary metric. mean, low, high, control: means over seeds; by_seed: of each."""

    mean: float
    low: float
    high: float
    control: float
    by_seed: dict[str, float]

    @property
    def seeds(self) -> tuple[float, ...]:
        """The primary metric of each seed."""
        return tuple(self.by_seed.values())


@dataclass(frozen=True)
class Table:
    """Variants that differ in the values of the same keys: a row of values each, and its point in each setting, None where it was not
    run. system: "" where it stands among the values."""

    system: str
    keys: tuple[str, ...]
    settings: tuple[str, ...]
    rows: tuple[tuple[tuple[Any, ...], tuple[Point | None, ...]], ...]

    @property
    def columns(self) -> list[tuple[str, list[tuple[Any, Point]]]]:
        """Each setting with the variants that were run in it, by their first value."""
        return [(setting, [(values[0], point) for values, points in self.rows if (point := points[column])])
                for column, setting in enumerate(self.settings)]

    @property
    def seeds(self) -> list[str]:
        """All seeds."""
        return list(dict.fromkeys(seed for _, points in self.rows for point in points if point for seed in point.by_seed))

    @property
    def tops(self) -> list[float]:
        """The highest mean of each setting."""
        return [max(point.mean for _, point in points) for _, points in self.columns]


@dataclass(frozen=True)
class Sweep:
    """One file: what varies by a number, to be plotted; what is switched on and off; the rest, system and variant; and comparisons."""

    name: str
    plots: tuple[Table, ...]
    switches: tuple[Table, ...]
    grid: Table
    comparisons: tuple[Comparison, ...]


def read_sweeps(folder: Path, task: Task, evaluation: EvaluationParams) -> tuple[Sweep, ...]:
    """Every table of the folder, by name; a missing folder is an empty one. Raises `UserError` for wrong columns or numbers."""
    return tuple(_sweep(file.stem, read_rows(file, task), task, evaluation) for file in sorted(folder.glob("*.csv")))


def _sweep(name: str, rows: list[Row], task: Task, evaluation: EvaluationParams) -> Sweep:
    numbers: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    switches: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    rest = []
    for row in rows:
        kinds = {type(value) for value in row.values.values()}
        if kinds == {bool} or (len(row.values) == 1 and kinds <= {int, float}):
            (switches if bool in kinds else numbers).setdefault((row.system, tuple(row.values)), []).append(row)
        else:
            rest.append(row)
    plots, tables = (tuple(_table(*group, [(tuple(row.values.values()), row) for row in members], task) for group, members in kind.items())
                     for kind in (numbers, switches))
    named = [((row.system, ", ".join(f"{key}={value}" for key, value in row.values.items())), row) for row in rest]
    return Sweep(name, plots, tables, _table("", (), named, task), tuple(comparisons(rows, evaluation)))


def _table(system: str, keys: tuple[str, ...], entries: list[tuple[tuple[Any, ...], Row]], task: Task) -> Table:
    """Rows by their values: numbers ascending, fewest switches first, and without keys as they came."""
    cells: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for values, row in entries:
        cells.setdefault(values, {}).setdefault(row.setting, []).append(row)
    settings = tuple(dict.fromkeys(row.setting for _, row in entries))
    order = sorted(cells, key=lambda values: (sum(values), [not value for value in values])) if keys else cells
    return Table(system, keys, settings, tuple((values, tuple(_point(cells[values].get(setting, ()), task) for setting in settings))
                                               for values in order))


def _point(rows: Sequence[Row], task: Task) -> Point | None:
    by_seed = {str(row.seed): row.scores[task.primary] for row in rows}
    return Point(fmean(score.value for score in by_seed.values()), fmean(score.low for score in by_seed.values()),
                 fmean(score.high for score in by_seed.values()), fmean(row.scores[task.control].value for row in rows),
                 {seed: score.value for seed, score in by_seed.items()}) if rows else None
