"""CIDEr-D in arrays against pycocoevalcap's class."""

from __future__ import annotations

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from pipeline.metrics.cider import cider_d


def of_the_library(hypotheses: list[str], references: list[list[str]]) -> np.ndarray:
    ids = range(len(hypotheses))
    return np.asarray(Cider().compute_score({i: references[i] for i in ids}, {i: [hypotheses[i]] for i in ids})[1])


def sentence(rng: np.random.Generator, words: int, longest: int, shortest: int = 1) -> str:
    return " ".join(f"w{rng.integers(words)}" for _ in range(rng.integers(shortest, longest + 1)))


@pytest.mark.parametrize("words", [2, 5, 40])
@pytest.mark.parametrize("longest", [1, 3, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_those_of_the_library(words, longest, seed):
    rng = np.random.default_rng(seed)
    references = [[sentence(rng, words, longest) for _ in range(rng.integers(1, 6))] for _ in range(30)]
    hypotheses = [sentence(rng, words + 3, longest, shortest=0) for _ in range(30)]  # some empty, some with unknown words
    np.testing.assert_allclose(cider_d(hypotheses, references), of_the_library(hypotheses, references), rtol=1e-12, atol=1e-12)


def test_a_caption_equal_to_its_reference_reaches_ten_and_one_without_a_common_word_nothing():
    references = [["a b c d e"], ["f g h i j"], ["k l m n o"]]
    np.testing.assert_allclose(cider_d(["a b c d e", "f g h i j", "a b c d e"], references), [10, 10, 0])


@pytest.mark.parametrize("hypotheses", [["", ""], ["a", ""], ["a b c d", "x"]])
def test_captions_without_words_and_sentences_of_one_word_score_as_in_the_library(hypotheses):
    references = [["a"], ["b", "c"]]
    np.testing.assert_allclose(cider_d(hypotheses, references), of_the_library(hypotheses, references))


def test_one_image_alone_scores_nothing():
    assert cider_d(["a b"], [["a b"]]).tolist() == [0.0]
