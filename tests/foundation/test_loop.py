"""The loop that trains the foundation models: interrupted and resumed it ends in the same weights and running average."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.foundation.loop import optimise
from pipeline.optimisation import Schedule
from tests.interruption import Interrupted

PLAN = Schedule(steps=11, batch=4, learning_rate=0.05, warmup=2, average=0.7, seed=3)
EXAMPLES = 14


class Run:
    """A small model with dropout and batch norm, its training, and what each step saw."""

    def __init__(self, folder: Path, plan: Schedule = PLAN, interrupted_at: int | None = None) -> None:
        self.snapshot, self.plan, self.interrupted_at = folder / "snapshot.pt", plan, interrupted_at
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 1))
        self.inputs = torch.randn(EXAMPLES, 3)
        self.rows: list[list[int]] = []
        self.weights: list[Tensor] = []
        self.seen_losses: list[float] = []

    def loss_of(self, step: int, rows: NDArray[np.int64]) -> Tensor:
        if step == self.interrupted_at:
            raise Interrupted
        self.rows.append(rows.tolist())
        self.weights.append(self.model[0].weight.detach().clone())
        noise = torch.randn(len(rows))
        loss = (self.model(self.inputs[torch.from_numpy(rows)])[:, 0] - self.inputs[torch.from_numpy(rows)].sum(1) - noise).square().mean()
        self.seen_losses.append(loss.item())
        return loss

    def optimise(self, identity: str = "recipe") -> tuple[nn.Module, list[float]]:
        return optimise("train", self.model, self.loss_of, self.plan, EXAMPLES, self.snapshot, identity, every=3)


def equal(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Run, nn.Module, list[float]]:
    """An uninterrupted run, the model to keep, and its losses."""
    (tmp_path / "whole").mkdir()
    run = Run(tmp_path / "whole")
    return run, *run.optimise()


# before the first snapshot, right behind one, between two, in the last step
@pytest.mark.parametrize("step", [1, 3, 7, 10])
def test_an_interrupted_training_ends_in_the_very_weights_and_average_of_an_uninterrupted_one(tmp_path, whole, step):
    expected, kept, losses = whole
    with pytest.raises(Interrupted):
        Run(tmp_path, interrupted_at=step).optimise()
    resumed = Run(tmp_path)
    found, found_losses = resumed.optimise()
    assert resumed.rows == expected.rows[step // 3 * 3 :]  # a snapshot every three steps
    assert equal(resumed.model, expected.model)
    assert equal(found, kept)
    assert found_losses == losses


def test_without_an_average_an_interrupted_training_ends_in_the_same_weights_too(tmp_path):
    plan = replace(PLAN, average=0.0)
    (tmp_path / "whole").mkdir()
    expected, _ = Run(tmp_path / "whole", plan).optimise()
    with pytest.raises(Interrupted):
        Run(tmp_path, plan, interrupted_at=8).optimise()
    assert equal(Run(tmp_path, plan).optimise()[0], expected)


def test_a_finished_training_is_not_repeated(tmp_path, whole):
    run, kept, losses = whole
    again = Run(tmp_path / "whole")
    found, found_losses = again.optimise()
    assert again.rows == []
    assert equal(found, kept)
    assert equal(again.model, run.model)
    assert found_losses == losses


def test_a_snapshot_of_another_recipe_is_refused(tmp_path):
    with pytest.raises(Interrupted):
        Run(tmp_path, interrupted_at=5).optimise("one recipe")
    with pytest.raises(UserError, match="belongs to another recipe"):
        Run(tmp_path).optimise("another recipe")


def test_the_model_to_keep_is_the_running_average_of_the_weights(whole):
    run, kept, _ = whole
    after = [*run.weights[1:], run.model[0].weight.detach()]
    average = after[0]
    for weights in after[1:]:
        average = 0.7 * average + 0.3 * weights
    torch.testing.assert_close(kept[0].weight.detach(), average)
    assert not torch.allclose(kept[0].weight, run.model[0].weight)


def test_without_an_average_the_model_itself_is_kept(tmp_path):
    run = Run(tmp_path, replace(PLAN, average=0.0))
    assert run.optimise()[0] is run.model


def test_every_example_is_seen_at_most_once_an_epoch_in_another_order_each_time(whole):
    run, _, _ = whole
    epochs = [[row for rows in run.rows[start : start + 3] for row in rows] for start in (0, 3, 6)]  # 14 examples hold three batches of 4
    assert all(len(set(epoch)) == len(epoch) == 12 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_losses_are_the_means_since_the_last_one(whole):
    run, _, losses = whole
    parts = [run.seen_losses[start : start + 3] for start in (0, 3, 6, 9)]
    # rounded to four digits
    assert losses == pytest.approx([sum(part) / len(part) for part in parts], abs=1e-4)


def test_matrices_decay_and_biases_do_not_at_the_scheduled_rate(tmp_path):
    plan = Schedule(steps=5, batch=4, learning_rate=0.1, warmup=2, weight_decay=0.5)
    model = nn.Linear(3, 2)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    optimise("train", model, lambda step, rows: (model.weight.sum() + model.bias.sum()) * 0.0, plan, 8, tmp_path / "snapshot.pt", "recipe")
    for step in range(5):
        weight = weight * (1 - plan.rate(step) * 0.5)
    torch.testing.assert_close(model.weight.detach(), weight)
    assert torch.equal(model.bias.detach(), bias)


def test_what_is_frozen_stays_as_it_is(tmp_path):
    run = Run(tmp_path)
    run.model[0].requires_grad_(False)
    before = run.model[0].weight.clone()
    run.optimise()
    assert torch.equal(run.model[0].weight, before)
    assert run.model[3].weight.grad is not None
