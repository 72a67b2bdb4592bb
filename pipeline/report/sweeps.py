"""Committed results of sweeps: data/sweeps/*.csv, one row per system, variant, seed and setting, and tables of comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from pipeline.sweep_table import Comparison, Row, read_comparisons, read_rows, tables

_T = TypeVar("_T")
_K = TypeVar("_K")


@dataclass(frozen=True)
class Point:
    """A variant over its seeds. mean, low, high: means over seeds; by_seed: CIDEr of each."""

    mean: float
    low: float
    high: float
    shuffled: float
    by_seed: dict[str, float]

    @property
    def seeds(self) -> tuple[float, ...]:
        """CIDEr of each seed."""
        return tuple(self.by_seed.values())


@dataclass(frozen=True)
class Curve:
    """CIDEr of one system in one setting against a parameter's value, ascending."""

    setting: str
    values: tuple[float, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Plot:
    """One system and one numeric parameter: a curve per setting."""

    system: str
    parameter: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Grid:
    """Variants that are no numbers: rows of (system, variant) with one point per setting, None where it was not run."""

    settings: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Point | None, ...]], ...]


@dataclass(frozen=True)
class SwitchTable:
    """Variants of one system that switch parts of it on and off, those with fewest parts first.

    rows: a flag per switch, and one point per setting, None where it was not run.
    """

    system: str
    switches: tuple[str, ...]
    settings: tuple[str, ...]
    seeds: tuple[str, ...]
    rows: tuple[tuple[tuple[bool, ...], tuple[Point | None, ...]], ...]

    @property
    def tops(self) -> tuple[float, ...]:
        """The highest mean of each setting."""
        return tuple(max(point.mean for point in column if point) for column in zip(*(points for _, points in self.rows), strict=True))


@dataclass(frozen=True)
class Sweep:
    """One file: plots of what varies by a number, tables of what is switched on and off, and a grid of the rest."""

    name: str
    plots: tuple[Plot, ...]
    switches: tuple[SwitchTable, ...]
    grid: Grid


@dataclass(frozen=True)
class Sweeps:
    """All sweeps, and comparison tables by file name."""

    sweeps: tuple[Sweep, ...] = ()
    comparisons: tuple[tuple[str, tuple[Comparison, ...]], ...] = ()


def read_sweeps(folder: Path) -> Sweeps:
    """Every table of the folder, by name; a missing folder is an empty one. Raises `UserError` for wrong columns or numbers."""
    files = tables(folder)
    compared = ((file.stem, tuple(read_comparisons(file))) for file in files)
    return Sweeps(tuple(_sweep(file.stem, read_rows(file)) for file in files), tuple(each for each in compared if each[1]))


def _sweep(name: str, runs: list[Row]) -> Sweep:
    numeric, switched, rest = [], [], []
    for run in runs:
        values = run.values
        if values and all(isinstance(value, bool) for value in values.values()):
            switched.append((values, run))
        elif len(values) == 1 and isinstance(value := next(iter(values.values())), int | float):
            numeric.append((next(iter(values)), float(value), run))
        else:
            rest.append(run)
    plots = []
    for (system, parameter), entries in _group(numeric, lambda entry: (entry[2].system, entry[0])).items():
        curves = []
        for setting, members in _group(entries, lambda entry: entry[2].setting).items():
            by_value = sorted(_group(members, lambda entry: entry[1]).items())
            points = tuple(_point([entry[2] for entry in same]) for _, same in by_value)
            curves.append(Curve(setting, tuple(value for value, _ in by_value), points))
        plots.append(Plot(system, parameter, tuple(curves)))
    switches = _group(switched, lambda entry: (entry[1].system, tuple(entry[0])))
    return Sweep(name, tuple(plots), tuple(_switch_table(*key, entries) for key, entries in switches.items()), _grid(rest))


def _switch_table(system: str, switches: tuple[str, ...], entries: list[tuple[dict[str, bool], Row]]) -> SwitchTable:
    settings = tuple(_group(entries, lambda entry: entry[1].setting))
    variants = _group(entries, lambda entry: tuple(entry[0].values()))
    rows = []
    for flags in sorted(variants, key=lambda flags: (sum(flags), [not flag for flag in flags])):
        cells = _group((run for _, run in variants[flags]), lambda run: run.setting)
        rows.append((flags, tuple(_point(cells[s]) if s in cells else None for s in settings)))
    return SwitchTable(system, switches, settings, tuple(_group(entries, lambda entry: str(entry[1].seed))), tuple(rows))


def _grid(runs: list[Row]) -> Grid:
    settings = tuple(_group(runs, lambda run: run.setting))
    rows = []
    for (system, _), members in _group(runs, lambda run: (run.system, run.variant)).items():
        variant = ", ".join(f"{key}={value}" for key, value in members[0].values.items())
        cells = _group(members, lambda run: run.setting)
        rows.append((system, variant, tuple(_point(cells[s]) if s in cells else None for s in settings)))
    return Grid(settings, tuple(rows))


def _point(runs: list[Row]) -> Point:
    return Point(fmean(r.CIDEr for r in runs), fmean(r.CIDEr_low for r in runs), fmean(r.CIDEr_high for r in runs),
                 fmean(r.CIDEr_shuffled for r in runs), {str(r.seed): r.CIDEr for r in runs})


def _group(items: Iterable[_T], key: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    """Items by key, keys and items in their first order."""
    groups: dict[_K, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
