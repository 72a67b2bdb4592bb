"""The loop that trains the foundation models: AdamW, warm-up and cosine, snapshots that an interrupted run goes on from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.core.progress import track
from pipeline.optimisation import Snapshot, Stateful, decayed_groups, schedule


@dataclass(frozen=True)
class Schedule:
    """`average`: decay of the weights' running average, 0 for none."""

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    average: float = 0.0
    seed: int = 0


def optimise(label: str, trained: nn.Module, loss_of: Callable[[int, NDArray[np.int64]], Tensor], plan: Schedule, examples: int,
             snapshot: Path, identity: str, every: int = 250, betas: tuple[float, float] = (0.9, 0.999)) -> tuple[nn.Module, list[float]]:
    """Train in place; returns the model to keep (the running average where one is asked for) and the mean loss of every `every` steps.

    loss_of: from the step's number and its rows of the pool; torch is seeded anew for each step, so that a resumed run draws the same.
    identity: names the recipe; a snapshot of another one is refused with a `UserError`.
    """
    named = [(name, p) for name, p in trained.named_parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(decayed_groups((p for _, p in named), plan.weight_decay), lr=plan.learning_rate, betas=betas)
    averaged = AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(plan.average), use_buffers=True) if plan.average else None
    parts: dict[str, Stateful] = {"model": trained, "optimiser": optimiser, **({"averaged": averaged} if averaged is not None else {})}
    kept = Snapshot(snapshot, identity, **parts)
    begun = kept.restore() or {"step": 0, "losses": []}
    start, losses = begun["step"], begun["losses"]
    per_epoch = max(examples // plan.batch, 1)
    running: list[float] = []
    for step in track(range(start, plan.steps), label, plan.steps, "steps", done=start):
        order = np.random.default_rng([plan.seed, step // per_epoch]).permutation(examples)
        torch.manual_seed(int(np.random.default_rng([plan.seed, 1, step]).integers(2**62)))
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * schedule(step, plan.steps, plan.warmup)
        loss = loss_of(step, order[(step % per_epoch) * plan.batch :][: plan.batch])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimiser.step()
        if averaged is not None:
            averaged.update_parameters(trained)
        running.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == plan.steps:
            losses.append(round(sum(running) / len(running), 4))
            running = []
            print(f"{label}, step {step + 1}: loss {losses[-1]}", flush=True)
            kept.save(step=step + 1, losses=losses)
    return (averaged.module if averaged is not None else trained), losses
