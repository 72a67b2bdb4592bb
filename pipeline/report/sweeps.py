"""Committed results of sweeps: data/sweeps/*.csv, one row per system, variant, seed and setting, and tables of comparisons."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from pipeline.core.errors import UserError

_COLUMNS = ("system", "variant", "seed", "setting", "images", "CIDEr", "CIDEr_low", "CIDEr_high", "CIDEr_shuffled")
_ENDS = ("difference", "difference_low", "difference_high", "ratio", "ratio_low", "ratio_high")
_NUMERIC = re.compile(r"([\w.\-]+)=([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")
_SWITCH = re.compile(r"([\w.\-]+)=(True|False)")
_T = TypeVar("_T")
_K = TypeVar("_K")


@dataclass(frozen=True)
class Run:
    """One row of a sweep: a trained and scored variant in one setting. CIDEr times 100, interval over images."""

    system: str
    variant: str
    seed: str
    setting: str
    cider: float
    low: float
    high: float
    shuffled: float


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
class Comparison:
    """A row of a comparisons file: a against b. values: difference, its interval, ratio, its interval; None where left empty."""

    setting: str
    a: str
    b: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Sweeps:
    """All sweeps, and comparison tables by file name."""

    sweeps: tuple[Sweep, ...] = ()
    comparisons: tuple[tuple[str, tuple[Comparison, ...]], ...] = ()


def read_sweeps(folder: Path) -> Sweeps:
    """Every CSV file of the folder, by name; a missing folder is an empty one. Raises `UserError` for wrong columns or numbers."""
    files = sorted(folder.glob("*.csv"))
    return Sweeps(
        tuple(_sweep(file.stem, _read_runs(file)) for file in files if not file.stem.endswith("-comparisons")),
        tuple((file.stem, _read_comparisons(file)) for file in files if file.stem.endswith("-comparisons")),
    )


def _sweep(name: str, runs: list[Run]) -> Sweep:
    numeric, switched, rest = [], [], []
    for run in runs:
        match = _NUMERIC.fullmatch(run.variant)
        if match:
            numeric.append((match[1], float(match[2]), run))
        elif flags := _flags(run.variant):
            switched.append((flags, run))
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
    tables = _group(switched, lambda entry: (entry[1].system, tuple(entry[0])))
    return Sweep(name, tuple(plots), tuple(_switch_table(*key, entries) for key, entries in tables.items()), _grid(rest))


def _flags(variant: str) -> dict[str, bool] | None:
    """The switches of a variant whose values are all True or False; None for any other."""
    matches = [_SWITCH.fullmatch(part) for part in variant.split(", ")]
    return {match[1]: match[2] == "True" for match in matches if match} if all(matches) else None


def _switch_table(system: str, switches: tuple[str, ...], entries: list[tuple[dict[str, bool], Run]]) -> SwitchTable:
    settings = tuple(_group(entries, lambda entry: entry[1].setting))
    variants = _group(entries, lambda entry: tuple(entry[0].values()))
    rows = []
    for flags in sorted(variants, key=lambda flags: (sum(flags), [not flag for flag in flags])):
        cells = _group((run for _, run in variants[flags]), lambda run: run.setting)
        rows.append((flags, tuple(_point(cells[s]) if s in cells else None for s in settings)))
    return SwitchTable(system, switches, settings, tuple(_group(entries, lambda entry: entry[1].seed)), tuple(rows))


def _grid(runs: list[Run]) -> Grid:
    settings = tuple(_group(runs, lambda run: run.setting))
    rows = []
    for (system, variant), members in _group(runs, lambda run: (run.system, run.variant)).items():
        cells = _group(members, lambda run: run.setting)
        rows.append((system, variant, tuple(_point(cells[s]) if s in cells else None for s in settings)))
    return Grid(settings, tuple(rows))


def _point(runs: list[Run]) -> Point:
    return Point(fmean(r.cider for r in runs), fmean(r.low for r in runs), fmean(r.high for r in runs),
                 fmean(r.shuffled for r in runs), {r.seed: r.cider for r in runs})


def _group(items: Iterable[_T], key: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    """Items by key, keys and items in their first order."""
    groups: dict[_K, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _read_runs(file: Path) -> list[Run]:
    return [Run(row["system"], row["variant"], row["seed"], row["setting"],
                *(_number(file, line, row, key) for key in _COLUMNS[5:])) for line, row in _rows(file, _COLUMNS)]


def _read_comparisons(file: Path) -> tuple[Comparison, ...]:
    return tuple(Comparison(row["setting"], row["a"], row["b"],
                            tuple(_number(file, line, row, key) if row[key].strip() else None for key in _ENDS))
                 for line, row in _rows(file, ("setting", "a", "b", *_ENDS)))


def _rows(file: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers; an empty file has none."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, restval="")
            missing = [column for column in columns if column not in (reader.fieldnames or columns)]
            if missing:
                raise UserError(f"{file} has no column {missing[0]!r}: expected {','.join(columns)}; run its sweep again")
            return [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error}): run its sweep again") from None


def _number(file: Path, line: int, row: dict[str, str], key: str) -> float:
    try:
        value = float(row[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{file}, line {line}: {key} is {row[key]!r}, expected a number: run its sweep again")
    return value
