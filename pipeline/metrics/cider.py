"""CIDEr-D (Vedantam et al., CVPR 2015, arXiv:1411.5726) in arrays: what pycocoevalcap's class computes, in an eighth of its time.

Legend: N images, S sentences, E entries (a sentence's distinct n-grams with their counts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LENGTHS = 4  # n-grams of one to four words
SIGMA = 6.0  # of the penalty for a caption of another length


@dataclass(frozen=True)
class Grams:
    """n-grams of one length n in all sentences: per entry its sentence, n-gram number and count, sorted by the first two."""

    sentence_E: NDArray[np.int64]
    gram_E: NDArray[np.int64]
    count_E: NDArray[np.int64]
    known: int  # n-grams there are


def cider_d(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Scores (N,) in 0..10 of one tokenized caption per image against that image's references.

    Document frequencies come from the references. Length is counted in pairs of words, as in the public code.
    """
    images, owners = len(hypotheses), np.repeat(np.arange(len(references)), [len(group) for group in references])
    sentences = [*hypotheses, *(text for group in references for text in group)]
    score_R = np.zeros(len(owners))
    delta_R = np.zeros(len(owners))
    for n, grams in enumerate(grams_of(sentences), start=1):
        of_reference = grams.sentence_E >= images
        reference_E = grams.sentence_E[of_reference] - images
        gram_E = grams.gram_E[of_reference]
        idf = document_frequencies(owners[reference_E], gram_E, grams.known, images)
        weight_E = grams.count_E * idf[grams.gram_E]
        norm_S = np.sqrt(np.bincount(grams.sentence_E, weight_E**2, minlength=len(sentences)))
        said = _matching(grams, owners[reference_E], gram_E)
        weight = weight_E[of_reference]
        product_R = np.bincount(reference_E, np.where(said >= 0, np.minimum(weight_E[said], weight), 0) * weight, minlength=len(owners))
        both_R = norm_S[owners] * norm_S[images:]
        score_R += np.divide(product_R, both_R, out=np.zeros_like(both_R), where=both_R > 0)
        if n == 2:
            length_S = np.bincount(grams.sentence_E, grams.count_E, minlength=len(sentences))
            delta_R = (length_S[owners] - length_S[images:]).astype(float)
    score_R *= np.exp(-(delta_R**2) / (2 * SIGMA**2)) / _LENGTHS
    return 10 * np.bincount(owners, score_R, minlength=images) / np.bincount(owners, minlength=images)


def document_frequencies(owner_E: NDArray[np.int64], gram_E: NDArray[np.int64], known: int, images: int) -> NDArray[np.float64]:
    """Weights (known,): the log of how many times rarer than in every image an n-gram is, from the entries of references."""
    holders = np.unique(owner_E * known + gram_E) % known  # an image counts once
    weights: NDArray[np.float64] = np.log(images) - np.log(np.maximum(np.bincount(holders, minlength=known), 1))
    return weights


def grams_of(sentences: Sequence[str], longest: int = _LENGTHS) -> list[Grams]:
    """The n-grams of each length up to the longest."""
    numbers: dict[str, int] = {}
    split = [[numbers.setdefault(word, len(numbers)) for word in sentence.split()] for sentence in sentences]
    owner = np.repeat(np.arange(len(split)), [len(words) for words in split])
    word = np.array([number for words in split for number in words], dtype=np.int64)
    end, gram, counted = np.arange(len(word)), word, []  # of each n-gram, the place of its last word and its number
    for n in range(1, longest + 1):
        if n > 1:
            goes_on = owner[end] == np.append(owner, -1)[end + 1]
            end, gram = end[goes_on] + 1, gram[goes_on]
            _, gram = np.unique(gram * len(numbers) + word[end], return_inverse=True)
        known = int(gram.max(initial=0)) + 1
        key, count = np.unique(owner[end] * known + gram, return_counts=True)
        counted.append(Grams(key // known, key % known, count, known))
    return counted


def _matching(grams: Grams, sentence: NDArray[np.int64], gram: NDArray[np.int64]) -> NDArray[np.int64]:
    """The entry of each (sentence, n-gram), -1 where the sentence does not hold it."""
    keys = grams.sentence_E * grams.known + grams.gram_E
    wanted = sentence * grams.known + gram
    found = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
    return np.where(keys[found] == wanted, found, -1) if len(keys) else np.full(len(wanted), -1)
