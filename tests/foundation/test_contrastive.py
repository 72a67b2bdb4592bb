"""Rebuilding the shipped CLIPs: a run that was interrupted ends in the weights of one that was not, in a further round too."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, digest_model, read_json
from pipeline.features.encoders import Clip, ClipParams
from pipeline.foundation import rebuild
from pipeline.foundation.contrastive import RECIPES, WEIGHTS, DenseHead, Recipe, train
from pipeline.foundation.pool import KINDS, draw_pool
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
    assert digest_file(tmp_path / "whole" / WEIGHTS) == digest_file(tmp_path / "resumed" / WEIGHTS)
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


@pytest.fixture
def further(tmp_path: Path, monkeypatch) -> Recipe:
    """A further round, from a model that a first one left in the project; it sees all kinds of scenes and texts."""
    monkeypatch.chdir(tmp_path)
    train(TINY, paths.foundation("first"))
    return replace(TINY, name="further", starts_from="first", styles=KINDS, seed=1)


def test_a_further_round_starts_from_the_weights_and_the_vocabulary_of_the_first(further, tmp_path: Path) -> None:
    train(replace(further, learning_rate=0.0), tmp_path / "still")
    start, still = (load_file(folder / WEIGHTS) for folder in (paths.foundation("first"), tmp_path / "still"))
    assert start.keys() == still.keys()
    assert all(torch.equal(start[key], still[key]) for key in start)
    train(further, tmp_path / "learnt")
    learnt = load_file(tmp_path / "learnt" / WEIGHTS)
    assert not torch.equal(start["text_projection"], learnt["text_projection"])
    for name in (paths.MERGES_FILE, "open_clip_config.json"):
        assert digest_file(tmp_path / "learnt" / name) == digest_file(paths.foundation("first") / name)
    assert read_json(tmp_path / "learnt" / "provenance.json")["starts_from_sha256"] == digest_model(paths.foundation("first"))


def test_a_further_round_that_was_interrupted_goes_on_from_the_same_start_alone(further, tmp_path: Path, monkeypatch) -> None:
    train(further, tmp_path / "whole", snapshot_every=2)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            train(further, tmp_path / "resumed", snapshot_every=2)
    shutil.copytree(tmp_path / "resumed.work", tmp_path / "other.work")
    train(further, tmp_path / "resumed", snapshot_every=2)
    assert digest_file(tmp_path / "whole" / WEIGHTS) == digest_file(tmp_path / "resumed" / WEIGHTS)
    shutil.copytree(tmp_path / "whole", paths.foundation("first"), dirs_exist_ok=True)
    with pytest.raises(UserError, match="another recipe"):
        train(further, tmp_path / "other", snapshot_every=2)


def test_the_shipped_model_of_a_further_round_is_measured_on_every_kind_that_it_saw(further, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rebuild, "_SCENES", 8)
    clip = Clip(paths.foundation("first"), ClipParams(), torch.device("cpu"))
    figures = rebuild.measure(clip, RECIPES["micro-2"].styles)
    assert set(figures) == set(KINDS)
    assert all(0 <= its["text_to_image_R@5"] <= 1 for its in figures.values())
    assert set(rebuild.measure(clip, RECIPES["micro"].styles)) == {"scenes", "album"}


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
