"""Feature stores: what is written is read, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.artefacts import seal
from pipeline.core.files import digest_tree
from pipeline.core.resume import resumable
from pipeline.features import stores
from pipeline.features.stores import FeatureStore, Origin, read, unit, write_shards, write_store

TARGET = Path("data/features/tiny/text/scenes/features")
ORIGIN = Origin("tiny", "c" * 64, 8, "none", "t" * 64, "float32")
ROWS = 20


@pytest.fixture(autouse=True)
def _in_a_fresh_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stores, "SHARD_ROWS", 8)


def raw_features(shape: tuple[int, ...] = (ROWS, 8)) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=4, size=shape).astype(np.float32)


def write(target: Path = TARGET, encoded: list[int] | None = None, killed_at: int | None = None, raw: np.ndarray | None = None,
          origin: Origin = ORIGIN) -> None:
    """Write a store; `encoded` collects the first row of each shard, `killed_at` is the shard in which the run dies."""
    values = raw_features() if raw is None else raw

    def encode(start: int, stop: int) -> tuple[np.ndarray, int]:
        if start == killed_at:
            raise KeyboardInterrupt
        if encoded is not None:
            encoded.append(start)
        return values[start:stop], stop - start - 3

    with resumable(target, stores.__name__, origin=origin.clip_digest) as work:
        write_shards(work, values.shape, origin, "embed", encode)


@pytest.mark.parametrize("shape", [(ROWS, 8), (ROWS, 5, 8), (3, 8)])
def test_features_come_back_as_unit_rows_with_their_lengths(shape):
    raw = raw_features(shape)
    write(raw=raw)
    store = read(TARGET)
    lengths = np.sqrt((raw.astype(np.float64) ** 2).sum(-1))
    assert store.features.dtype == np.float16
    assert store.norms.dtype == np.float32
    np.testing.assert_allclose(store.norms, lengths, rtol=1e-6)
    # half precision rounds each number below 1 by at most 2 ** -12
    np.testing.assert_allclose(store.features.astype(np.float64), raw / lengths[..., None], atol=2**-12 * 1.01)
    np.testing.assert_allclose(np.linalg.norm(store.features.astype(np.float32), axis=-1), 1, atol=2e-3)


@pytest.mark.parametrize("rows", [1, 8, ROWS])
def test_a_store_written_in_one_go_has_the_bytes_of_one_written_in_shards(rows):
    origin = replace(ORIGIN, truncated=sum(min(8, rows - start) - 3 for start in range(0, rows, 8)))
    write(raw=raw_features()[:rows], origin=origin)
    write_store(Path("at-once"), raw_features()[:rows], origin)
    seal(Path("at-once"))
    assert digest_tree(Path("at-once")) == digest_tree(TARGET)
    assert read(Path("at-once")).origin == origin


def test_a_store_written_over_another_keeps_nothing_of_it():
    for raw in (raw_features(), raw_features((3, 8))):
        write_store(TARGET, raw, ORIGIN)
    seal(TARGET)
    assert read(TARGET).features.shape == (3, 8)
    assert not (TARGET / "features/c/1/0").exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_unit_rows_have_length_one_in_single_precision_and_zeros_stay_zeros(dtype):
    raw = raw_features()
    raw[4] = 0
    rows = unit(raw.astype(dtype))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [0.0 if row == 4 else 1.0 for row in range(ROWS)], rtol=1e-6)


def test_a_store_knows_its_origin_and_how_many_sentences_were_cut():
    write()
    store = read(TARGET)
    # shards of 8, 8 and 4 rows, all but three of each cut
    assert store.origin == replace(ORIGIN, truncated=5 + 5 + 1)
    assert store.path == TARGET


def test_a_feature_of_length_zero_stays_zero_instead_of_spoiling_the_store():
    raw = raw_features()
    raw[4] = 0
    write(raw=raw)
    assert not read(TARGET).features[4].any()


def test_an_interrupted_run_encodes_only_what_is_missing_and_ends_in_the_same_bytes():
    write(Path("data/features/whole"))
    first: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        write(encoded=first, killed_at=8)
    assert not TARGET.exists()
    second: list[int] = []
    write(encoded=second)
    assert (first, second) == ([0], [8, 16])
    assert digest_tree(TARGET) == digest_tree(Path("data/features/whole"))
    assert read(TARGET).origin.truncated == 11


def test_the_same_features_have_the_same_bytes_twice_and_others_have_not():
    for name, origin, raw in (("one", ORIGIN, None), ("two", ORIGIN, None), ("three", replace(ORIGIN, clip_digest="d" * 64), None),
                              ("four", ORIGIN, -raw_features())):
        write(Path(f"data/features/{name}"), raw=raw, origin=origin)
    digests = [digest_tree(Path(f"data/features/{name}")) for name in ("one", "two", "three", "four")]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_missing_store_says_what_to_run(user_error):
    assert user_error(read, TARGET) == f"{TARGET} is missing: run `dvc repro`"


@pytest.mark.parametrize("chunk", ["features/c/1/0", "norms/c/2"])
def test_a_deleted_chunk_is_noticed(user_error, chunk):
    write()
    (TARGET / chunk).unlink()
    seal(TARGET)
    assert f"{TARGET} lacks chunks" in user_error(read, TARGET)


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("chunk", ["features/c/1/0", "norms/c/2"])
@pytest.mark.parametrize("damage", [flip, lambda data: data[:-7], lambda data: b""], ids=["flipped byte", "cut", "empty"])
def test_a_damaged_chunk_is_noticed(user_error, chunk, damage):
    write()
    (TARGET / chunk).write_bytes(damage((TARGET / chunk).read_bytes()))
    seal(TARGET)
    assert f"{TARGET} is damaged" in user_error(read, TARGET)


@pytest.mark.parametrize("file", ["zarr.json", "features/zarr.json", "norms/zarr.json"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b""], ids=["cut", "empty"])
def test_damaged_metadata_is_noticed(user_error, file, damage):
    write()
    (TARGET / file).write_bytes(damage((TARGET / file).read_bytes()))
    seal(TARGET)
    assert str(TARGET) in user_error(read, TARGET)


def test_missing_metadata_of_an_array_is_noticed(user_error):
    write()
    (TARGET / "norms" / "zarr.json").unlink()
    seal(TARGET)
    assert f"{TARGET} is damaged" in user_error(read, TARGET)


def edit_attributes(change: Callable[[dict], object]) -> None:
    metadata = json.loads((TARGET / "zarr.json").read_text())
    change(metadata["attributes"])
    (TARGET / "zarr.json").write_text(json.dumps(metadata))
    seal(TARGET)


@pytest.mark.parametrize("change", [lambda a: a.update(schema=2), lambda a: a.pop("schema")], ids=["newer", "none"])
def test_a_store_of_another_schema_is_refused(user_error, change):
    write()
    edit_attributes(change)
    assert "another schema" in user_error(read, TARGET)


@pytest.fixture
def store() -> FeatureStore:
    return FeatureStore(np.zeros((1, 8), np.float16), np.ones(1, np.float32), ORIGIN, TARGET)


def test_features_of_another_clip_or_table_are_refused_with_the_command_that_mends_it(store, user_error):
    message = user_error(store.require, clip_digest="e" * 64)
    assert "another CLIP" in message
    assert "c" * 12 in message
    assert "e" * 12 in message
    assert "another table" in user_error(store.require, source_digest="e" * 64)
    assert "dvc repro" in user_error(store.require, "c" * 64, "e" * 64)


def test_features_of_the_right_clip_and_table_pass(store):
    assert store.require("c" * 64, "t" * 64) is store.require() is store
