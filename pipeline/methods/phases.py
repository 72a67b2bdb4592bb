"""What a method's training is made of: phases, each a stretch of it with rows, loss and score of its own, under one recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from ..core.device import Precision, precisely, resolved
from ..core.errors import UserError
from ..core.params import Count, Rate, Share, StrictParams, Whole
from ..language.condition import Condition
from ..language.decoders import Decoder, pad
from ..needs.base import Inputs
from ..optimisation import Entry, Schedule, Score, optimise, trained_state

_HELDOUT_ROWS = 2000
_KEPT = "kept"


@dataclass(frozen=True)
class Recipe(StrictParams):
    """One entry of `recipes`: how long and how a decoder is trained. The budget is steps, never seconds.

    steps: of each phase; 0 trains nothing, and the system is what it starts from. warmup: steps of linear warm-up, followed by a cosine
    to zero. evaluate_every: steps between two looks at the held-out sentences, the best of which is kept. snapshot_every: steps between
    two snapshots, from which a killed training goes on. label_smoothing: 0.1 in DeCap. captions: train on so many captions only, those
    that synthesis draws when it is asked for the same number. precision: see `Precision`. keep_steps: the weights of every look stay
    beside the best ones, for a sweep's curve over `step`.
    """

    steps: Whole
    batch: Count = 128
    learning_rate: Rate = 1e-3
    warmup: Whole = 100
    weight_decay: Share = 0.01
    label_smoothing: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    evaluate_every: Count = 200
    snapshot_every: Count = 200
    captions: Annotated[int, Field(ge=2, le=10**9)] | None = None
    precision: Precision = "auto"
    keep_steps: bool = False


@dataclass(frozen=True)
class Phase:
    """One stretch of training, left with the weights of its best score.

    rows: (M,) of the corpus, what batches are drawn from. lengths: of the targets, by row of the corpus; rows of like length go into one
    batch. loss: of a batch of rows, all randomness from the generator. score: how good the decoder is now. steps, learning_rate: where
    they differ from the recipe's. trained: the part of the decoder that learns, None for all of it; frozen parameters never do.
    """

    name: str
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    loss: Callable[[NDArray[np.int64], torch.Generator], Tensor]
    score: Score
    steps: int | None = None
    learning_rate: float | None = None
    trained: nn.Module | None = None


@dataclass(frozen=True)
class Trainer:
    """What phases are made of, and what trains the decoder by them.

    condition: the method's, of rows of the corpus (B,). captions: token ids per corpus row, empty for rows that are not used.
    train_rows, heldout_rows: of the corpus.
    """

    condition: Callable[[Inputs, Tensor, torch.Generator], Condition]
    decoder: Decoder
    corpus: Inputs
    captions: Sequence[Sequence[int]]
    train_rows: NDArray[np.int64]
    heldout_rows: NDArray[np.int64]
    recipe: Recipe
    seed: int

    def cross_entropy(self) -> Phase:
        """Captions under the method's training condition; scored by the loss per token of a sample of the held-out sentences.

        Raises `UserError` when there are none.
        """
        if len(self.heldout_rows) == 0:
            raise UserError("no sentence that this system learns from is held out, by which weights are chosen: raise its corpus's heldout "
                            "below `extract` in params.yaml, or give a larger corpus")
        lengths = np.array([len(ids) for ids in self.captions])
        sample = np.random.default_rng(self.seed).permutation(self.heldout_rows)[:_HELDOUT_ROWS]
        heldout = sample[np.argsort(lengths[sample], kind="stable")]  # rows of like length together: little padding

        def loss(rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
            return self._loss(rows, generator, self.recipe.label_smoothing)

        def heldout_loss() -> float:
            # the same noise at every evaluation, so that two of them differ by the weights only
            total = 0.0
            for number, part in enumerate(np.array_split(heldout, math.ceil(len(heldout) / self.recipe.batch))):
                tokens = int((lengths[part] - 1).sum())  # each token but the first is predicted
                total += self._loss(part, _generator(self.seed, -1 - number), 0.0).item() * tokens
            return total / int((lengths[heldout] - 1).sum())

        return Phase("cross-entropy", self.train_rows, lengths, loss, Score("heldout_loss", heldout_loss))

    def _loss(self, rows: NDArray[np.int64], generator: torch.Generator, label_smoothing: float) -> Tensor:
        device = next(self.decoder.parameters()).device
        condition = self.condition(self.corpus, torch.from_numpy(rows).to(device), generator)
        with precisely(resolved(self.recipe.precision, device, "bfloat16"), device):
            return self.decoder.loss(condition, pad([self.captions[row] for row in rows.tolist()]).to(device), label_smoothing)

    def train(self, phases: Sequence[Phase], scratch: Path, label: str) -> tuple[list[Entry], int]:
        """Train the decoder in place, phase after phase; snapshots go to the folder `scratch`.

        Returns the log, an entry per evaluation with phase, step, training loss and score, and the step of the last phase whose weights
        the decoder is left with. Raises `UserError` when a phase has fewer rows than a batch. Where the recipe keeps steps, their weights
        are then in `kept_steps` of the folder: those of a phase's last step are the ones that the next phase begins with.
        """
        log, best_step, before = [], 0, 0
        for number, phase in enumerate(phases):
            self._keep(scratch, before)
            entries = self._train(phase, scratch / f"phase-{number}.pt", label if len(phases) == 1 else f"{label}, {phase.name}", before)
            log += [{"phase": phase.name, **entry} for entry in entries]
            best_step = phase.score.best(entries)["step"]
            before += entries[-1]["step"]
        return log, best_step

    def _keep(self, scratch: Path, step: int) -> None:
        """The weights of a step, counted over all phases, where the recipe keeps them."""
        if self.recipe.keep_steps:
            (scratch / _KEPT).mkdir(exist_ok=True)
            save_file({name: value.cpu().clone() for name, value in trained_state(self.decoder).items()},
                      scratch / _KEPT / f"{step}.safetensors")

    def _train(self, phase: Phase, snapshot: Path, label: str, before: int) -> list[Entry]:
        recipe, decoder, seed, score = self.recipe, self.decoder, self.seed, phase.score
        if len(phase.rows) < recipe.batch:
            raise UserError(f"{len(phase.rows)} training sentences are too few for batches of {recipe.batch}: lower the recipe's batch, "
                            "or give a larger corpus")
        schedule = Schedule(phase.steps or recipe.steps, recipe.batch, phase.learning_rate or recipe.learning_rate, recipe.warmup,
                            recipe.weight_decay)
        trained = decoder if phase.trained is None else phase.trained
        per_epoch = len(phase.rows) // recipe.batch

        @lru_cache(maxsize=1)
        def batches(epoch: int) -> list[NDArray[np.int64]]:
            return epoch_batches(phase.rows, phase.lengths, recipe.batch, seed, epoch)

        def loss_of(step: int) -> Tensor:
            torch.manual_seed(seed * 1_000_003 + step)  # dropout
            decoder.train()
            return phase.loss(batches(step // per_epoch)[step % per_epoch], _generator(seed, step))

        def record(step: int, loss: float) -> Entry:
            decoder.eval()
            with torch.no_grad():
                entry = {"step": step, "train_loss": round(loss, 4), score.name: round(score.function(), 4)}
            if not all(map(math.isfinite, entry.values())):
                raise UserError(f"training diverged before step {step} (the loss is not a number): lower the recipe's learning_rate")
            self._keep(snapshot.parent, before + step)
            return entry

        optimiser = schedule.adamw(trained, betas=(0.9, 0.98), fused=True)
        return optimise(label, trained, optimiser, schedule, loss_of, record, recipe.evaluate_every, recipe.snapshot_every, snapshot,
                        score=score)[1]


def kept_steps(scratch: Path) -> dict[int, Path]:
    """What a training left there of each step that its recipe keeps: safetensors of what is trained."""
    return {int(file.stem): file for file in sorted((scratch / _KEPT).glob("*.safetensors"), key=lambda file: int(file.stem))}


def epoch_batches(rows: NDArray[np.int64], lengths: NDArray[np.int64], batch: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """One epoch's batches: every row at most once, rows of like length together, in random order.

    A batch is as long as its longest caption; sorting within random groups of 32 batches halves what is computed for padding.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(rows)[: len(rows) // batch * batch]
    groups = [group[np.argsort(lengths[group], kind="stable")] for group in np.split(order, range(32 * batch, len(order), 32 * batch))]
    batches = np.concatenate(groups).reshape(-1, batch)
    return list(batches[rng.permutation(len(batches))])


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step + 500_000_000)
