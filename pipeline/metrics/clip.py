"""CLIPScore and RefCLIPScore (Hessel et al., EMNLP 2021, arXiv:2104.08718) and RefCompare, on features that are computed already.

All features are float32 with unit rows from one CLIP model. Every text, captions and references alike, is read behind the same prompt
("A photo depicts " in the paper).
Legend: N images, R references (padded), D CLIP width. References are (N, R, D) with a mask (N, R), True where there is one.
RefCLIPScore follows the authors' released code: the harmonic mean takes CLIPScore with its weight of 2.5, the reference side
without one. That code lets negative reference cosines through, where the mean may blow up; here they count as 0, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WEIGHT = 2.5


def clip_score(image_ND: np.ndarray, caption_ND: np.ndarray) -> np.ndarray:
    """2.5 * max(cos(image, caption), 0): (N,), in 0..2.5. Paper: section 3."""
    return WEIGHT * np.maximum(_cosine(image_ND, caption_ND), 0)


def ref_clip_score(
    clip_scores_N: np.ndarray, caption_ND: np.ndarray, references_NRD: np.ndarray, mask_NR: np.ndarray
) -> np.ndarray:
    """Harmonic mean of CLIPScore and the largest max(cos(caption, reference), 0): (N,); 0 where both are 0. Paper: section 3."""
    similarity_NR = np.where(mask_NR, _cosine(caption_ND[:, None], references_NRD), 0)
    nearest_N = np.maximum(similarity_NR.max(axis=1), 0)
    total_N = clip_scores_N + nearest_N
    return np.divide(2 * clip_scores_N * nearest_N, total_N, out=np.zeros_like(total_N), where=total_N > 0)


def ref_compare(image_ND: np.ndarray, caption_ND: np.ndarray, references_NRD: np.ndarray, mask_NR: np.ndarray) -> np.ndarray:
    """Share of an image's references that are less similar to it than the caption is: (N,), in 0..1.

    Ties do not count. The split's figure is the mean of these shares, not a share pooled over all references.
    """
    below_NR = _cosine(image_ND[:, None], references_NRD) < _cosine(image_ND, caption_ND)[:, None]
    return (below_NR & mask_NR).sum(axis=1) / mask_NR.sum(axis=1)


def pad_references(features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Features of each image's references, [(R_i, D)] with R_i >= 1, as (N, R, D) padded with zeros and the mask (N, R)."""
    counts_N = np.array([len(rows) for rows in features])
    assert counts_N.min() > 0
    mask_NR = np.arange(counts_N.max()) < counts_N[:, None]
    references_NRD = np.zeros((*mask_NR.shape, features[0].shape[1]), dtype=np.float32)
    references_NRD[mask_NR] = np.concatenate(features)
    return references_NRD, mask_NR


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Not a matrix product: its summation order depends on a row's position, which would break ties of equal captions at random.
    return np.multiply(a, b).sum(axis=-1)
