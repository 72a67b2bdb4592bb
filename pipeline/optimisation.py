"""What the training loops share: the learning rate's schedule, parameter groups, and snapshots to go on from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.core.files import replace


class Stateful(Protocol):
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class Snapshot:
    """A file with the state of a model, its optimiser and whatever else goes on from it, replaced in one rename.

    identity: names what is trained; a file of another one is refused with a `UserError`.
    """

    def __init__(self, path: Path, identity: str = "", **parts: Stateful) -> None:
        self.path, self.identity, self.parts = path, identity, parts

    def save(self, **values: Any) -> None:
        """Keep the parts' state and plain values (numbers, text, lists, tensors)."""
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:  # a file of ours, so that a full disk is an OSError
            torch.save({"identity": self.identity, "parts": {name: part.state_dict() for name, part in self.parts.items()},
                        "values": values}, file)
        replace(partial, self.path)

    def restore(self) -> dict[str, Any] | None:
        """Give the parts the state that was kept, and return the values; None where there is no snapshot."""
        if not self.path.exists():
            return None
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        if state.get("identity") != self.identity:
            raise UserError(f"{self.path} belongs to another recipe: delete its folder, or rebuild elsewhere with --out")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        values: dict[str, Any] = state["values"]
        return values


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
