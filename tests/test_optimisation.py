"""The loop that all training shares: against a loop written out, what it keeps, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.optimisation import Schedule, Score, optimise
from tests.interruption import Interrupted

SCHEDULE = Schedule(steps=11, batch=4, learning_rate=0.05, warmup=2, weight_decay=0.1, seed=3)
EXAMPLES = 14


class Run:
    """A model with dropout, batch norm and a frozen layer; a sparse one is a table of rows. scores: of each entry, in place of none."""

    def __init__(self, schedule: Schedule = SCHEDULE, sparse: bool = False, scores: tuple[float, ...] = (),
                 higher_is_better: bool = False) -> None:
        torch.manual_seed(0)
        self.schedule, self.sparse = schedule, sparse
        self.model: nn.Module = nn.Embedding(EXAMPLES, 3, sparse=True) if sparse else nn.Sequential(
            nn.Linear(3, 5, bias=False), nn.BatchNorm1d(5), nn.Linear(5, 5).requires_grad_(False), nn.Dropout(0.5), nn.Linear(5, 1))
        self.inputs = torch.randn(EXAMPLES, 3)
        left = iter(scores)
        self.score = Score("score", lambda: next(left), higher_is_better) if scores else None
        self.optimiser: Any = torch.optim.SparseAdam(self.model.parameters()) if sparse else schedule.adamw(self.model)
        self.weights: list[dict[str, Tensor]] = []  # at each entry of the log

    def loss_of(self, step: int) -> Tensor:
        torch.manual_seed(step)
        rows = torch.from_numpy(self.schedule.rows(step, EXAMPLES))
        return (self.model(rows if self.sparse else self.inputs[rows]) * 100 - self.inputs[rows].sum(1, keepdim=True)).square().mean()

    def optimise(self, snapshot: Path, interrupted_at: int | None = None) -> tuple[nn.Module, list[dict[str, Any]]]:
        def loss_of(step: int) -> Tensor:
            if step == interrupted_at:
                raise Interrupted
            return self.loss_of(step)

        def record(step: int, loss: float) -> dict[str, Any]:
            self.weights.append(state(self.model))
            return {"step": step, "loss": loss, **({"score": self.score.function()} if self.score else {})}

        return optimise("train", self.model, self.optimiser, self.schedule, loss_of, record, 3, 2, snapshot, score=self.score,
                        clip=not self.sparse)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def equal(one: nn.Module | dict[str, Tensor], other: nn.Module | dict[str, Tensor]) -> bool:
    a, b = (thing.state_dict() if isinstance(thing, nn.Module) else thing for thing in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


KINDS: dict[str, dict[str, Any]] = {
    "the last weights": {}, "their running average": {"schedule": replace(SCHEDULE, average=0.7)},
    "sparse gradients": {"sparse": True, "schedule": replace(SCHEDULE, warmup=None)},
    "the best weights": {"scores": (1.0, 3.0, 2.0, 0.0), "higher_is_better": True},
}


# before the first snapshot, right behind one, between two with a mean loss half summed, in the last step
@pytest.mark.parametrize("step", [1, 4, 7, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_in_the_very_bytes_of_an_uninterrupted_one(tmp_path, kind, step):
    whole, killed, resumed = (Run(**KINDS[kind]) for _ in range(3))
    kept, log = whole.optimise(tmp_path / "whole.pt")
    with pytest.raises(Interrupted):
        killed.optimise(tmp_path / "killed.pt", step)
    if resumed.score:
        resumed.score = Score("score", iter(KINDS[kind]["scores"][step // 2 * 2 // 3 :]).__next__, True)
    found, found_log = resumed.optimise(tmp_path / "killed.pt")
    assert equal(found, kept)
    assert equal(resumed.model, whole.model)
    assert found_log == log
    assert [entry["step"] for entry in log] == [3, 6, 9, 11]


def test_a_step_is_adamw_on_clipped_gradients_at_the_scheduled_rate(tmp_path):
    run, twin = Run(), Run()
    run.optimise(tmp_path / "snapshot.pt")
    parameters = [p for p in twin.model.parameters() if p.requires_grad]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for step in range(11):
        grads = torch.autograd.grad(twin.loss_of(step), parameters)
        norm = torch.sqrt(sum((grad.square().sum() for grad in grads), torch.zeros(())))
        assert norm > 1
        for p, grad, m, v in zip(parameters, grads, first, second, strict=True):
            clipped = grad / norm
            m.mul_(0.9).add_(0.1 * clipped)
            v.mul_(0.999).add_(0.001 * clipped.square())
            rate = SCHEDULE.rate(step)
            with torch.no_grad():
                p.mul_(1 - rate * (0.1 if p.ndim > 1 else 0.0))
                p.sub_(rate * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8))
    for found, expected in zip(run.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)  # eleven steps of other roundings


@pytest.mark.parametrize(("scores", "higher_is_better", "best"), [
    ((1.0, 3.0, 2.0, 3.0), True, 1), ((1.0, 3.0, 2.0, 1.0), False, 0), ((1.0, 2.0, 3.0, 4.0), True, 3), ((4.0, 3.0, 2.0, 1.0), False, 3),
])
def test_the_weights_of_the_first_best_score_are_kept(tmp_path, scores, higher_is_better, best):
    run = Run(scores=scores, higher_is_better=higher_is_better)
    run.optimise(tmp_path / "snapshot.pt")
    assert [equal(run.model, weights) for weights in run.weights] == [number == best for number in range(4)]


@pytest.mark.parametrize("kind", [{"scores": (1.0, 2.0, 3.0, 4.0)}, {"schedule": replace(SCHEDULE, average=0.7)}])
def test_frozen_parameters_are_in_neither_optimiser_nor_snapshot_and_stay_what_the_caller_made_them(tmp_path, kind):
    run = Run(**kind)
    run.optimise(tmp_path / "snapshot.pt")
    frozen = {"2.weight", "2.bias"}
    assert sum(len(group["params"]) for group in run.optimiser.param_groups) == 5
    held = torch.load(next(tmp_path.glob("snapshot-*.pt")), weights_only=True)
    rest = run.model.state_dict().keys() - frozen
    assert {"0.weight", "1.running_mean", "4.bias"} <= rest  # batch norm's means move, though they are no parameters
    assert held["modules"][0].keys() == rest
    if "scores" in kind:
        assert held["progress"][3].keys() == rest
    else:
        assert held["modules"][1].keys() == {f"module.{key}" for key in rest} | {"n_averaged"}
    other = Run(**kind)
    nn.init.ones_(other.model[2].weight)
    found, _ = other.optimise(tmp_path / "snapshot.pt")  # finished: only read
    assert torch.equal(found[2].weight, torch.ones(5, 5))
    assert torch.equal(found[0].weight, held["progress"][3]["0.weight"] if "scores" in kind else
                       held["modules"][1]["module.0.weight"])


def test_no_steps_leave_everything_as_it_is(tmp_path):
    run = Run(replace(SCHEDULE, steps=0))
    before = state(run.model)
    kept, log = run.optimise(tmp_path / "snapshot.pt")
    assert equal(kept, before)
    assert log == []


def test_the_learning_rate_warms_up_in_a_line_and_falls_in_a_cosine_to_zero_or_stays():
    schedule = Schedule(steps=110, batch=1, learning_rate=2.0, warmup=10)
    rates = [schedule.rate(step) for step in range(111)]
    assert rates[:10] == pytest.approx([(step + 1) / 5 for step in range(10)])
    assert rates[10] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert rates[110] == pytest.approx(0.0)
    assert all(earlier > later for earlier, later in pairwise(rates[10:]))
    assert replace(schedule, steps=10, warmup=0).rate(0) == 2.0
    assert {replace(schedule, warmup=None).rate(step) for step in range(111)} == {2.0}


def test_an_epoch_holds_every_example_at_most_once_in_another_order_each_time():
    epochs = [np.concatenate([SCHEDULE.rows(step, EXAMPLES) for step in range(start, start + 3)]).tolist() for start in (0, 3)]
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert sorted(SCHEDULE.rows(5, 3).tolist()) == [0, 1, 2]
