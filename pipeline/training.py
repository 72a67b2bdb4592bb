"""Training: phases of a method, each a loop of steps that ends with the best snapshot by the phase's own score.

The loop keeps no hidden state: batch order and randomness follow from (seed, step) alone, so that a run resumed from a snapshot
ends in the very bytes of an uninterrupted one.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from pipeline.core import paths
from pipeline.core.artefacts import whole, whole_if_sealed
from pipeline.core.code import code_digest
from pipeline.core.device import Precision, precisely, resolved
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, digest_of, digest_tree, read_json, write_json
from pipeline.core.params import Count, Rate, Share, StrictParams, Whole, section
from pipeline.core.progress import track
from pipeline.core.resume import finished_folder, resumable
from pipeline.core.tables import read_table
from pipeline.corpus.choosing import choose_rows
from pipeline.features.data import Corpus
from pipeline.inputs import Training
from pipeline.language.decoders import Decoder, DecoderParams, build, load, pad
from pipeline.methods.base import Method, Phase
from pipeline.optimisation import Snapshot, decayed_groups, schedule
from pipeline.systems import System, make_method

_HELDOUT_ROWS = 2000
_BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Recipe(StrictParams):
    """One entry of `recipes`: how long and how a decoder is trained. The budget is steps, never seconds.

    steps: of each phase; 0 trains nothing, and the system is what it starts from. warmup: steps of linear warm-up, followed by a cosine
    to zero. evaluate_every: steps between two looks at the held-out sentences, the best of which is kept. snapshot_every: steps between
    two snapshots, from which a killed training goes on. label_smoothing: 0.1 in DeCap. captions: train on so many captions only, those
    that synthesis draws when it is asked for the same number. precision: see `Precision`.
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


def encode_captions(decoder: Decoder, texts: Sequence[str], max_tokens: int) -> tuple[list[list[int]], int]:
    """Start token, caption, end token for each text, and how many captions were cut to `max_tokens`."""
    rows, cut = [], 0
    for text in texts:
        ids = decoder.tokenizer.encode(text)
        cut += len(ids) > max_tokens
        rows.append([decoder.tokenizer.start, *ids[:max_tokens], decoder.tokenizer.end])
    return rows, cut


