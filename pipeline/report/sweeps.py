"""Results of sweeps, data/sweeps/*.csv, as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import bootstrap
from ..metrics.bootstrap import Comparison
from ..metrics.judge import EvaluationParams
from ..sweep_table import Row, comparisons, read_rows
from ..tasks.base import Score, Task


@dataclass(frozen=True)
class Point:
    """A variant over its seeds, by the primary metric. mean: over seeds; low, high: over seeds and images. by_seed: of each. controls: by
    name, mean over seeds; not_above: those that it is not shown to beat. beside: the same by other metrics that curves show."""

    mean: float
    low: float
    high: float
    controls: dict[str, float]
    not_above: tuple[str, ...]
    by_seed: dict[str, float]
    beside: dict[str, Point]

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


def read_tables(folder: Path, task: Task) -> dict[str, list[Row]]:
    """The rows of every table of the folder, by name; a missing folder is an empty one. Raises `UserError` for wrong columns or numbers."""
    return {file.stem: read_rows(file, task) for file in sorted(folder.glob("*.csv"))}


def sweep_of(name: str, rows: list[Row], task: Task, evaluation: EvaluationParams) -> Sweep:
    """A table as the report shows it."""
    numbers: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    switches: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    rest = []
    plain = {row.system for row in rows if not row.values}  # beside others: the variants of one sweep, which stay together
    for row in rows:
        kinds = {type(value) for value in row.values.values()}
        if row.system not in plain and (kinds == {bool} or (len(row.values) == 1 and kinds <= {int, float})):
            (switches if bool in kinds else numbers).setdefault((row.system, tuple(row.values)), []).append(row)
        else:
            rest.append(row)
    plots, tables = (tuple(_table(*group, [(tuple(row.values.values()), row) for row in members], task, evaluation)
                           for group, members in kind.items()) for kind in (numbers, switches))
    named = [((row.system, ", ".join(f"{key}={value}" for key, value in row.values.items())), row) for row in rest]
    return Sweep(name, plots, tables, _table("", (), named, task, evaluation), tuple(comparisons(rows, task, evaluation)))


def _table(system: str, keys: tuple[str, ...], entries: list[tuple[tuple[Any, ...], Row]], task: Task,
           evaluation: EvaluationParams) -> Table:
    """Rows by their values: numbers ascending, fewest switches first, and without keys as they came."""
    cells: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for values, row in entries:
        cells.setdefault(values, {}).setdefault(row.setting, []).append(row)
    settings = tuple(dict.fromkeys(row.setting for _, row in entries))
    order = sorted(cells, key=lambda values: (sum(values), [not value for value in values])) if keys else cells
    return Table(system, keys, settings, tuple((values, tuple(_point(cells[values].get(setting, ()), task, evaluation)
                                                              for setting in settings)) for values in order))


def _point(rows: Sequence[Row], task: Task, evaluation: EvaluationParams) -> Point | None:
    if not rows:
        return None
    scores = over_seeds(rows, task, evaluation)

    def point(metric: str, **about: Any) -> Point:
        found = scores[metric]
        return Point(found.value, found.low, found.high, by_seed={str(row.seed): row.scores[metric].value for row in rows}, **about)

    beside = {metric: point(metric, controls={}, not_above=(), beside={}) for metric in task.plotted if metric in scores}
    return point(task.primary, controls={name: scores[name].value for name in task.controls if name in scores},
                 not_above=not_above(scores, task), beside=beside)


def over_seeds(rows: Sequence[Row], task: Task, evaluation: EvaluationParams) -> dict[str, Score]:
    """Scores of rows that differ in their seed: means over seeds, intervals over seeds and items. Where scores per item were lost, the ends
    are means over the seeds' own."""
    found = {name: Score(score.setting, name, fmean(row.scores[name].value for row in rows), fmean(row.scores[name].low for row in rows),
                         fmean(row.scores[name].high for row in rows), score.n)
             for name, score in rows[0].scores.items() if all(name in row.scores for row in rows)}
    if len(rows) > 1 and all(task.primary in row.items for row in rows):
        kept: dict[str, NDArray[np.floating]] = {
            name: np.stack([row.items[name] for row in rows]) for name in rows[0].items if all(name in row.items for row in rows)}
        items: NDArray[np.floating]
        for name, items in (*kept.items(), *task.margin_items(kept).items()):
            if name in found and name not in task.controls:
                low, high = bootstrap.interval(items, evaluation.seed, evaluation.samples)
                found[name] = replace(found[name], value=float(bootstrap.known(items).mean(dtype=np.float64)), low=low, high=high)
    return found


def not_above(scores: Mapping[str, Score], task: Task) -> tuple[str, ...]:
    """The controls that the primary metric is not shown to be above, of those that were scored."""
    return tuple(control for control, margin in zip(task.controls, task.margins, strict=True)
                 if margin in scores and not scores[margin].low > 0)
