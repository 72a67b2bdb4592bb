"""The best constant sentence: what a captioner that never looks at a picture can score.

It is chosen among the sentences of a corpus on one split, by CIDEr-D against that split's references, and scored on another.
Legend: C candidates, R references, N images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .cider import SIGMA, document_frequencies, grams_of

_WORD = re.compile(r"[^\W_]+")
_FINALISTS = 200


def best_constant(corpus: Sequence[str], references: Sequence[Sequence[str]],
                  tokenize: Callable[[list[str]], list[str]]) -> tuple[str, float]:
    """The sentence of a corpus with the highest mean CIDEr-D × 100 over images, and that; references are tokenized.

    All sentences are ranked by the cosine of their words and pairs of words with the mean reference, times the mean penalty for their
    length; the best 200 are tokenized and scored in full. Of equal ones the first in the alphabet.
    """
    candidates = sorted(set(corpus))
    rough_C = _rough([" ".join(_WORD.findall(text.lower())) for text in candidates], references)
    finalists = [candidates[row] for row in np.argsort(-rough_C, kind="stable")[:_FINALISTS]]
    score_C = constant_cider(tokenize(finalists), references)
    best = min(range(len(finalists)), key=lambda row: (-score_C[row], finalists[row]))
    return finalists[best], float(score_C[best])


def constant_cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Mean CIDEr-D × 100 (C,) of each tokenized sentence when every image is given it, as `cider_d` finds it image by image."""
    flat, owners = _flat(references)
    score_CR = np.zeros((len(candidates), len(flat)))
    length_S = np.array([len(text.split()) for text in (*candidates, *flat)])
    for grams in grams_of([*candidates, *flat]):
        is_reference = grams.sentence_E >= len(candidates)
        idf = document_frequencies(owners[grams.sentence_E[is_reference] - len(candidates)], grams.gram_E[is_reference], grams.known,
                                   len(references))
        weight_E = grams.count_E * idf[grams.gram_E]
        norm_S = np.sqrt(np.bincount(grams.sentence_E, weight_E**2, minlength=len(length_S)))
        order = np.flatnonzero(is_reference)[np.argsort(grams.gram_E[is_reference], kind="stable")]
        first_G = np.searchsorted(grams.gram_E[order], np.arange(grams.known + 1))
        for entry in np.flatnonzero(~is_reference):
            candidate, gram = grams.sentence_E[entry], grams.gram_E[entry]
            holders = order[first_G[gram] : first_G[gram + 1]]
            reference = grams.sentence_E[holders]
            both = norm_S[candidate] * norm_S[reference]
            product = np.minimum(weight_E[entry], weight_E[holders]) * weight_E[holders]
            score_CR[candidate, reference - len(candidates)] += np.divide(product, both, out=np.zeros_like(both), where=both > 0)
    # length in pairs of words, as in the public code
    pairs_S = np.maximum(length_S - 1, 0)
    delta_CR = pairs_S[: len(candidates), None] - pairs_S[None, len(candidates) :]
    score_CR *= np.exp(-(delta_CR**2) / (2 * SIGMA**2)) / 4
    per_image = np.bincount(owners, minlength=len(references))
    return np.array([1000 * (np.bincount(owners, row, minlength=len(references)) / per_image).mean() for row in score_CR])


def _rough(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    flat, owners = _flat(references)
    count, total_C = len(candidates), np.zeros(len(candidates))
    for grams in grams_of([*candidates, *flat], 2):
        of_reference = grams.sentence_E >= count
        row_E, gram_E = grams.sentence_E[of_reference] - count, grams.gram_E[of_reference]
        weight_E = grams.count_E * document_frequencies(owners[row_E], gram_E, grams.known, len(references))[grams.gram_E]
        norm_S = np.sqrt(np.bincount(grams.sentence_E, weight_E**2, minlength=count + len(flat)))
        unit_E = np.divide(weight_E, norm_S[grams.sentence_E], out=np.zeros_like(weight_E), where=norm_S[grams.sentence_E] > 0)
        mean_G = np.bincount(gram_E, unit_E[of_reference], minlength=grams.known)
        total_C += np.bincount(grams.sentence_E[~of_reference], (unit_E * mean_G[grams.gram_E])[~of_reference], minlength=count)
    lengths = np.array([len(text.split()) for text in flat])
    penalty = {length: float(np.exp(-((lengths - length) ** 2) / (2 * SIGMA**2)).mean())
               for length in {len(text.split()) for text in candidates}}
    return total_C * np.array([penalty[len(text.split())] for text in candidates])


def _flat(references: Sequence[Sequence[str]]) -> tuple[list[str], NDArray[np.int64]]:
    return [text for group in references for text in group], np.repeat(np.arange(len(references)), [len(group) for group in references])
