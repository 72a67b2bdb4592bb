"""Which captions are drawn or trained on where not all are: a fixed choice, with held-out sentences among it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.corpus.choosing import choose_rows


def splits(train: int, heldout: int, seed: int = 0) -> list[str]:
    return np.random.default_rng(seed).permutation(["train"] * train + ["heldout"] * heldout).tolist()


@pytest.mark.parametrize(("count", "heldout"), [(100, 5), (40, 2), (30, 1), (2, 1)])
def test_one_in_twenty_of_the_captions_chosen_is_held_out(count, heldout):
    names = splits(180, 20)
    rows = choose_rows(names, count)
    assert [names[row] for row in rows].count("heldout") == heldout
    assert len(rows) == count


def test_the_captions_chosen_are_distinct_rows_of_the_corpus_in_its_order():
    rows = choose_rows(splits(180, 20), 150)
    assert (np.diff(rows) > 0).all()
    assert rows[0] >= 0
    assert rows[-1] < 200


def test_the_choice_is_random_yet_the_same_every_time():
    names = splits(180, 20)
    np.testing.assert_array_equal(choose_rows(names, 50), choose_rows(names, 50))
    # the first rows of the corpus would be the captions of its first pictures
    assert np.median(choose_rows(names, 50)) > 60
    assert choose_rows(splits(181, 20), 50).tolist() != choose_rows(names, 50).tolist()


@pytest.mark.parametrize("count", [None, 200, 5000])
def test_all_captions_are_chosen_where_no_fewer_are_asked_for(count):
    np.testing.assert_array_equal(choose_rows(splits(180, 20), count), np.arange(200))


@pytest.mark.parametrize(("train", "heldout", "count"), [(30, 0, 20), (180, 20, 199), (30, 30, 50)])
def test_as_many_captions_are_chosen_as_asked_however_few_are_of_one_kind(train, heldout, count):
    assert len(choose_rows(splits(train, heldout), count)) == count
