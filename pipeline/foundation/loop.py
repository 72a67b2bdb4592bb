"""How the foundation models are trained: AdamW on a pool's rows, torch seeded anew for each step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import optimisation
from ..optimisation import Schedule


def optimise(label: str, trained: nn.Module, loss_of: Callable[[int, NDArray[np.int64]], Tensor], plan: Schedule, examples: int,
             snapshot: Path, identity: str, every: int = 250, betas: tuple[float, float] = (0.9, 0.999)) -> tuple[nn.Module, list[float]]:
    """Train in place; returns the model to keep and the mean loss of every `every` steps. loss_of: from a step and its rows of the pool."""
    def loss(step: int) -> Tensor:
        torch.manual_seed(int(np.random.default_rng([plan.seed, 1, step]).integers(2**62)))
        return loss_of(step, plan.rows(step, examples))

    def record(step: int, mean_loss: float) -> optimisation.Entry:
        print(f"{label}, step {step}: loss {mean_loss:.4f}", flush=True)
        return {"loss": round(mean_loss, 4)}

    optimiser = plan.adamw(trained, betas=betas)
    kept, log = optimisation.optimise(label, trained, optimiser, plan, loss, record, every, every, snapshot, identity)
    return kept, [entry["loss"] for entry in log]
