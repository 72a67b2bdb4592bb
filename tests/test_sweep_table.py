"""Tables of sweeps: what is written is what is read, and a table that was edited or is of an older layout says what is wrong with it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.core import paths
from pipeline.metrics.judge import EvaluationParams
from pipeline.sweep_table import Row, comparisons, read_rows, write_rows
from pipeline.tasks.base import Score, long
from pipeline.tasks.caption import TASK

FIGURES = {"CIDEr": 61.25, "CLIPScore": 0.6875, "CIDEr_low": 55.5, "CIDEr_high": 66.75, "CIDEr_shuffled": 8.125}
VARIANTS = [{}, {"train.k": 3}, {"train.noise_std": 0.5}, {"train.objects": True, "train.project": False}, {"decoder": 'a "b", c\n= d'},
            {"caption.temperature": {"scenes": 0.01}}, {"train.k": None}]
EVALUATION = EvaluationParams("judge", samples=20)


def row_of(number: int = 0, system: str = "knight", variant: str = '{"train.k": 3}', seed: int = 0, **figures: float) -> Row:
    scores = {score.metric: score for score in long("pictures.in-domain", 2, {**FIGURES, **figures})}
    return Row(system, variant, seed, "pictures.in-domain", "val", 2, scores, "0123456789abcdef",
               {"CIDEr": np.arange(2, dtype=np.float32) + number})


@pytest.fixture
def rows() -> list[Row]:
    return [row_of(10 * seed, variant=json.dumps(values), seed=seed) for values in VARIANTS for seed in (0, 1)]


@pytest.fixture
def table(tmp_path: Path, rows: list[Row]) -> Path:
    """A table with a row per variant, its scores per image beside it."""
    write_rows(tmp_path / "sweeps" / "k.csv", rows, TASK)
    return tmp_path / "sweeps" / "k.csv"


def test_rows_are_read_as_they_were_written_whatever_was_varied(table, rows):
    found = read_rows(table, TASK)
    assert list(map(repr, found)) == list(map(repr, rows))
    assert [(row.values, row.seed) for row in found] == [(values, seed) for values in VARIANTS for seed in (0, 1)]
    assert found[2].key == ("knight", '{"train.k": 3}', 0, "pictures.in-domain")
    assert found[2].scores["CIDEr"] == Score("pictures.in-domain", "CIDEr", 61.25, 55.5, 66.75, 2)
    assert all(np.array_equal(row.items["CIDEr"], written.items["CIDEr"]) for row, written in zip(found, rows, strict=True))


def test_rows_keep_four_digits_and_the_same_rows_give_the_same_bytes(table):
    write_rows(table, [row_of(CIDEr=61.123456)], TASK)
    first = table.read_bytes(), table.with_suffix(".parquet").read_bytes()
    assert [row.scores["CIDEr"].value for row in read_rows(table, TASK)] == [61.1235]
    write_rows(table, read_rows(table, TASK), TASK)
    assert (table.read_bytes(), table.with_suffix(".parquet").read_bytes()) == first
    assert not list(table.parent.glob("*.partial"))


def test_a_missing_or_empty_table_has_no_rows(tmp_path):
    (tmp_path / "empty.csv").touch()
    for name in ("empty", "missing"):
        assert read_rows(tmp_path / f"{name}.csv", TASK) == []


@pytest.mark.parametrize("file", sorted((Path(__file__).parent.parent / paths.SWEEPS).glob("*.csv")), ids=lambda file: file.stem)
def test_the_shipped_sweeps_are_whole_with_their_scores_per_image(file):
    found = read_rows(file, TASK)
    assert found
    for row in found:
        assert {len(items) for items in row.items.values()} == {row.images}
        for name, items in row.items.items():
            assert items.mean() == pytest.approx(row.scores[name].value, abs=1e-3)


def test_systems_are_compared_over_the_same_variations_and_seeds_alone():
    both = [row_of(number + 2 * seed, system, seed=seed) for number, system in ((1, "raw"), (4, "knight")) for seed in (0, 1)]
    both = [replace(row, scores={"CIDEr": replace(row.scores["CIDEr"], value=float(row.items["CIDEr"].mean()))}) for row in both]
    (found,) = comparisons(both, TASK, EVALUATION)
    assert (found.metric, found.a, found.b, found.seeds) == ("CIDEr", "knight", "raw", (2, 2))
    assert found.difference[0] == 3.0
    assert found.ratio is not None
    assert found.ratio[0] == pytest.approx(5.5 / 2.5)
    assert comparisons(both[:-1], TASK, EVALUATION) == []
    assert comparisons([*both[:-1], replace(both[-1], variant="{}")], TASK, EVALUATION) == []


def test_a_claim_counts_how_much_seeds_differ():
    """Two systems of which every image tells the same, and the seeds do not."""
    lucky = [row_of(0, system, seed=seed) for system in ("a", "b") for seed in (0, 1)]
    scores = {("a", 0): 10.0, ("a", 1): 4.0, ("b", 0): 5.0, ("b", 1): 7.0}  # differences 5 and -3
    rows = [replace(row, items={"CIDEr": np.full(50, scores[row.system, row.seed], np.float32)}) for row in lucky]
    (found,) = comparisons(rows, TASK, EvaluationParams("judge", samples=500))
    assert found.difference[0] == 1.0
    assert found.difference[1:] == pytest.approx((1 - 4 * 2**0.5, 1 + 4 * 2**0.5), abs=1e-6)
    assert not found.told_apart


def test_the_values_of_what_is_varied_are_compared_over_all_else():
    rows = [replace(row_of(variant=json.dumps({"train.k": k, "train.on": on}), seed=seed),
                    items={"CIDEr": np.full(4, 10 * k + on, np.float32)}) for k in (1, 2, 3) for on in (False, True) for seed in (0, 1)]
    found = {(row.a, row.b): row.difference for row in comparisons(rows, TASK, EVALUATION)}
    assert found == {("knight train.k=2", "knight train.k=1"): (10.0,) * 3, ("knight train.k=3", "knight train.k=1"): (20.0,) * 3,
                     ("knight train.on=true", "knight train.on=false"): (1.0,) * 3}


def test_a_ratio_over_what_may_be_zero_is_none():
    a, b = (replace(row_of(system=system), items={"CIDEr": np.array(items, np.float32)})
            for system, items in (("a", [1, 2]), ("b", [0, 4])))
    assert comparisons([a, b], TASK, EVALUATION)[0].ratio is None
    assert comparisons([replace(b, system="a"), replace(a, system="b")], TASK, EVALUATION)[0].ratio is not None


def test_a_metric_that_a_row_lacks_is_blank_there_and_stays_so(tmp_path):
    full = replace(row_of(seed=1, CHAIRs=0.25), items={"CIDEr": np.ones(2, np.float32), "CHAIRs": np.array([0, 0.5], np.float32)})
    write_rows(tmp_path / "k.csv", [row_of(), full], TASK)
    without, with_it = read_rows(tmp_path / "k.csv", TASK)
    assert "CHAIRs" not in without.scores
    assert list(without.items) == ["CIDEr"]
    assert with_it.scores["CHAIRs"].value == 0.25
    write_rows(tmp_path / "k.csv", [row_of(CIDEr_constant=9.0), full], TASK)
    assert read_rows(tmp_path / "k.csv", TASK)[0].scores["CIDEr_constant"].value == 9
    assert with_it.items["CHAIRs"].tolist() == [0, 0.5]


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
    write_rows(tmp_path / "k.csv", [row_of(), row_of(seed=1)], TASK)
    change(tmp_path / "k.csv", column, value, line=3)
    message = user_error(read_rows, tmp_path / "k.csv", TASK)
    assert f"{tmp_path / 'k.csv'}, line 3: the row is not as it was made" in message
    assert "run its sweep again" in message


def test_scores_per_image_that_were_changed_belong_to_no_row_and_damaged_ones_are_named(table, user_error):
    file = table.with_suffix(".parquet")
    content, whole = file.read_bytes(), pq.read_table(file)
    changed = whole.set_column(whole.column_names.index("CIDEr"), "CIDEr", [[[7.0, 8.5]] * len(whole)])
    pq.write_table(changed, file)
    assert not any(row.items for row in read_rows(table, TASK))
    for damage in (content[:100], b"", content[:-60] + bytes(60), b"nonsense"):
        file.write_bytes(damage)
        assert "k.parquet is damaged" in user_error(read_rows, table, TASK)


def test_scores_per_image_of_another_run_belong_to_no_row(table, rows):
    """As a kill between the two files leaves them, or half of them restored."""
    other = table.with_name("other.csv")
    write_rows(other, [replace(rows[0], fingerprint="another run"), *rows[1:]], TASK)
    other.with_suffix(".parquet").replace(table.with_suffix(".parquet"))
    assert [row.key for row in read_rows(table, TASK) if row.items] == [row.key for row in rows[1:]]


def test_a_table_that_lacks_a_column_or_breaks_off_in_a_line_is_named(table, user_error):
    whole = table.read_text()
    table.write_text(whole.replace("CIDEr,", "Cider,", 1))
    assert "k.csv has no column 'CIDEr': it was made by another version" in user_error(read_rows, table, TASK)
    table.write_text(whole[: whole.index("61.2500,0.6875") + 7])
    assert "line 2: the row is not as it was made" in user_error(read_rows, table, TASK)


def test_a_table_that_is_no_text_is_named(table, user_error):
    table.write_bytes(table.read_bytes().replace(b"knight", b"kn\xffght"))
    assert "k.csv is no table" in user_error(read_rows, table, TASK)
