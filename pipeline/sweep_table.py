"""The tables of sweeps, `data/sweeps/*.csv`: one row per system, variation, seed and setting, its CIDEr per image beside them, and
comparisons of systems. Written by sweeps, read by the report, and nowhere else laid out. Every row ends with a digest of itself: one that
was edited or damaged is not believed.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.core.files import digest_of, replace

_COMPARISONS = "-comparisons"
_DIGEST = "digest"  # the last column
_T = TypeVar("_T", "Row", "Comparison")
Key = tuple[str, str, int, str]


@dataclass(frozen=True)
class Row:
    """One trained and scored variation in one setting. variant: JSON of the values that differ from the system's, by dotted key.

    Scores as the evaluation gives them; the interval is over images. fingerprint: of all that decides the row.
    """

    system: str
    variant: str
    seed: int
    setting: str
    split: str
    images: int
    CIDEr: float
    CIDEr_low: float
    CIDEr_high: float
    CIDEr_shuffled: float
    CLIPScore: float
    fingerprint: str

    @property
    def key(self) -> Key:
        """What makes a row another row of the same table."""
        return self.system, self.variant, self.seed, self.setting

    @property
    def values(self) -> dict[str, Any]:
        """What is varied."""
        found: dict[str, Any] = json.loads(self.variant)
        return found


@dataclass(frozen=True)
class Comparison:
    """System a against b: mean difference of per-image CIDEr and ratio of the means, with paired 95 % intervals; NaN for no ratio."""

    setting: str
    a: str
    b: str
    difference: float
    difference_low: float
    difference_high: float
    ratio: float
    ratio_low: float
    ratio_high: float


def variant_of(values: dict[str, Any]) -> str:
    """The text of a variation."""
    return json.dumps(values)


def tables(folder: Path) -> list[Path]:
    """Every table of rows in a folder, by name."""
    return [file for file in sorted(folder.glob("*.csv")) if not file.stem.endswith(_COMPARISONS)]


def comparisons_file(table: Path) -> Path:
    """Where a table's comparisons lie."""
    return table.with_name(f"{table.stem}{_COMPARISONS}.csv")


def read_rows(table: Path) -> list[Row]:
    """Rows of a table; a missing or empty file has none. Raises `UserError` for a table of another layout and a row that was changed."""
    return list(_read(table, Row))


def read_comparisons(table: Path) -> list[Comparison]:
    """The comparisons beside a table; none where there is no such file."""
    return list(_read(comparisons_file(table), Comparison))


def read_cider(table: Path, of: Sequence[Row]) -> dict[Key, NDArray[np.float32]]:
    """CIDEr per image of these rows of a table, without rows that have none of their own. Raises `UserError` for a damaged file."""
    file = table.with_suffix(".parquet")
    if not file.exists():
        return {}
    try:
        rows = pq.read_table(file).to_pylist()
        scores = {(row["system"], row["variant"], row["seed"], row["setting"]): np.array(row["CIDEr"], np.float32) for row in rows}
        digests = dict(zip(scores, (row["digest"] for row in rows), strict=True))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged ({' '.join(str(error).split())[:100]}): run its sweep again") from None
    return {row.key: scores[row.key] for row in of if row.key in scores and digests[row.key] == _digest_of_cider(row, scores[row.key])}


def write_rows(table: Path, rows: Sequence[Row], cider: dict[Key, NDArray[np.float32]]) -> None:
    """A table and its scores per image; these first, so that a row of a table that exists is complete."""
    table.parent.mkdir(parents=True, exist_ok=True)
    partial = table.with_suffix(".partial")
    system, variant, seed, setting = zip(*(row.key for row in rows), strict=True) if rows else ((),) * 4
    pq.write_table(pa.table({"system": pa.array(system, pa.string()), "variant": pa.array(variant, pa.string()),
                             "seed": pa.array(seed, pa.int64()), "setting": pa.array(setting, pa.string()),
                             "CIDEr": pa.array([cider[row.key] for row in rows], pa.list_(pa.float32())),
                             "digest": pa.array([_digest_of_cider(row, cider[row.key]) for row in rows], pa.string())}), partial)
    replace(partial, table.with_suffix(".parquet"))
    _write(table, rows, Row)


def write_comparisons(table: Path, comparisons: Sequence[Comparison]) -> None:
    """The comparisons beside a table."""
    _write(comparisons_file(table), comparisons, Comparison)


def _write(file: Path, rows: Sequence[Any], cls: type) -> None:
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow([*(column.name for column in fields(cls)), _DIGEST])
        for row in rows:
            texts = [_text(value) for value in asdict(row).values()]
            writer.writerow([*texts, _digest(texts)])
    replace(partial, file)


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else f"{value:.4f}"


def _digest(texts: Sequence[str]) -> str:
    return digest_of(list(texts))[:16]


def _digest_of_cider(row: Row, values: NDArray[np.float32]) -> str:
    """Of scores that belong to a row: those of the same variation in another run do not."""
    return digest_of([*row.key, row.fingerprint, values.astype(np.float32).tobytes().hex()])[:16]


def _read(file: Path, cls: type[_T]) -> Iterator[_T]:
    """Rows of a file as objects."""
    if not file.exists():
        return
    kinds: dict[str, str] = {column.name: str(column.type) for column in fields(cls)}
    wanted = [*kinds, _DIGEST]
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, restval="")
            if missing := [column for column in wanted if column not in (reader.fieldnames or wanted)]:
                raise UserError(f"{file} has no column {missing[0]!r}: expected {','.join(wanted)}; run its sweep again")
            for row in reader:
                if row[_DIGEST] != _digest([row[key] for key in kinds]):
                    raise UserError(f"{file}, line {reader.line_num}: the row is not as it was made: run its sweep again")
                yield cls(**{key: _value(kinds[key], row[key]) for key in kinds})
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is no table ({error}): run its sweep again") from None


def _value(kind: str, text: str) -> Any:
    if kind == "str":
        return text
    return int(text) if kind == "int" else float(text or "nan")
