"""How far two sets of feature vectors lie apart. Legend: N, R rows, D width."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning, sqrtm


def centroid_distance(a_ND: NDArray[Any], b_RD: NDArray[Any]) -> float:
    """Euclidean distance of the mean rows."""
    return float(np.linalg.norm(a_ND.mean(0, dtype=np.float64) - b_RD.mean(0, dtype=np.float64)))


def frechet_distance(a_ND: NDArray[Any], b_RD: NDArray[Any]) -> float:
    """Squared Fréchet distance of normal distributions with the rows' means m and covariances S (Dowson and Landau, 1982; as in FID).

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)); both sides need two rows or more. The root is scipy's `sqrtm`, taken of
    S_a^(1/2) S_b S_a^(1/2): this matrix is symmetric and its root has the same trace. Accurate to 1e-6 for unit rows.
    """
    cov_a, cov_b = (np.atleast_2d(np.cov(rows, rowvar=False, dtype=np.float64)) for rows in (a_ND, b_RD))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # fewer rows than dimensions: the root is that of a singular matrix, and exists
        root = sqrtm(cov_a).real
        cross = np.trace(sqrtm(root @ cov_b @ root).real)
    return max(0.0, float(centroid_distance(a_ND, b_RD) ** 2 + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))
