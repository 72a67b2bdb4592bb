"""Tables of sweeps: what is written is what is read, and a table that was edited or is of an older layout says what is wrong with it."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.sweep_table import (
    Comparison,
    Row,
    comparisons_file,
    read_cider,
    read_comparisons,
    read_rows,
    tables,
    variant_of,
    write_comparisons,
    write_rows,
)

ROW = Row("knight", variant_of({"train.k": 3}), 0, "pictures.in-domain", "val", 2, 61.25, 55.5, 66.75, 8.125, 0.6875, "0123456789abcdef")
VARIANTS = [{}, {"train.k": 3}, {"train.noise_std": 0.5}, {"train.objects": True, "train.project": False}, {"decoder": 'a "b", c\n= d'},
            {"caption.temperature": {"scenes": 0.01}}, {"train.k": None}]


def cider_of(rows: list[Row]) -> dict:
    return {row.key: np.arange(row.images, dtype=np.float32) + number for number, row in enumerate(rows)}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with a row per variant, its scores per image beside it."""
    rows = [replace(ROW, variant=variant_of(values), seed=seed) for values in VARIANTS for seed in (0, 1)]
    write_rows(tmp_path / "sweeps" / "k.csv", rows, cider_of(rows))
    return tmp_path / "sweeps" / "k.csv"


def test_rows_are_read_as_they_were_written_whatever_was_varied(table):
    rows = read_rows(table)
    assert [(row.values, row.seed) for row in rows] == [(values, seed) for values in VARIANTS for seed in (0, 1)]
    assert replace(rows[2], seed=0) == ROW
    assert rows[2].key == ("knight", '{"train.k": 3}', 0, "pictures.in-domain")
    cider = read_cider(table, rows)
    assert cider.keys() == {row.key for row in rows}
    assert all(np.array_equal(cider[key], values) for key, values in cider_of(rows).items())


def test_rows_keep_four_digits_and_the_same_rows_give_the_same_bytes(table):
    rows = [replace(row, CIDEr=61.123456) for row in read_rows(table)]
    write_rows(table, rows, cider_of(rows))
    first = table.read_bytes(), table.with_suffix(".parquet").read_bytes()
    assert {row.CIDEr for row in read_rows(table)} == {61.1235}
    write_rows(table, read_rows(table), read_cider(table, rows))
    assert (table.read_bytes(), table.with_suffix(".parquet").read_bytes()) == first
    assert not list(table.parent.glob("*.partial"))


def test_a_table_without_rows_is_a_header_and_a_missing_or_empty_one_has_none(tmp_path):
    write_rows(tmp_path / "k.csv", [], {})
    assert (tmp_path / "k.csv").read_text().startswith("system,variant,seed,setting,split,images,CIDEr,")
    (tmp_path / "empty.csv").touch()
    for name in ("k", "empty", "missing"):
        assert read_rows(tmp_path / f"{name}.csv") == []
        assert read_cider(tmp_path / f"{name}.csv", [ROW]) == {}
        assert read_comparisons(tmp_path / f"{name}.csv") == []


def test_comparisons_lie_beside_their_table_and_a_ratio_that_is_none_comes_back_as_none(table):
    whole = Comparison("pictures.in-domain", "knight", "raw", 5.25, -1.0, 9.5, 1.25, 0.5, 2.0)
    without = replace(whole, a="raw", b="knight", ratio=math.nan, ratio_low=math.nan, ratio_high=math.nan)
    write_comparisons(table, [whole, without])
    first, second = read_comparisons(table)
    assert first == whole
    assert (second.a, second.difference) == ("raw", 5.25)
    assert all(math.isnan(value) for value in (second.ratio, second.ratio_low, second.ratio_high))
    assert comparisons_file(table).name == "k-comparisons.csv"
    assert tables(table.parent) == [table]


def change(file: Path, column: str, value: str, line: int = 2) -> None:
    """Another value in one column of one line, as a spreadsheet would write it."""
    with file.open(newline="") as text:
        rows = list(csv.reader(text))
    rows[line - 1][rows[0].index(column)] = value
    with file.open("w", newline="") as text:
        csv.writer(text, lineterminator="\n").writerows(rows)


@pytest.mark.parametrize(("column", "value"), [
    ("CIDEr", "99.9999"), ("CIDEr_high", ""), ("seed", "1.5"), ("images", "many"), ("variant", "[1]"), ("system", "knigth"),
    ("digest", ""), ("digest", "0123456789abcdef"),
])
def test_an_edited_row_is_named_with_its_file_and_line(tmp_path, user_error, column, value):
    rows = [ROW, replace(ROW, seed=1)]
    write_rows(tmp_path / "k.csv", rows, cider_of(rows))
    change(tmp_path / "k.csv", column, value, line=3)
    message = user_error(read_rows, tmp_path / "k.csv")
    assert f"{tmp_path / 'k.csv'}, line 3: the row is not as it was made" in message
    assert "run its sweep again" in message


@pytest.mark.parametrize(("column", "value"), [("difference", ""), ("ratio", "big"), ("difference_low", "nan"), ("difference_low", "-0.5")])
def test_an_edited_comparison_is_named(tmp_path, user_error, column, value):
    write_comparisons(tmp_path / "k.csv", [Comparison("pictures.in-domain", "knight", "raw", 5.25, -1.0, 9.5, 1.25, 0.5, 2.0)])
    change(tmp_path / "k-comparisons.csv", column, value)
    assert "k-comparisons.csv, line 2: the row is not as it was made" in user_error(read_comparisons, tmp_path / "k.csv")


def test_scores_per_image_that_were_changed_belong_to_no_row_and_damaged_ones_are_named(table, user_error):
    rows, file = read_rows(table), table.with_suffix(".parquet")
    content, whole = file.read_bytes(), pq.read_table(file)
    changed = whole.set_column(whole.column_names.index("CIDEr"), "CIDEr", [[[7.0, 8.5]] * len(whole)])
    pq.write_table(changed, file)
    assert read_cider(table, rows) == {}
    for damage in (content[:100], b"", content[:-60] + bytes(60), b"nonsense"):
        file.write_bytes(damage)
        assert "k.parquet is damaged" in user_error(read_cider, table, rows)


def test_scores_per_image_of_another_run_belong_to_no_row(table):
    """As a kill between the two files leaves them, or half of them restored."""
    rows = read_rows(table)
    again = [replace(rows[0], fingerprint="another run"), *rows[1:]]
    assert read_cider(table, again).keys() == {row.key for row in rows[1:]}


def test_a_table_that_lacks_a_column_or_breaks_off_in_a_line_is_named(table, user_error):
    whole = table.read_text()
    table.write_text(whole.replace("CLIPScore", "ClipScore", 1))
    assert "k.csv has no column 'CLIPScore': expected system,variant," in user_error(read_rows, table)
    table.write_text(whole[: whole.index("61.2500,55.5000") + 7])
    assert "line 2: the row is not as it was made" in user_error(read_rows, table)


def test_a_table_that_is_no_text_is_named(table, user_error):
    table.write_bytes(table.read_bytes().replace(b"knight", b"kn\xffght"))
    assert "k.csv is no table" in user_error(read_rows, table)
