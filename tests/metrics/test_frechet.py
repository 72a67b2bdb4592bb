"""Distances of feature sets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.frechet import centroid_distance, frechet_distance


def test_frechet_distance_of_known_distributions() -> None:
    corners = np.array([[x, y] for x in (-1.0, 1.0) for y in (-1.0, 1.0)])
    moved = corners + np.array([3.0, 4.0])
    assert frechet_distance(corners, moved) == pytest.approx(25)
    assert centroid_distance(corners, moved) == pytest.approx(5)
    assert frechet_distance(corners, 2 * corners) == pytest.approx(2 * 4 / 3)  # two coordinates of variance 4/3: (2 - 1)^2 x 4/3 each
    rows = np.random.default_rng(0).normal(size=(3, 16))  # a covariance of rank two
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(np.ones((2, 3)), np.zeros((2, 3))) == pytest.approx(3)
