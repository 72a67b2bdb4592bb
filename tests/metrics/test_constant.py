"""The best constant sentence."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.cider import cider_d
from pipeline.metrics.constant import best_constant, constant_cider
from pipeline.world.captions import describe
from pipeline.world.scenes import generator, sample_scene


def told(pool: str, count: int) -> list[list[str]]:
    found = []
    for index in range(count):
        rng = generator("scenes", pool, 5, index)
        found.append(describe(sample_scene("scenes", rng), rng, 1 + index % 4))
    return found


def test_a_sentence_for_every_image_scores_as_image_by_image():
    references = told("val", 60)
    candidates = ["", "a", "a cat", "nothing of this kind", "a cat a cat a cat a cat", *(group[0] for group in told("corpus", 20))]
    expected = [100 * cider_d([text] * len(references), references).mean() for text in candidates]
    assert constant_cider(candidates, references) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_best_of_a_corpus_is_found_as_if_each_were_scored():
    references, corpus = told("val", 80), [text for group in told("corpus", 1000) for text in group]
    found, score = best_constant(corpus, references, lambda texts: texts)
    every = sorted(set(corpus))
    scores = constant_cider(every, references)
    assert score == pytest.approx(scores.max(), rel=1e-12)
    assert found == every[int(np.argmax(scores))]


def test_of_equal_sentences_the_first_in_the_alphabet_is_taken():
    references = [["a cat", "a dog"], ["a dog", "a cat"], ["a bus"]]
    assert best_constant(["a dog", "a cat", "a dog"], references, lambda texts: texts)[0] == "a cat"
