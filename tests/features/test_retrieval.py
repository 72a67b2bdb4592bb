"""Nearest neighbours and projection against their naive twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.features import retrieval
from pipeline.features.retrieval import Index, nearest_others, project, search

# torch and numpy add the products in another order
SUM_ORDER = 1e-6


def build_index(base: np.ndarray) -> Index:
    return Index(torch.from_numpy(base))


def naive_search(base: np.ndarray, queries: np.ndarray, k: int, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All pairs in float32, best first, equal ones by row; `own` names the row of `base` that each query may not find."""
    similarity = queries.astype(np.float32) @ base.astype(np.float32).T
    if own is not None:
        similarity[np.arange(len(queries)), own] = -np.inf
    rows = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarity, rows, 1), rows


def naive_projection(queries: torch.Tensor, support: torch.Tensor, temperature: float) -> torch.Tensor:
    queries, support = queries.double(), support.double()
    return torch.softmax(queries @ support.T / temperature, dim=1) @ support


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_search_finds_the_captions_that_an_all_pairs_comparison_finds(unit_rows, dtype):
    base, queries = unit_rows(300, 16, 0).astype(dtype), unit_rows(20, 16, 1)
    similarity, rows = search(build_index(base), queries, 7)
    expected_similarity, expected_rows = naive_search(base, queries, 7)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(similarity, expected_similarity, atol=SUM_ORDER)


