"""What the training loops share: the learning rate's schedule, parameter groups, and snapshots to go on from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.core.resume import Ledger


class Stateful(Protocol):
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class Snapshot:
    """The state of a model, its optimiser and whatever else goes on from it, in a file beside `path`, noted in a ledger.

    One that is not as it was written, after a power cut or any damage, counts as none. identity: names what is trained; a snapshot of
    another one is refused with a `UserError`.
    """

    def __init__(self, path: Path, identity: str = "", **parts: Stateful) -> None:
        self.path, self.identity, self.parts = path, identity, parts
        self._ledger = Ledger(path.with_suffix(".jsonl"))

    def save(self, **values: Any) -> None:
        """Keep the parts' state and plain values (numbers, text, lists, tensors)."""
        older = self._file()
        target = self.path.with_name(f"{self.path.stem}-{self._number() + 1}{self.path.suffix}")
        with target.open("wb") as file:  # a file of ours, so that a full disk is an OSError
            torch.save({"identity": self.identity, "parts": {name: part.state_dict() for name, part in self.parts.items()},
                        "values": values}, file)
        self._ledger.record(target.name, self._number() + 1, [target])
        if older:
            older.unlink()

    def restore(self) -> dict[str, Any] | None:
        """Give the parts the state that was kept, and return the values; None where there is no snapshot."""
        file = self._file()
        if file is None:
            return None
        state = torch.load(file, weights_only=True, map_location="cpu")
        if state.get("identity") != self.identity:
            raise UserError(f"{file} belongs to another recipe: delete its folder, or rebuild elsewhere with --out")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        values: dict[str, Any] = state["values"]
        return values

    def _number(self) -> int:
        """Of the last snapshot, 0 without one."""
        return max(self._ledger.done.values(), default=0)

    def _file(self) -> Path | None:
        """The last snapshot."""
        return self.path.with_name(f"{self.path.stem}-{self._number()}{self.path.suffix}") if self._number() else None


def schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def decayed_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups with weight decay for matrices only."""
    trained = list(parameters)
    return [{"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}]
