"""The training loop that decoders, pseudo-features and foundation models share, and snapshots to go on from.

The loop keeps no hidden state: learning rate, rows and randomness of a step follow from (seed, step) alone, so that a run resumed from a
snapshot ends in the very bytes of an uninterrupted one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .core.errors import UserError
from .core.progress import track
from .core.resume import Ledger

Entry = dict[str, Any]


class Snapshot:
    """How far a training is, in a file beside `path`, noted in a ledger.

    One that is not as it was written, after a power cut or any damage, counts as none. identity: names what is trained; a snapshot of
    another one is refused with a `UserError`.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity
        self._ledger = Ledger(path.with_suffix(".jsonl"))

    def save(self, **values: Any) -> None:
        """Keep numbers, text, tensors, and lists and dictionaries of them."""
        older, number = self._file(), self._number() + 1
        target = self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")
        with target.open("wb") as file:  # a file of ours, so that a full disk is an OSError
            torch.save({"identity": self.identity, **values}, file)
        self._ledger.record(target.name, number, [target])
        if older:
            older.unlink()

    def restore(self) -> dict[str, Any] | None:
        """What was kept, on the CPU; None where there is no snapshot."""
        file = self._file()
        if file is None:
            return None
        values: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        if values["identity"] != self.identity:
            raise UserError(f"{file} belongs to another recipe: delete its folder, or rebuild elsewhere with --out")
        return values

    def _number(self) -> int:
        """Of the last snapshot, 0 without one."""
        return max(self._ledger.done.values(), default=0)

    def _file(self) -> Path | None:
        """The last snapshot."""
        return self.path.with_name(f"{self.path.stem}-{self._number()}{self.path.suffix}") if self._number() else None


@dataclass(frozen=True)
class Schedule:
    """How a module is trained. warmup: steps of linear warm-up, followed by a cosine to zero; None for a constant learning rate.

    average: decay of the weights' running average, 0 for none.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int | None = 100
    weight_decay: float = 0.01
    average: float = 0.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        if self.warmup is None:
            return self.learning_rate
        if step < self.warmup:
            return self.learning_rate * ((step + 1) / self.warmup)
        return self.learning_rate * (0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(self.steps - self.warmup, 1))))

    def rows(self, step: int, examples: int) -> NDArray[np.int64]:
        """(batch,) of the examples: each at most once an epoch, in another order every time. All of them if they are fewer than a batch."""
        per_epoch = max(examples // self.batch, 1)
        return _order(examples, self.seed, step // per_epoch)[step % per_epoch * self.batch :][: self.batch]

    def adamw(self, trained: nn.Module, **options: Any) -> torch.optim.AdamW:
        """AdamW of the parameters that are not frozen, with weight decay for matrices only."""
        parameters = trainable(trained)
        return torch.optim.AdamW([{"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
                                  {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}], **options)


@lru_cache(maxsize=1)
def _order(examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(examples)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen: those with `requires_grad`."""
    return [p for p in module.parameters() if p.requires_grad]


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state without its frozen parameters.

    Persistent buffers stay in: batch norm moves its running means whether its parameters are frozen or not.
    """
    frozen = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


@dataclass(frozen=True)
class Score:
    """A figure that weights are chosen by. name: of it in the log. function: what it is now."""

    name: str
    function: Callable[[], float]
    higher_is_better: bool = False

    def best(self, log: Sequence[Entry]) -> Entry:
        """The log's entry with the best score, the first of equal ones."""
        return (max if self.higher_is_better else min)(log, key=lambda entry: float(entry[self.name]))


def optimise(label: str, trained: nn.Module, optimiser: torch.optim.Optimizer, schedule: Schedule, loss_of: Callable[[int], Tensor],
             record: Callable[[int, float], Entry], record_every: int, snapshot_every: int, snapshot: Path, identity: str = "", *,
             score: Score | None = None, clip: bool = True) -> tuple[nn.Module, list[Entry]]:
    """Train in place what of a module is not frozen; returns the module to keep (the running average where one is asked for) and the log.

    loss_of: of a step, all randomness seeded by its number. record: the log's entry of a step, from its number and the mean loss since the
    last entry. snapshot, identity: see `Snapshot`; a run goes on from what it finds there. score: the module is left with the weights
    of its best entry instead of the last ones. clip: gradients to a norm of 1.
    """
    parameters, kept = trainable(trained), Snapshot(snapshot, identity)
    averaged = AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(schedule.average), use_buffers=True) if schedule.average else None
    modules = [trained] if averaged is None else [trained, averaged]
    start, log, running, best = 0, [], [], {}
    if begun := kept.restore():
        start, log, running, best = begun["progress"]
        print(f"resumed from step {start}", file=sys.stderr, flush=True)
        optimiser.load_state_dict(begun["optimiser"])
        for module, state in zip(modules, begun["modules"], strict=True):
            module.load_state_dict(state, strict=False)
    for step in track(range(start, schedule.steps), label, schedule.steps, "steps", done=start):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        loss = loss_of(step)
        optimiser.zero_grad()
        loss.backward(inputs=parameters)  # no gradients for what is not trained here
        if clip:
            nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if averaged is not None:
            averaged.update_parameters(trained)
        running.append(loss.item())
        done = step + 1
        if done % record_every == 0 or done == schedule.steps:
            log.append(record(done, sum(running) / len(running)))
            running = []
            if score and score.best(log) is log[-1]:
                best = {name: value.cpu().clone() for name, value in trained_state(trained).items()}
        if done % snapshot_every == 0 or done == schedule.steps:
            kept.save(progress=[done, log, running, best], optimiser=optimiser.state_dict(), modules=[trained_state(m) for m in modules])
    trained.load_state_dict(best, strict=False)
    return (trained if averaged is None else averaged.module), log
