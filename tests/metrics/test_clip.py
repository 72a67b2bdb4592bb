"""CLIPScore, RefCLIPScore and RefCompare against loops over single vectors."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.params import check
from pipeline.metrics import clip
from pipeline.metrics.judge import EvaluationParams


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def features() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Seven images with 1 to 7 references; the directions are random, so that about half of the cosines are negative."""
    generator = np.random.default_rng(0)
    references = [unit(generator.normal(size=(count, 16))) for count in (1, 5, 3, 7, 5, 2, 5)]
    return unit(generator.normal(size=(7, 16))), unit(generator.normal(size=(7, 16))), references


def test_clip_score_is_two_and_a_half_times_the_positive_cosine(features):
    image, caption, _ = features
    expected = [2.5 * max(float(i @ c), 0.0) for i, c in zip(image, caption, strict=True)]
    assert 0 < sum(value == 0 for value in expected) < len(expected)
    np.testing.assert_allclose(clip.clip_score(image, caption), expected, atol=1e-6)


def test_ref_clip_score_is_the_harmonic_mean_with_the_nearest_reference(features):
    image, caption, references = features
    scores = clip.clip_score(image, caption)
    expected = []
    for score, c, rows in zip(scores, caption, references, strict=True):
        nearest = max(max(float(c @ row), 0.0) for row in rows)
        expected.append(2 * score * nearest / (score + nearest) if score + nearest else 0.0)
    assert any(expected)
    np.testing.assert_allclose(clip.ref_clip_score(scores, caption, *clip.pad_references(references)), expected, atol=1e-6)


def test_ref_compare_is_the_share_of_references_below_the_caption(features):
    image, caption, references = features
    expected = [
        np.mean([float(i @ row) < float(i @ c) for row in rows]) for i, c, rows in zip(image, caption, references, strict=True)
    ]
    assert 0 < np.mean(expected) < 1
    np.testing.assert_array_equal(clip.ref_compare(image, caption, *clip.pad_references(references)), expected)


def test_a_caption_against_everything_scores_zero_and_not_nan():
    image = np.array([[1, 0]], dtype=np.float32)
    scores = clip.clip_score(image, -image)
    assert scores.tolist() == [0]
    assert clip.ref_clip_score(scores, -image, *clip.pad_references([image])).tolist() == [0]


def test_a_perfect_caption_reaches_the_weighted_harmonic_mean():
    """2.5 and 1 give 2 * 2.5 / 3.5: the weight is inside the mean, as in the released code."""
    image = np.array([[0, 1]], dtype=np.float32)
    scores = clip.clip_score(image, image)
    assert scores.tolist() == [2.5]
    assert clip.ref_clip_score(scores, image, *clip.pad_references([image])) == pytest.approx([5 / 3.5])


def test_padding_is_no_reference():
    """A zero row has cosine 0: it would beat the first image's only reference (cosine -1) and lie below its caption."""
    image = np.array([[1, 0], [1, 0]], dtype=np.float32)
    caption = np.array([[0.6, 0.8], [0.6, 0.8]], dtype=np.float32)
    references = [-caption[:1], np.stack([caption[0], image[0], image[0]])]
    padded, mask = clip.pad_references(references)
    assert padded.shape == (2, 3, 2)
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    assert clip.ref_clip_score(clip.clip_score(image, caption), caption, padded, mask)[0] == 0
    assert clip.ref_compare(image, caption, padded, mask).tolist() == [1, 0]


def test_a_caption_that_repeats_a_reference_ties_at_any_width_and_place():
    """Summation order must not decide ties: equal rows give equal similarities wherever they stand."""
    generator = np.random.default_rng(1)
    for width in (512, 515, 768):
        image, caption = unit(generator.normal(size=(40, width))), unit(generator.normal(size=(40, width)))
        references, mask = clip.pad_references([np.repeat(row[None], 1 + n % 7, axis=0) for n, row in enumerate(caption)])
        assert not clip.ref_compare(image, caption, references, mask).any()


def test_the_prompt_of_the_published_score_ends_with_a_blank():
    assert EvaluationParams("judge").prompt + "a dog" == "A photo depicts a dog"


@pytest.mark.parametrize("samples", [0, -1])
def test_an_interval_without_resamples_is_refused(user_error, samples):
    assert "evaluation.samples is" in user_error(check, EvaluationParams, {"judge": "judge", "samples": samples}, "evaluation")
