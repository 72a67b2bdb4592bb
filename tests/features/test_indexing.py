"""Each caption's nearest others on disk: whole after a kill, and refused where they belong to something else."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from pipeline.core import paths
from pipeline.core.files import digest_tree
from pipeline.features import indexing, stores
from pipeline.features.indexing import IndexParams, index_corpus, read_neighbours
from pipeline.features.stores import FeatureStore, read
from tests.artefacts import CLIP, seal_again, write_corpus, write_texts

ROWS, K = 20, 4
FOLDER = paths.neighbours(CLIP, "scenes")


@pytest.fixture(autouse=True)
def _corpus(tmp_path, monkeypatch, unit_rows):
    """Twenty captions, indexed in shards of eight."""
    monkeypatch.chdir(tmp_path)
    for module in (stores, indexing):
        monkeypatch.setattr(module, "SHARD_ROWS", 8)
    write_corpus("scenes", [f"caption {row}" for row in range(ROWS)])
    write_texts("scenes", unit_rows(ROWS, 8, 0))


def index(neighbours: int = K) -> None:
    index_corpus(CLIP, "scenes", IndexParams(neighbours=neighbours), torch.device("cpu"))


def store() -> FeatureStore:
    return read(paths.text_features(CLIP, "scenes"))


def neighbours() -> np.ndarray:
    return read_neighbours(CLIP, "scenes")


def test_a_captions_neighbours_are_the_most_similar_others_best_first():
    index()
    similarity = store().features.astype(np.float32) @ store().features.astype(np.float32).T
    np.fill_diagonal(similarity, -np.inf)
    found = neighbours()
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.argsort(-similarity, axis=1, kind="stable")[:, :K])


def test_an_interrupted_search_goes_on_where_it_was_and_ends_in_the_same_bytes(monkeypatch):
    index()
    whole, real, searched = digest_tree(FOLDER), indexing.nearest_others, []
    shutil.rmtree(paths.WORK)

    def killed_once(*arguments: object) -> object:
        searched.append(arguments[2].start)
        if len(searched) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(indexing, "nearest_others", killed_once)
    with pytest.raises(KeyboardInterrupt):
        index()
    index()
    assert searched == [0, 8, 8, 16]
    assert digest_tree(FOLDER) == whole


def test_a_corpus_of_too_few_captions_says_what_to_lower(user_error):
    assert "index.neighbours" in user_error(index, ROWS)


def test_neighbours_that_were_never_found_say_what_to_run(user_error):
    assert user_error(neighbours) == f"{FOLDER} is missing: add scenes to index.corpora in params.yaml and run `dvc repro`"


def test_neighbours_in_another_clips_space_are_refused(unit_rows, user_error):
    index()
    write_texts("scenes", unit_rows(ROWS, 8, 0), clip_digest="e" * 64)
    assert f"{FOLDER} was made from another corpus or CLIP" in user_error(neighbours)


def test_neighbours_of_another_corpus_are_refused(unit_rows, user_error):
    index()
    write_corpus("scenes", [f"another caption {row}" for row in range(ROWS)])
    write_texts("scenes", unit_rows(ROWS, 8, 0))
    assert f"{FOLDER} was made from another corpus or CLIP" in user_error(neighbours)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b""], ids=["cut", "empty"])
@pytest.mark.parametrize("file", ["zarr.json", "c/1/0"])
def test_damaged_neighbours_are_named(user_error, file, damage):
    index()
    (FOLDER / file).write_bytes(damage((FOLDER / file).read_bytes()))
    seal_again(FOLDER)
    assert str(FOLDER) in user_error(neighbours)


def test_a_deleted_chunk_is_never_read_as_neighbours(user_error):
    index()
    (FOLDER / "c" / "1" / "0").unlink()
    seal_again(FOLDER)
    assert str(FOLDER) in user_error(neighbours)
