"""Exact nearest neighbours, and projection onto a support set as streamed attention.

Legend: Q queries, N support rows, D width, K neighbours, B rows of a block, G groups of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import UserError

_QUERIES, _BLOCK, _GROUPS = 512, 8192, 32  # a tile of products is 16 MB: it stays near the cache
_SPARE = 4  # candidates beyond k, so that rounding in the products does not decide who is among the k
_RESCORED = 512


class Index:
    """Search by inner product over unit rows: on a CPU blocked products (4 times as fast as FAISS's flat index), on CUDA FAISS's index.

    Memory: N x D float32 beside the rows themselves. Both ways only propose candidates: similarities and order come from products in
    float64, equal ones by row, so that every device names the same neighbours but for ties within 1e-6 at the last place.
    """

    def __init__(self, rows_ND: Tensor) -> None:
        self._rows = rows_ND
        self._propose = _faiss_proposals(rows_ND) if rows_ND.is_cuda else _Blocks(rows_ND)

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, queries_QD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most similar rows for each query, best first: similarities (Q, k) float32 and rows (Q, k) int64, on the rows' device."""
        k = min(k, len(self))
        queries_QD = queries_QD.to(self._rows.device, torch.float32)
        proposed_QC = self._propose(queries_QD, min(k + _SPARE, len(self)))
        parts = zip(queries_QD.split(_RESCORED), proposed_QC.split(_RESCORED), strict=True)
        values, rows = zip(*(self._scored(*part, k) for part in parts), strict=True)
        return torch.cat(values), torch.cat(rows)

    def _scored(self, queries_QD: Tensor, rows_QC: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rows_QC = rows_QC.sort(dim=1).values  # equal similarities by row, since the sort that follows is stable
        values_QC = torch.einsum("qd,qcd->qc", queries_QD.double(), self._rows[rows_QC].double())
        values_QC, order_QC = values_QC.sort(dim=1, descending=True, stable=True)
        return values_QC[:, :k].float(), rows_QC.gather(1, order_QC)[:, :k]


class _Blocks:
    """Candidates by products of tiles. Of each block only groups whose best beats the k-th so far are looked into."""

    def __init__(self, rows_ND: Tensor) -> None:
        self._rows = rows_ND.float()

    def __call__(self, queries_QD: Tensor, k: int) -> Tensor:
        return torch.cat([self._tile(queries, k) for queries in queries_QD.split(_QUERIES)])

    def _tile(self, queries_QD: Tensor, k: int) -> Tensor:
        best_QK = torch.full((len(queries_QD), k), -torch.inf)
        rows_QK = torch.zeros(len(queries_QD), k, dtype=torch.long)
        products = torch.empty(len(queries_QD), _BLOCK)
        for start in range(0, len(self._rows), _BLOCK):
            block_BD = self._rows[start : start + _BLOCK]
            if start == 0 or len(block_BD) < _BLOCK:
                values_QB = queries_QD @ block_BD.T
                found, rows = values_QB.topk(min(k, len(block_BD)), dim=1)
            else:
                values_QB = torch.mm(queries_QD, block_BD.T, out=products)
                found, rows = _better(values_QB, best_QK[:, -1])
            merged, order = torch.cat([best_QK, found], dim=1).topk(k, dim=1)
            best_QK, rows_QK = merged, torch.cat([rows_QK, rows + start], dim=1).gather(1, order)
        return rows_QK


def _better(values_QB: Tensor, least_Q: Tensor) -> tuple[Tensor, Tensor]:
    """Values above each row's `least`, with their columns, padded with minus infinity to the longest row. Costs one pass over the tile."""
    count, width = len(values_QB), values_QB.shape[1] // _GROUPS
    grouped_QGW = values_QB.view(count, _GROUPS, width)
    query_M, group_M = torch.nonzero(grouped_QGW.amax(1) > least_Q[:, None], as_tuple=True)  # by query
    members_MG = grouped_QGW[query_M, :, group_M]
    at_C, member_C = torch.nonzero(members_MG > least_Q[query_M, None], as_tuple=True)
    query_C = query_M[at_C]
    counts_Q = torch.bincount(query_C, minlength=count)
    place_C = torch.arange(len(query_C)) - (counts_Q.cumsum(0) - counts_Q)[query_C]
    longest = int(counts_Q.max()) if len(query_C) else 0
    found, columns = torch.full((count, longest), -torch.inf), torch.zeros(count, longest, dtype=torch.long)
    found[query_C, place_C] = members_MG[at_C, member_C]
    columns[query_C, place_C] = member_C * width + group_M[at_C]
    return found, columns


def _faiss_proposals(rows_ND: Tensor) -> Any:
    """Candidates by FAISS's flat index, on the GPU that holds the rows; on a CPU where they are there."""
    import faiss

    index: Any = faiss.IndexFlatIP(rows_ND.shape[1])
    if rows_ND.is_cuda:
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), rows_ND.device.index or 0, index)
    for part in rows_ND.split(65_536):
        index.add(part.float().cpu().numpy())

    def propose(queries_QD: Tensor, k: int) -> Tensor:
        return torch.from_numpy(index.search(queries_QD.cpu().numpy(), k)[1]).to(queries_QD.device)

    return propose


def search(index: Index, queries_QD: NDArray[np.floating[Any]], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`Index.search` for arrays: similarities (Q, k) and rows (Q, k)."""
    similarity, rows = index.search(torch.from_numpy(np.asarray(queries_QD, dtype=np.float32)), k)
    return similarity.cpu().numpy(), rows.cpu().numpy()


def nearest_others(index: Index, base_ND: NDArray[np.floating[Any]], queries: range,
                   k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows of `base_ND` nearest to each row in `queries`, itself left out (its duplicates are not): (Q, k) twice.

    Knight, section 3.2: the caption's own index is masked. `index` holds `base_ND`. Raises `UserError` for a corpus of k captions or fewer.
    """
    if len(index) <= k:
        raise UserError(f"{k} neighbours were asked for, but the corpus has {len(index)} captions: lower index.neighbours in params.yaml")
    similarity, rows = search(index, base_ND[queries.start : queries.stop], k + 1)
    own = rows == np.arange(queries.start, queries.stop)[:, None]
    own[~own.any(1), -1] = True  # more than k duplicates crowd the row itself out: the last one goes
    return similarity[~own].reshape(-1, k), rows[~own].reshape(-1, k)


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