@pytest.mark.parametrize("k", [1, 7, 40, 100, 299, 300, 500])
@pytest.mark.parametrize("rows", [63, 64, 65, 300])
def test_search_over_several_blocks_finds_what_one_block_would(unit_rows, monkeypatch, rows, k):
    base, queries = unit_rows(rows, 16, 0).astype(np.float16), unit_rows(50, 16, 1)
    for name, value in (("_BLOCK", 64), ("_GROUPS", 8), ("_QUERIES", 16), ("_RESCORED", 20)):
        monkeypatch.setattr(retrieval, name, value)
    similarity, found = search(build_index(base), queries, k)
    expected_similarity, expected = naive_search(base, queries, k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(similarity, expected_similarity, atol=SUM_ORDER)


@pytest.mark.parametrize("order", [1, -1], ids=["worst first", "best first"])
def test_search_finds_the_best_wherever_in_the_corpus_they_lie(unit_rows, monkeypatch, order):
    base, query = unit_rows(640, 16, 0), unit_rows(1, 16, 1)
    base = base[np.argsort(order * (query @ base.T)[0])].astype(np.float16)
    for name, value in (("_BLOCK", 64), ("_GROUPS", 8)):
        monkeypatch.setattr(retrieval, name, value)
    _, found = search(build_index(base), query, 100)
    np.testing.assert_array_equal(found, naive_search(base, query, 100)[1])


def test_faiss_which_searches_on_a_gpu_proposes_what_blocked_products_propose(unit_rows):
    base, queries = unit_rows(300, 16, 0).astype(np.float16), unit_rows(20, 16, 1)
    index, other = build_index(base), build_index(base)
    other._propose = retrieval._faiss_proposals(torch.from_numpy(base))
    for one, two in zip(search(index, queries, 7), search(other, queries, 7), strict=True):
        np.testing.assert_array_equal(one, two)


def test_no_queries_find_nothing(unit_rows):
    similarity, rows = search(build_index(unit_rows(30, 8, 0)), np.empty((0, 8), np.float32), 4)
    assert similarity.shape == rows.shape == (0, 4)


def test_search_returns_a_whole_small_corpus_rather_than_empty_slots(unit_rows):
    base = unit_rows(3, 8, 0).astype(np.float16)
    similarity, rows = search(build_index(base), unit_rows(2, 8, 1), 5)
    assert rows.shape == similarity.shape == (2, 3)
    np.testing.assert_array_equal(np.sort(rows, axis=1), [[0, 1, 2]] * 2)


def test_equally_similar_captions_come_in_corpus_order(unit_rows):
    base = unit_rows(30, 8, 0).astype(np.float16)
    base[[4, 11, 23]] = base[17]
    _, rows = search(build_index(base), base[17:18].astype(np.float32), 4)
    np.testing.assert_array_equal(rows, [[4, 11, 17, 23]])


@pytest.mark.parametrize("block", [range(0, 120), range(50, 51), range(37, 90)])
def test_a_captions_neighbours_are_the_nearest_others_whatever_the_block(unit_rows, block):
    base = unit_rows(120, 16, 3).astype(np.float16)
    similarity, rows = nearest_others(build_index(base), base, block, 5)
    expected_similarity, expected_rows = naive_search(base, base[block.start : block.stop], 5, own=np.array(block))
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(similarity, expected_similarity, atol=SUM_ORDER)
    assert not (rows == np.array(block)[:, None]).any()


def test_a_repeated_sentence_is_a_neighbour_of_its_repetition(unit_rows):
    base = unit_rows(30, 8, 0).astype(np.float16)
    base[20] = base[5]
    _, rows = nearest_others(build_index(base), base, range(30), 3)
    assert rows[5, 0] == 20
    assert rows[20, 0] == 5


def test_a_caption_is_never_its_own_neighbour_even_among_more_duplicates_than_neighbours(unit_rows):
    base = unit_rows(40, 8, 0).astype(np.float16)
    copies = np.arange(10, 22)
    base[copies] = base[10]
    similarity, rows = nearest_others(build_index(base), base, range(40), 4)
    assert not (rows == np.arange(40)[:, None]).any()
    assert all(len(set(row)) == 4 for row in rows.tolist())
    assert np.isin(rows[copies], copies).all()
    # which of the equal copies are kept is open; how similar they are is not
    np.testing.assert_allclose(similarity, naive_search(base, base, 4, own=np.arange(40))[0], atol=SUM_ORDER)


@pytest.mark.parametrize("k", [4, 5, 100])
def test_asking_a_small_corpus_for_too_many_neighbours_says_what_to_change(unit_rows, user_error, k):
    base = unit_rows(4, 8, 0).astype(np.float16)
    message = user_error(nearest_others, build_index(base), base, range(4), k)
    assert "4 captions" in message
    assert "index.neighbours" in message


def test_all_others_of_the_smallest_allowed_corpus_are_neighbours(unit_rows):
    base = unit_rows(4, 8, 0).astype(np.float16)
    _, rows = nearest_others(build_index(base), base, range(4), 3)
    assert [sorted(row) for row in rows.tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


@pytest.mark.parametrize("temperature", [0.001, 0.003, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("block", [1, 7, 64, 150, 16384])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_projection_equals_softmax_attention_at_any_temperature_and_block_size(unit_rows, temperature, block, dtype):
    queries = torch.from_numpy(unit_rows(9, 16, 1))
    support = torch.from_numpy(unit_rows(150, 16, 0)).to(dtype)
    # the similarities carry a few float32 roundings, which dividing by the temperature enlarges
    tolerance = 1e-6 + 5e-7 / temperature
    torch.testing.assert_close(project(queries, support, temperature, block).double(), naive_projection(queries, support, temperature),
                               atol=tolerance, rtol=0)


def test_projection_of_half_precision_images_is_computed_in_single_precision(unit_rows):
    queries = torch.from_numpy(unit_rows(5, 16, 1)).half()
    support = torch.from_numpy(unit_rows(50, 16, 0))
    projected = project(queries, support, 0.1)
    assert projected.dtype == torch.float32
    torch.testing.assert_close(projected.double(), naive_projection(queries, support, 0.1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("block", [1, 3, 16384])
def test_a_very_low_temperature_gives_the_nearest_caption_and_never_overflows(unit_rows, block):
    support = torch.from_numpy(unit_rows(20, 8, 0))
    # logits of +1000 and -1000 side by side: their plain exponentials are infinite and zero
    support = torch.cat([support, -support])
    projected = project(support[:20], support, 0.001, block)
    assert torch.isfinite(projected).all()
    gap = (support[:20] @ support.T).topk(2).values.diff().abs().min().item()
    assert gap > 0.02
    torch.testing.assert_close(projected, support[:20], atol=1e-5, rtol=0)
