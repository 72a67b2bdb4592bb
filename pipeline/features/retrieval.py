"""Exact nearest neighbours through FAISS, and projection onto a support set as streamed attention.

Legend: Q queries, N support rows, D width, K neighbours.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core.errors import UserError


def build_index(features_ND: NDArray[np.floating[Any]]) -> faiss.Index:
    """An exact inner-product index over unit rows; float16 rows are stored as they are, products are float32."""
    index = faiss.IndexScalarQuantizer(features_ND.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(np.ascontiguousarray(features_ND, dtype=np.float32))
    return index


def search(index: faiss.Index, queries_QD: NDArray[np.floating[Any]], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k most similar rows for each query, best first, equal ones by row: similarities (Q, k) and rows (Q, k)."""
    similarity, rows = index.search(np.ascontiguousarray(queries_QD, dtype=np.float32), min(k, index.ntotal))
    order = np.lexsort((rows, -similarity), axis=1)
    return np.take_along_axis(similarity, order, 1), np.take_along_axis(rows, order, 1)


def nearest_others(index: faiss.Index, base_ND: NDArray[np.floating[Any]], queries: range,
                   k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows of `base_ND` nearest to each row in `queries`, itself left out (its duplicates are not): (Q, k) twice.

    Knight, section 3.2: the caption's own index is masked. `index` holds `base_ND`. Raises `UserError` for a corpus of k captions or fewer.
    """
    if index.ntotal <= k:
        raise UserError(f"{k} neighbours were asked for, but the corpus has {index.ntotal} captions: lower index.neighbours in params.yaml")
    similarity, rows = search(index, base_ND[queries.start : queries.stop], k + 1)
    own = rows == np.arange(queries.start, queries.stop)[:, None]
    own[~own.any(1), -1] = True  # more than k duplicates crowd the row itself out: the last one goes
    shape = (len(queries), k)
    return similarity[~own].reshape(shape), rows[~own].reshape(shape)


def project(queries_QD: Tensor, support_ND: Tensor, temperature: float, block: int = 16384) -> Tensor:
    """Each query as the average of the support rows, weighted by softmax(query . row / temperature): (Q, D), not normalised.

    DeCap, section 3.3; SynTIC, Eq. 3. The softmax runs over blocks with a running maximum, so that memory is O(Q x block), not
    O(Q x N); the result is exact. Queries and support are unit rows; the support may be float16.
    """
    total_QD = torch.zeros_like(queries_QD, dtype=torch.float32)
    mass_Q1 = torch.zeros(len(queries_QD), 1, device=queries_QD.device)
    peak_Q1 = torch.full((len(queries_QD), 1), -torch.inf, device=queries_QD.device)
    for part_ND in support_ND.split(block):
        rows_ND = part_ND.to(queries_QD.device, torch.float32)
        logits_QN = (queries_QD.float() @ rows_ND.T) / temperature
        new_peak_Q1 = torch.maximum(peak_Q1, logits_QN.max(dim=1, keepdim=True).values)
        weights_QN = torch.exp(logits_QN - new_peak_Q1)
        shrink_Q1 = torch.exp(peak_Q1 - new_peak_Q1)
        total_QD = total_QD * shrink_Q1 + weights_QN @ rows_ND
        mass_Q1 = mass_Q1 * shrink_Q1 + weights_QN.sum(1, keepdim=True)
        peak_Q1 = new_peak_Q1
    return total_QD / mass_Q1
