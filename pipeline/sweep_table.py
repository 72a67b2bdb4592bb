"""The tables of sweeps, `data/sweeps/*.csv`: a row per system, variation, seed and setting, and beside them each row's primary metric per
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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.metrics.bootstrap import Comparison, compare
from pipeline.metrics.judge import EvaluationParams
from pipeline.tasks.base import Score, Task, long

_NAMED = ("system", "variant", "seed", "setting", "split", "images")  # columns before the scores
_PROOF = ("fingerprint", "digest")  # and behind them
_LOST = np.zeros(0, np.float32)
Key = tuple[str, str, int, str]


@dataclass(frozen=True)
class Row:
    """One trained and scored variation in one setting. variant: JSON of the values that differ from the system's, by dotted key.

    scores: by metric. fingerprint: of all that decides the row. items: the primary metric per item (N,), empty where it was lost.
    """

    system: str
    variant: str
    seed: int
    setting: str
    split: str
    images: int
    scores: dict[str, Score]
    fingerprint: str
    items: NDArray[np.float32] = field(default_factory=lambda: _LOST, compare=False)

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
    rows, items = [], _read_items(table.with_suffix(".parquet"), task)
    try:
        with table.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, restval="")
            columns = list(reader.fieldnames or ())
            if columns and (missing := [name for name in (*_NAMED, task.primary, task.control, *_PROOF) if name not in columns]):
                raise UserError(f"{table} has no column {missing[0]!r}: it was made by another version: remove it, and run its sweep again")
            for line in reader:
                if line["digest"] != _digest(line[name] for name in columns if name != "digest"):
                    raise UserError(f"{table}, line {reader.line_num}: the row is not as it was made: run its sweep again")
                images, figures = int(line["images"]), {name: float(line[name]) for name in columns if name not in _NAMED + _PROOF}
                row = Row(line["system"], line["variant"], int(line["seed"]), line["setting"], line["split"], images,
                          {score.metric: score for score in long(line["setting"], images, figures)}, line["fingerprint"])
                values, digest = items.get(row.key, (_LOST, ""))
                rows.append(replace(row, items=values) if digest == _digest_of_items(row, values) else row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} is no table ({error}): run its sweep again") from None
    return rows


def _read_items(file: Path, task: Task) -> dict[Key, tuple[NDArray[np.float32], str]]:
    """The primary metric per item of each row, and the digest of both."""
    try:
        return {(row["system"], row["variant"], row["seed"], row["setting"]): (np.array(row[task.primary], np.float32), row["digest"])
                for row in (pq.read_table(file).to_pylist() if file.exists() else ())}
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged ({' '.join(str(error).split())[:100]}): run its sweep again") from None


def write_rows(table: Path, rows: Sequence[Row], task: Task) -> None:
    """At least one row, all with the same metrics; items first, so that a row of a table that exists is complete."""
    table.parent.mkdir(parents=True, exist_ok=True)
    partial = table.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist(
        [{"system": row.system, "variant": row.variant, "seed": row.seed, "setting": row.setting, task.primary: row.items,
          "digest": _digest_of_items(row, row.items)} for row in rows]), partial)
    files.replace(partial, table.with_suffix(".parquet"))
    with partial.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow([*_NAMED, *task.wide(rows[0].scores.values()), *_PROOF])
        for row in rows:
            texts = [*(str(getattr(row, name)) for name in _NAMED),
                     *(f"{value:.4f}" for value in task.wide(row.scores.values()).values()), row.fingerprint]
            writer.writerow([*texts, _digest(texts)])
    files.replace(partial, table)


def _digest(texts: Iterable[str]) -> str:
    return files.digest_of(list(texts))[:16]


def _digest_of_items(row: Row, items: NDArray[np.float32]) -> str:
    """Of scores that belong to a row: those of the same variation in another run do not."""
    return files.digest_of([*row.key, row.fingerprint, items.tobytes().hex()])[:16]


def comparisons(rows: Sequence[Row], params: EvaluationParams) -> list[Comparison]:
    """Every pair of systems that a setting has the same variations and seeds of: their primary metric, averaged over these per item."""
    runs: dict[str, dict[str, dict[tuple[str, int], NDArray[np.float32]]]] = {}
    for row in rows:
        if row.items.size:
            runs.setdefault(row.setting, {}).setdefault(row.system, {})[row.variant, row.seed] = row.items
    return [compare(setting, a, b, np.mean(list(systems[a].values()), axis=0), np.mean(list(systems[b].values()), axis=0), params.seed,
                    params.samples)
            for setting, systems in runs.items() for a, b in itertools.permutations(systems, 2)
            if systems[a].keys() == systems[b].keys()]
