"""Text features from embeddings: equal to those from ids, with gradients that a finite difference confirms."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from pipeline.core.code import ROOT
from pipeline.features.encoders import Clip, ClipParams, text_features, text_features_of, text_tower
from pipeline.features.soft_text import embed_distributions, embed_tokens

SUM_ORDER = 1e-5


def _custom() -> tuple[Any, Tensor]:
    """A text tower of its own inside the model, with a linear projection, and ids that end in its largest."""
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(
        8, {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8},
        {"context_length": 12, "vocab_size": 30, "width": 16, "heads": 2, "layers": 2, "proj_bias": True}).eval()
    ids = torch.zeros(3, 12, dtype=torch.long)
    for row, length in enumerate((4, 11, 1)):
        ids[row, :length] = torch.randint(1, 29, (length,))
        ids[row, length] = 29
    return model, ids


def _micro() -> tuple[Any, Tensor]:
    clip = Clip(ROOT / "data/foundation/micro", ClipParams(), torch.device("cpu"))
    return clip.model, clip.tokens(["a red circle", "two small blue squares above a large green star", "a"])


@pytest.fixture(params=[_micro, _custom], ids=["micro", "custom"])
def written(request: pytest.FixtureRequest) -> tuple[Any, Tensor]:
    """A frozen model and ids for it."""
    model, ids = request.param()
    return model.requires_grad_(False), ids


@pytest.mark.parametrize("cut", [0, 1])
def test_features_of_embeddings_and_of_one_hot_rows_are_those_of_the_ids(written, cut):
    model, ids = written
    ends = ids.argmax(1)
    shown = ids[:, : int(ends.max()) + 1] if cut else ids
    expected = model.encode_text(ids)
    one_hot = torch.nn.functional.one_hot(shown, text_tower(model).token_embedding.num_embeddings).float()
    assert expected.std() > 0.01
    for embeddings in (embed_tokens(model, shown), embed_distributions(model, one_hot)):
        torch.testing.assert_close(text_features_of(model, embeddings, ends), expected, atol=SUM_ORDER, rtol=0)
    torch.testing.assert_close(text_features(model, ids), expected, atol=SUM_ORDER, rtol=0)


def test_a_loss_on_soft_text_reaches_who_wrote_it_with_the_right_gradient(written):
    model, ids = written
    model = model.double()
    ends = ids.argmax(1)
    torch.manual_seed(0)
    logits = torch.randn(*ids.shape, text_tower(model).token_embedding.num_embeddings, dtype=torch.float64, requires_grad=True)

    def loss(logits: Tensor) -> Tensor:
        return text_features_of(model, embed_distributions(model, logits.softmax(2)), ends).square().sum()

    loss(logits).backward()
    gradient = logits.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    for row, end in enumerate(ends.tolist()):
        assert gradient[row, : end + 1].abs().amax(1).min() > 0
        assert gradient[row, end + 1 :].abs().sum() == 0  # what follows the end is not read
    direction = torch.randn_like(logits)
    with torch.no_grad():
        difference = (loss(logits + 1e-4 * direction) - loss(logits - 1e-4 * direction)) / 2e-4
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-5, atol=0)
