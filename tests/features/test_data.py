"""What methods see: parts of it, on a device, and the search over a corpus."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.features import retrieval
from pipeline.features.data import Objects, Seen
from pipeline.features.retrieval import search

LABELS = torch.eye(4)
CPU = torch.device("cpu")


@pytest.fixture
def seen(unit_rows) -> Seen:
    """Three pictures as a store keeps them, with two, no and one object."""
    return Seen(torch.from_numpy(unit_rows(3, 8, 0)).half(), Objects(LABELS, torch.tensor([[2, 0], [-1, -1], [3, -1]])))


@pytest.mark.parametrize("rows", [slice(1, 3), [2, 0], torch.tensor([1]), torch.tensor([True, False, True])])
def test_a_part_of_the_pictures_keeps_each_with_its_objects(seen, rows):
    part = seen[rows]
    assert torch.equal(part.features, seen.features[rows])
    assert torch.equal(part.objects.ids, seen.objects.ids[rows])
    assert torch.equal(part.objects.labels, LABELS)
    assert len(part) == len(part.features)


def test_pictures_without_objects_stay_without_them(seen):
    plain = Seen(seen.features)
    assert plain[:2].objects is None
    assert plain.to(CPU).objects is None


def test_features_kept_in_half_precision_are_computed_with_in_single_precision(seen):
    moved = seen.to(CPU)
    assert moved.features.dtype == torch.float32
    assert torch.equal(moved.features, seen.features.float())
    assert torch.equal(moved.objects.ids, seen.objects.ids)


def test_a_corpus_is_searched_as_its_features_are(make_corpus, unit_rows):
    corpus, queries = make_corpus(rows=60), unit_rows(9, 8, 7)
    _, rows = search(corpus.index, queries, 5)
    expected = np.argsort(-(queries @ corpus.features.float().numpy().T), axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(rows, expected)


def test_an_index_is_built_once_and_only_for_who_searches(make_corpus, monkeypatch):
    corpus, built = make_corpus(), []
    real = retrieval.Index
    monkeypatch.setattr(retrieval, "Index", lambda features: built.append(len(features)) or real(features))
    assert built == []
    assert corpus.index is corpus.index
    assert built == [40]
