"""Rebuilding the shipped CLIPs: a run that was interrupted ends in the weights of one that was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, read_json
from pipeline.features.encoders import Clip, ClipParams
from pipeline.foundation.contrastive import DenseHead, Recipe, train
from pipeline.foundation.pool import draw_pool
from tests.interruption import Interrupted, interrupt_at

TINY = Recipe(
    name="tiny", vision_cfg={"image_size": 64, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8},
    text_cfg={"context_length": 40, "width": 16, "heads": 2, "layers": 1}, embed_dim=8, seed=0, scenes=48, steps=6, batch=16, warmup=2,
    merges=40,
)


def test_an_interrupted_training_resumes_to_the_same_weights_and_leaves_no_scratch(tmp_path: Path, monkeypatch) -> None:
    train(TINY, tmp_path / "whole", snapshot_every=2)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises(Interrupted):
            train(TINY, tmp_path / "resumed", snapshot_every=2)
    assert not (tmp_path / "resumed").exists()
    steps = interrupt_at(monkeypatch, None)
    train(TINY, tmp_path / "resumed", snapshot_every=2)
    assert steps == [4, 5]
    weights = "open_clip_model.safetensors"
    assert digest_file(tmp_path / "whole" / weights) == digest_file(tmp_path / "resumed" / weights)
    assert len(read_json(tmp_path / "resumed" / "provenance.json")["losses"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed", "whole"]
    assert Clip(tmp_path / "whole", ClipParams(), torch.device("cpu")).width == 8


def test_a_snapshot_of_another_recipe_is_not_resumed(tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises(Interrupted):
            train(TINY, tmp_path / "model", snapshot_every=2)
    with pytest.raises(UserError, match="another recipe"):
        train(replace(TINY, learning_rate=1e-4), tmp_path / "model", snapshot_every=2)


def test_the_dense_head_learns_what_covers_each_cell() -> None:
    """For both kinds of image tower; and its weight falls from first to last."""
    for recipe in (TINY, replace(TINY, vision_cfg={"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8})):
        torch.manual_seed(0)
        model = open_clip.CLIP(recipe.embed_dim, recipe.vision_cfg, {**recipe.text_cfg, "vocab_size": 600})
        head = DenseHead(model.visual)
        pool = draw_pool("foundation", 0, 16)
        optimiser = torch.optim.AdamW([*model.visual.parameters(), *head.parameters()], lr=1e-2)
        losses = []
        for _ in range(40):
            model.encode_image(pool.pixels(np.arange(16)))
            loss = head(pool.things)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.25 * losses[0]
    weights = [replace(TINY, steps=10, dense=(10.0, 1.0), dense_until=0.5).dense_weight(step) for step in range(10)]
    assert weights[0] == 10
    assert weights[5:] == [1.0] * 5
    assert weights == sorted(weights, reverse=True)