@dataclass(frozen=True)
class Task:
    """What a method's phases are made of.

    captions: token ids per corpus row, empty for rows that are not used. train_rows, heldout_rows: of the corpus.
    """

    method: Method
    decoder: Decoder
    corpus: Corpus
    captions: Sequence[Sequence[int]]
    train_rows: NDArray[np.int64]
    heldout_rows: NDArray[np.int64]
    recipe: Recipe
    seed: int

    def cross_entropy(self) -> Phase:
        """Captions under the method's training condition; scored by the loss per token of a sample of the held-out sentences."""
        lengths = np.array([len(ids) for ids in self.captions])
        sample = np.random.default_rng(self.seed).permutation(self.heldout_rows)[:_HELDOUT_ROWS]
        heldout = sample[np.argsort(lengths[sample], kind="stable")]  # rows of like length together: little padding

        def loss(rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
            return self._loss(rows, generator, self.recipe.label_smoothing)

        def score() -> float:
            # the same noise at every evaluation, so that two of them differ by the weights only
            total = 0.0
            for number, part in enumerate(np.array_split(heldout, math.ceil(len(heldout) / self.recipe.batch))):
                tokens = int((lengths[part] - 1).sum())  # each token but the first is predicted
                total += self._loss(part, _generator(self.seed, -1 - number), 0.0).item() * tokens
            return total / int((lengths[heldout] - 1).sum())

        return Phase("cross-entropy", self.train_rows, lengths, loss, score)

    def _loss(self, rows: NDArray[np.int64], generator: torch.Generator, label_smoothing: float) -> Tensor:
        device = next(self.decoder.parameters()).device
        condition = self.method.training_condition(self.corpus, torch.from_numpy(rows).to(device), generator)
        with precisely(resolved(self.recipe.precision, device, "bfloat16"), device):
            return self.decoder.loss(condition, pad([self.captions[row] for row in rows.tolist()]).to(device), label_smoothing)


def train(task: Task, scratch: Path, label: str) -> list[dict[str, Any]]:
    """Train the task's decoder in place, phase after phase, each left with the weights of its lowest score.

    scratch: folder for snapshots. Returns one entry per evaluation: phase, step, train and held-out loss.
    Raises `UserError` when there are fewer captions than a batch.
    """
    if len(task.heldout_rows) == 0:
        raise UserError("no sentence that this system learns from is held out, by which weights are chosen: raise "
                        f"extract.{task.corpus.name}.heldout in params.yaml, or give a larger corpus")
    if len(task.train_rows) < task.recipe.batch:
        raise UserError(f"{len(task.train_rows)} training sentences are too few for batches of {task.recipe.batch}: lower the recipe's "
                        "batch, or give a larger corpus")
    phases = task.method.phases(task)
    log = []
    for number, phase in enumerate(phases):
        entries = _train_phase(phase, task.decoder, task.recipe, task.seed, scratch / f"phase-{number}.pt",
                               label if len(phases) == 1 else f"{label}, {phase.name}")
        log += [{"phase": phase.name, **entry} for entry in entries]
    return log


def _train_phase(phase: Phase, decoder: Decoder, recipe: Recipe, seed: int, snapshot: Path, label: str) -> list[dict[str, Any]]:
    optimiser = torch.optim.AdamW(decayed_groups(decoder.parameters(), recipe.weight_decay), lr=recipe.learning_rate, betas=_BETAS,
                                  fused=True)
    kept = Snapshot(snapshot, decoder=decoder, optimiser=optimiser)
    begun = kept.restore() or {"step": 0, "log": [], "running": [], "best": {}}
    if begun["step"]:
        print(f"resumed from step {begun['step']}", file=sys.stderr, flush=True)
    log, running, best = begun["log"], begun["running"], begun["best"]
    if len(phase.rows) < recipe.batch:
        raise UserError(f"{len(phase.rows)} rows are too few for batches of {recipe.batch}: lower the recipe's batch, or give more data")
    per_epoch = len(phase.rows) // recipe.batch
    for step in track(range(begun["step"], recipe.steps), label, recipe.steps, "steps", done=begun["step"]):
        if step == begun["step"] or step % per_epoch == 0:
            epoch = epoch_batches(phase.rows, phase.lengths, recipe.batch, seed, step // per_epoch)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe.steps, recipe.warmup)
        torch.manual_seed(seed * 1_000_003 + step)  # dropout
        decoder.train()
        loss = phase.loss(epoch[step % per_epoch], _generator(seed, step))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        running.append(float(loss.detach()))
        done = step + 1
        if done % recipe.evaluate_every == 0 or done == recipe.steps:
            entry = _evaluated(phase, decoder, done, running)
            if not log or entry["heldout_loss"] < min(past["heldout_loss"] for past in log):
                best = {key: value.detach().cpu().clone() for key, value in decoder.state_dict().items()}
            log.append(entry)
            running = []
        if done % recipe.snapshot_every == 0 or done == recipe.steps:
            kept.save(step=done, log=log, running=running, best=best)
    decoder.load_state_dict(best)
    return log


def _evaluated(phase: Phase, decoder: Decoder, step: int, running: Sequence[float]) -> dict[str, Any]:
    """The log's entry of a step; `UserError` when the loss is no longer a number."""
    decoder.eval()
    with torch.inference_mode():
        entry = {"step": step, "train_loss": round(sum(running) / len(running), 4), "heldout_loss": round(phase.score(), 4)}
    if not (math.isfinite(entry["heldout_loss"]) and math.isfinite(entry["train_loss"])):
        raise UserError(f"training diverged before step {step} (the loss is not a number): lower the recipe's learning_rate")
    return entry


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


def train_system(name: str, system: System, params: dict[str, Any], device: torch.device) -> None:
    """Train a system and write `data/models/<name>` and its curve. Raises `UserError` for missing or foreign artefacts.

    With a recipe of 0 steps the model is the one that the system starts from, or for a method without a decoder its card alone.
    """
    plan = Plan.of(name, system, params)
    if plan.trains:
        log = train_model(plan, paths.model(name), device)
        write_json(paths.curve(name), log)
        write_json(paths.trained(name), {"identity": identity(plan, device), "model": digest_tree(paths.model(name))})
    else:
        _adopt(plan)
        write_json(paths.curve(name), [])


def train_model(plan: Plan, target: Path, device: torch.device) -> list[dict[str, Any]]:
    """Train into the folder `target`, and return the log: an entry per evaluation."""
    system, inputs = plan.system, Training(plan.system, plan.method)
    with resumable(target, __name__, type(plan.method).__module__, identity=identity(plan, device)) as work:
        corpus = inputs.load(device)
        decoder, log, cut = fit(plan, corpus, device, work.folder)
        decoder.save(work.output, _width(corpus), plan.decoder.mapper)
        write_json(work.output / "system.json", {
            **plan.card, "clip_digest": inputs.clip_digest(), "corpus_digest": digest_file(paths.corpus_table(system.corpus)),
            "detector_digest": inputs.detector_digest(), "parameters": sum(p.numel() for p in decoder.parameters()), "cut_captions": cut,
            "curve_digest": digest_of(log),
            "best_step": _best_step([entry for entry in log if entry["phase"] == log[-1]["phase"]]),
        })
    return log


def _best_step(log: Sequence[dict[str, Any]]) -> int:
    return int(min(log, key=lambda entry: float(entry["heldout_loss"]))["step"])


def trained_model(plan: Plan, device: torch.device) -> Path | None:
    """The folder below data/models that holds just this model, trained by this code on these inputs; None where there is none."""
    memo, folder = paths.trained(plan.name), paths.model(plan.name)
    if not memo.exists() or not folder.exists():
        return None
    return folder if read_json(memo) == {"identity": identity(plan, device), "model": digest_tree(folder)} else None


def identity(plan: Plan, device: torch.device) -> str:
    """Digest of everything that decides a model's bytes."""
    start = _start(plan)
    return digest_of([plan.card, Training(plan.system, plan.method).digest(), digest_tree(start), device.type,
                      resolved(plan.recipe.precision, device, "bfloat16"), torch.get_num_threads(),
                      code_digest(__name__, type(plan.method).__module__)])


def _start(plan: Plan) -> Path:
    folder = paths.DATA / plan.system.starts_from
    if not folder.is_dir():
        raise UserError(f"{folder}, which system {plan.name} starts from, is missing: run `dvc repro`, or correct its starts_from")
    return whole_if_sealed(folder)


def _adopt(plan: Plan) -> None:
    """The model of a system that is not trained: what it starts from, under its own card."""
    start = _start(plan)
    if plan.method.has_decoder and not (start / "system.json").exists():
        raise UserError(f"params.yaml: recipe {plan.system.recipe} has 0 steps, so that system {plan.name} is what it starts from, and "
                        f"{start} holds no model: name models/<system> in starts_from")
    with finished_folder(paths.model(plan.name)) as folder:
        if not plan.method.has_decoder:
            write_json(folder / "system.json", {**plan.card, "clip_digest": None, "detector_digest": None, "curve_digest": digest_of([])})
            return
        about = read_json(whole(start / "system.json"))
        if about["clip"] != plan.system.clip:
            raise UserError(f"params.yaml: system {plan.name} has clip {plan.system.clip}, {start} was trained with {about['clip']}")
        shutil.copytree(start, folder, dirs_exist_ok=True)
        write_json(folder / "system.json", {**about, **plan.card, "curve_digest": digest_of([])})


@dataclass(frozen=True)
class Plan:
    """A system's training, with every parameter checked."""

    name: str
    system: System
    method: Method
    decoder: DecoderParams
    recipe: Recipe

    @staticmethod
    def of(name: str, system: System, params: dict[str, Any]) -> Plan:
        """Raises `UserError` when a parameter is wrong."""
        return Plan(name, system, make_method(name, system), section(DecoderParams, params, f"decoders.{system.decoder}"),
                    section(Recipe, params, f"recipes.{system.recipe}"))

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return self.method.trains and self.recipe.steps > 0

    @property
    def card(self) -> dict[str, Any]:
        """What a model says of itself, and what decides it; a change of captioning alone does not train again."""
        described = {key: value for key, value in asdict(self.system).items() if key not in ("caption", "looks_at", "looks_up", "suite")}
        return {"name": self.name, "paper": self.method.paper, "supervision": self.method.supervision, **described,
                "decoder_params": asdict(self.decoder), "recipe_params": asdict(self.recipe)}


def _width(corpus: Corpus) -> int:
    """D of what is learnt from."""
    return int((corpus.pairs.pictures.features if corpus.pairs else corpus.features).shape[1])


def _trained_rows(plan: Plan, corpus: Corpus, splits: Sequence[str]) -> NDArray[np.int64]:
    """Rows of the corpus that a system may be trained on, or choose its snapshot by; with pairs, only those that have a picture."""
    rows = choose_rows(splits, plan.recipe.captions)
    if corpus.pairs is None:
        return rows
    if plan.system.learns_from.endswith("/synthetic"):
        asked, wanted = read_json(whole(paths.ImageSet(corpus.name, drawn=True).folder / "report.json"))["asked"], plan.recipe.captions or 0
        if asked < min(wanted, len(splits)):
            raise UserError(f"recipe {plan.system.recipe} trains {plan.name} on {wanted} captions, and synthesis.captions is {asked}: "
                            "make them equal in params.yaml")
    return rows[corpus.pairs.picture_of[torch.from_numpy(rows)].cpu().numpy() >= 0]


def fit(plan: Plan, corpus: Corpus, device: torch.device, scratch: Path) -> tuple[Decoder, list[dict[str, Any]], int]:
    """A trained decoder, its log, and how many captions were cut. Snapshots go to `scratch`."""
    splits = np.array(read_table(paths.corpus_table(plan.system.corpus), ["split"])["split"])
    rows = _trained_rows(plan, corpus, splits.tolist())
    torch.manual_seed(plan.system.seed)
    start = _start(plan)
    if (start / "decoder.json").exists():  # another system's model
        decoder = load(start, device, plan.method.mapper).requires_grad_(True)
    else:
        decoder = build(plan.decoder, start, _width(corpus), plan.method.prefix_length, plan.method.mapper).to(device)
    encoded, cut = encode_captions(decoder, [corpus.texts[row] for row in rows], plan.decoder.max_tokens)
    captions: list[list[int]] = [[]] * len(corpus.texts)
    for row, ids in zip(rows.tolist(), encoded, strict=True):
        captions[row] = ids
    task = Task(plan.method, decoder, corpus, captions, rows[splits[rows] == "train"], rows[splits[rows] == "heldout"], plan.recipe,
                plan.system.seed)
    return decoder, train(task, scratch, f"train {plan.name}"), cut
