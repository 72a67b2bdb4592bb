"""Bootstrap intervals of caption scores."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.bootstrap import compare, interval, known, paired_interval, ratio_interval


def naive_statistics(columns: list[np.ndarray], statistic, seed: int, samples: int) -> list[float]:
    generator = np.random.default_rng(seed)
    count = len(columns[0])
    drawn = generator.integers(count, size=(samples, count))
    return [statistic(*(column[row] for column in columns)) for row in drawn]


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    difficulty = generator.normal(60, 20, size=400)
    return difficulty + generator.normal(2, 3, size=400), difficulty + generator.normal(0, 3, size=400)


def test_an_interval_equals_one_computed_sample_by_sample(scores):
    expected = np.quantile(naive_statistics([scores[0]], np.mean, 3, 200), [0.05, 0.95])
    assert interval(scores[0], seed=3, samples=200, level=0.9) == pytest.approx(tuple(expected), rel=1e-12)


def test_a_ratio_interval_draws_the_same_images_above_and_below(scores):
    expected = np.quantile(naive_statistics(list(scores), lambda a, b: a.mean() / b.mean(), 3, 200), [0.025, 0.975])
    assert ratio_interval(*scores, seed=3, samples=200) == pytest.approx(tuple(expected), rel=1e-12)


def test_the_interval_of_a_large_sample_agrees_with_the_normal_approximation():
    scores = np.random.default_rng(0).normal(50, 10, size=5000)
    low, high = interval(scores, seed=1)
    half = 1.96 * scores.std() / np.sqrt(5000)
    # the quantiles of 1,000 resamples carry an error of about 5 % of the half width
    assert low == pytest.approx(scores.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.15 * half)


def test_pairing_finds_a_difference_that_separate_intervals_hide(scores):
    a, b = scores
    assert interval(a, seed=0)[0] < interval(b, seed=0)[1]
    low, high = paired_interval(a, b, seed=0)
    assert 0 < low < (a - b).mean() < high
    assert paired_interval(b, a, seed=0) == pytest.approx((-high, -low), rel=1e-9)


def test_the_seed_alone_decides_the_interval(scores):
    assert interval(scores[0], seed=7) == interval(scores[0], seed=7)
    assert interval(scores[0], seed=7) != interval(scores[0], seed=8)


def test_memory_does_not_decide_how_many_resamples_are_drawn(scores, monkeypatch):
    whole = interval(scores[0], seed=7, samples=101)
    monkeypatch.setattr("pipeline.metrics.bootstrap._CELLS", 4000)
    assert interval(scores[0], seed=7, samples=101) == pytest.approx(whole, rel=1e-12)


def test_a_single_precision_score_loses_nothing():
    scores = np.full(5000, 0.1, dtype=np.float32)
    assert interval(scores, seed=0) == pytest.approx((float(np.float32(0.1)),) * 2, rel=1e-12)


def test_a_ratio_over_what_may_be_nothing_has_no_interval():
    assert ratio_interval(np.ones(10), np.zeros(10), seed=0) is None


@pytest.mark.parametrize("seeds", [1, 3])
def test_items_that_a_metric_says_nothing_about_are_left_out(seeds):
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1, 1, (seeds, 40)), rng.normal(1, 1, (seeds, 40))
    some_ours, some_theirs = ours.copy(), theirs.copy()
    some_ours[:, ::3] = some_theirs[:, ::3] = np.nan
    kept = np.arange(40) % 3 != 0
    assert interval(some_ours, 0, 50) == interval(ours[:, kept], 0, 50)
    assert paired_interval(some_ours, some_theirs, 0, 50) == paired_interval(ours[:, kept], theirs[:, kept], 0, 50)
    of_some, of_kept = (compare("s", "m", "a", "b", *pair, 0, 50) for pair in ((some_ours, some_theirs),
                                                                                        (ours[:, kept], theirs[:, kept])))
    assert of_some.difference == pytest.approx(of_kept.difference, rel=1e-12)  # sums in another order
    assert known(ours) is ours
