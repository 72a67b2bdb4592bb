"""Knight on videos: the captions nearest to each key frame, against a loop over frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.core.params import check
from pipeline.methods.knight import Knight
from pipeline.needs.base import Inputs, Parts
from pipeline.needs.frames import Frames
from pipeline.needs.images import Images
from pipeline.needs.text import Sentences, Text

SUM_ORDER = 1e-6
SEEDS = [3, 1, 2**62, 7, 3]


def knight(frames: str | None, k: int = 6, normalized: bool = True) -> Knight:
    return Knight(check(Knight.TrainParams, {"k": k, "normalized": normalized}, "knight.train"),
                  check(Knight.CaptionParams, {"frames": frames} if frames else {}, "knight.caption"))


@pytest.fixture
def seen(unit_rows) -> Inputs:
    """Five videos of six frames, the last as the first, and their means."""
    frames = torch.from_numpy(unit_rows(30, 8, 5)).unflatten(0, (5, 6)).half()
    frames[4] = frames[0]
    return Inputs({Frames: Parts(frames, torch.tensor(SEEDS)), Images: torch.from_numpy(unit_rows(5, 8, 99)).half()})


def cut(seen: Inputs, count: int) -> Inputs:
    """The same videos with so many frames."""
    parts = seen.of(Frames)
    return Inputs({Frames: Parts(parts.features[:, :count], parts.seeds)})


def naive(frame: Tensor, sentences: Sentences, k: int, normalized: bool) -> Tensor:
    """Eq. 7-8: the mean of the k captions nearest to one frame."""
    similarity = [float(feature.double() @ frame.double()) for feature in sentences.features]
    nearest = sorted(range(len(similarity)), key=lambda row: -similarity[row])[:k]
    total = torch.zeros(8)
    for row in nearest:
        total += sentences.features[row].float() * (1 if normalized else sentences.norms[row])
    return total / k


@pytest.mark.parametrize(("k", "normalized"), [(1, True), (3, True), (6, True), (3, False)])
def test_a_video_is_the_mean_of_the_captions_nearest_to_each_of_its_frames(make_corpus, seen: Inputs, k: int, normalized: bool) -> None:
    corpus, seen = make_corpus(), cut(seen, k)
    found = knight("each", k, normalized).inference_condition(seen, corpus)
    assert found.vectors.shape == (5, k, 8)
    assert found.mask.all()
    for video, frames in enumerate(seen.of(Frames).features):
        for number, frame in enumerate(frames):
            expected = naive(frame, corpus.of(Text), k, normalized)
            torch.testing.assert_close(found.vectors[video, number], expected, atol=SUM_ORDER, rtol=1e-5)


def test_with_no_neighbours_a_video_is_its_frames(make_corpus, seen: Inputs) -> None:
    seen = cut(seen, 1)
    assert torch.equal(knight("each", 0).inference_condition(seen, make_corpus()).vectors, seen.of(Frames).features.float())


def test_as_many_frames_as_the_prefix_that_was_trained_has_vectors(make_corpus, seen: Inputs, user_error) -> None:
    for k in (0, 3, 8):
        message = user_error(knight("each", k).inference_condition, seen, make_corpus())
        assert f"frames.count is 6, but a prefix of k = {k} has {max(k, 1)} vectors" in message


def test_shuffled_frames_are_the_same_ones_in_an_order_of_the_videos_own(make_corpus, seen: Inputs) -> None:
    corpus, method = make_corpus(), knight("shuffled")
    each, shuffled = (knight(name).inference_condition(seen, corpus).vectors for name in ("each", "shuffled"))
    # which frame stands where
    orders = [[int((each[video] - vector).abs().sum(-1).argmin()) for vector in shuffled[video]] for video in range(5)]
    for video, order in enumerate(orders):
        assert sorted(order) == list(range(6))
        torch.testing.assert_close(shuffled[video], each[video, order], atol=SUM_ORDER, rtol=0)
        torch.manual_seed(video)
        alone = method.inference_condition(seen[[video]], corpus).vectors[0]
        torch.testing.assert_close(alone, shuffled[video], atol=SUM_ORDER, rtol=0)  # whatever stands beside it
    assert orders[4] == orders[0]  # the same seed
    assert len(set(map(tuple, orders))) == 4
    assert orders[0] == torch.randperm(6, generator=torch.Generator().manual_seed(3)).tolist()


def test_pooled_looks_at_the_mean_as_at_a_picture(make_corpus, seen: Inputs) -> None:
    corpus = make_corpus()
    for method in (knight(None), knight("pooled")):
        assert [type(need) for need in method.looks_at] == [Images]
        found = method.inference_condition(Inputs({Images: seen.of(Images)}), corpus).vectors
        assert found.shape == (5, 6, 8)
    for name in ("each", "shuffled"):
        assert [type(need) for need in knight(name).looks_at] == [Frames]


def test_how_frames_are_shown_changes_nothing_in_training(make_corpus) -> None:
    conditions = [knight(name).training_condition(make_corpus(), torch.arange(4), torch.Generator().manual_seed(0)).vectors
                  for name in ("pooled", "each", "shuffled")]
    assert all(torch.equal(conditions[0], other) for other in conditions[1:])


def test_another_order_is_refused_with_the_known_ones(user_error) -> None:
    message = user_error(knight, "reversed")
    assert "knight.caption.frames" in message
    assert all(name in message for name in ("pooled", "each", "shuffled"))
