"""The tables of sweeps, `data/sweeps/*.csv`: a row per system, variation, seed and setting, and beside them each row's scores per
item. Written by sweeps, read by the report, and nowhere else laid out. Every row ends with a digest of itself: one that was edited or
damaged is not believed.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .core import files
from .core.errors import UserError
from .metrics.bootstrap import Comparison, compare
from .metrics.judge import EvaluationParams
from .tasks.base import Score, Task, long

_NAMED = ("system", "variant", "seed", "setting", "split", "images")  # columns before the scores
_PROOF = ("fingerprint", "digest")  # and behind them
Items = dict[str, NDArray[np.float32]]
Key = tuple[str, str, int, str]


@dataclass(frozen=True)
class Row:
    """One trained and scored variation in one setting. variant: JSON of the values that differ from the system's, by dotted key.

    scores: by metric. fingerprint: of all that decides the row. items: what the task keeps per item (N,), by metric; empty where it was
    lost.
    """

    system: str
    variant: str
    seed: int
    setting: str
    split: str
    images: int
    scores: dict[str, Score]
    fingerprint: str
    items: Items = field(default_factory=dict, compare=False)

    @property
    def key(self) -> Key:
        """What makes a row another row of the same table."""
        return self.system, self.variant, self.seed, self.setting

    @property
    def values(self) -> dict[str, Any]:
        """What is varied."""
        found: dict[str, Any] = json.loads(self.variant)
        return found


def read_rows(table: Path, task: Task) -> list[Row]:
    """Rows of a table; a missing or empty file has none. Raises `UserError` for a table of another layout, a row that was changed, and a
    damaged file of scores per item; such scores as do not belong to their row are left out."""
    if not table.exists():
        return []
    rows, kept = [], _read_items(table.with_suffix(".parquet"), task)
    try:
        with table.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, restval="")
            columns = list(reader.fieldnames or ())
            if columns and (missing := [name for name in (*_NAMED, task.primary, *_PROOF) if name not in columns]):
                raise UserError(f"{table} has no column {missing[0]!r}: it was made by another version: remove it, and run its sweep again")
            for line in reader:
                if line["digest"] != _digest(line[name] for name in columns if name != "digest"):
                    raise UserError(f"{table}, line {reader.line_num}: the row is not as it was made: run its sweep again")
                images = int(line["images"])
                figures = {name: float(line[name]) for name in columns if name not in _NAMED + _PROOF and line[name]}
                row = Row(line["system"], line["variant"], int(line["seed"]), line["setting"], line["split"], images,
                          {score.metric: score for score in long(line["setting"], images, figures)}, line["fingerprint"])
                items, digest = kept.get(row.key, ({}, ""))
                rows.append(replace(row, items=items) if digest == _digest_of_items(row, items) else row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} is no table ({error}): run its sweep again") from None
    return rows


def _read_items(file: Path, task: Task) -> dict[Key, tuple[Items, str]]:
    """What is kept per item of each row, and the digest of both."""
    try:
        return {(row["system"], row["variant"], row["seed"], row["setting"]): (
            {name: np.array(row[name], np.float32) for name in task.per_item if row.get(name) is not None}, row["digest"])
            for row in (pq.read_table(file).to_pylist() if file.exists() else ())}
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged ({' '.join(str(error).split())[:100]}): run its sweep again") from None


def write_rows(table: Path, rows: Sequence[Row], task: Task) -> None:
    """At least one row; a metric that one lacks is left blank there. Items first, so that a row of a table that exists is complete."""
    table.parent.mkdir(parents=True, exist_ok=True)
    partial = table.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist(
        [{"system": row.system, "variant": row.variant, "seed": row.seed, "setting": row.setting,
          **{name: row.items.get(name) for name in task.per_item if any(name in other.items for other in rows)},
          "digest": _digest_of_items(row, row.items)} for row in rows]), partial, compression="zstd")
    files.replace(partial, table.with_suffix(".parquet"))
    with partial.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        figures = [task.wide(row.scores.values()) for row in rows]
        columns = list(dict.fromkeys(name for its in figures for name in its))
        writer.writerow([*_NAMED, *columns, *_PROOF])
        for row, its in zip(rows, figures, strict=True):
            texts = [*(str(getattr(row, name)) for name in _NAMED),
                     *(f"{its[name]:.4f}" if name in its else "" for name in columns), row.fingerprint]
            writer.writerow([*texts, _digest(texts)])
    files.replace(partial, table)


def _digest(texts: Iterable[str]) -> str:
    return files.digest_of(list(texts))[:16]


def _digest_of_items(row: Row, items: Items) -> str:
    """Of scores that belong to a row: those of the same variation in another run do not."""
    return files.digest_of([*row.key, row.fingerprint, *(values.tobytes().hex() for values in items.values())])[:16]


def by_seed(rows: Iterable[Row], metric: str) -> NDArray[np.float32]:
    """Scores per item (S, N) of rows that differ in their seeds, or in variation besides, over which each seed's are averaged."""
    seeds: dict[int, list[NDArray[np.float32]]] = {}
    for row in rows:
        seeds.setdefault(row.seed, []).append(row.items[metric])
    return np.stack([np.mean(seeds[seed], axis=0) for seed in sorted(seeds)])


def comparisons(rows: Sequence[Row], task: Task, params: EvaluationParams) -> list[Comparison]:
    """What a sweep lets one compare, by each metric with an interval: every pair of systems that a setting has the same variations and
    seeds of, averaged over the variations, the one with the higher primary metric first; and each value of what is varied against the
    first one, averaged over all else that is."""
    found = []
    for setting in dict.fromkeys(row.setting for row in rows):
        its = [row for row in rows if row.setting == setting and row.items]
        for metric in (metric.name for metric in task.metrics if metric.interval):
            known = [row for row in its if metric in row.items]
            groups: dict[str, list[Row]] = {}
            for row in known:
                groups.setdefault(row.system, []).append(row)
            best_first = sorted(groups, key=lambda system: -fmean(row.scores[task.primary].value for row in groups[system]))
            pairs = [(a, b, groups[a], groups[b]) for a, b in itertools.combinations(best_first, 2)
                     if {(row.variant, row.seed) for row in groups[a]} == {(row.variant, row.seed) for row in groups[b]}]
            for system, members in groups.items():
                pairs += _by_value(system, members)
            found += [compare(setting, metric, a, b, by_seed(ours, metric), by_seed(theirs, metric), params.seed, params.samples)
                      for a, b, ours, theirs in pairs]
    return found


def _by_value(system: str, rows: Sequence[Row]) -> list[tuple[str, str, list[Row], list[Row]]]:
    """Each later value of every key against the first one, where both were run with the same values of the other keys and seeds."""
    pairs = []
    for key in dict.fromkeys(key for row in rows for key in row.values):
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(json.dumps(row.values[key]) if key in row.values else "default", []).append(row)
        rest = {value: {(json.dumps({**row.values, key: None}, sort_keys=True), row.seed) for row in members}
                for value, members in groups.items()}
        first, *others = groups
        pairs += [(f"{system} {key}={other}", f"{system} {key}={first}", groups[other], groups[first]) for other in others
                  if rest[other] == rest[first]]
    return pairs
