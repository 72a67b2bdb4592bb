"""The training loop: steps of cross-entropy on captions under a method's conditions, the best snapshot by held-out text loss.

The loop keeps no hidden state: batch order and randomness follow from (seed, step) alone, so that a run resumed from a snapshot
ends in the very bytes of an uninterrupted one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.files import digest_tree, read_json, write_json
from pipeline.core.params import StrictParams, check, pick
from pipeline.core.progress import track
from pipeline.core.resume import resumable
from pipeline.core.tables import read_table
from pipeline.decoders import Decoder, DecoderParams, build, pad
from pipeline.features.encoders import load_clip
from pipeline.features.indexing import load_corpus
from pipeline.features.stores import read_origin
from pipeline.methods.base import Corpus, Method
from pipeline.synthetic.pairs import choose_rows, label_encoder, load_pairs, pair_features
from pipeline.systems import System, make_method

_HELDOUT_ROWS = 2000


@dataclass(frozen=True)
class Recipe(StrictParams):
    """One entry of `recipes`: how long and how a decoder is trained. The budget is steps, never seconds.

    warmup: steps of linear warm-up, followed by a cosine to zero. evaluate_every: steps between two looks at the held-out sentences,
    and between two snapshots. label_smoothing: 0.1 in DeCap. captions: train on so many captions only, those that
    synthesis draws when it is asked for the same number.
    """

    steps: int
    batch: int = 128
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    evaluate_every: int = 200
    captions: int | None = None

    def __post_init__(self) -> None:
        if self.captions is not None and self.captions < 2:
            raise ValueError("captions must be 2 or more, or null for all")
        if min(self.steps, self.batch, self.evaluate_every) < 1:
            raise ValueError("steps, batch and evaluate_every must be 1 or more")
        if self.warmup < 0 or self.learning_rate <= 0:
            raise ValueError("warmup must be 0 or more and learning_rate above 0")


def encode_captions(decoder: Decoder, texts: Sequence[str], max_tokens: int) -> tuple[list[list[int]], int]:
    """Start token, caption, end token for each text, and how many captions were cut to `max_tokens`."""
    rows, cut = [], 0
    for text in texts:
        ids = decoder.tokenizer.encode(text)
        cut += len(ids) > max_tokens
        rows.append([decoder.tokenizer.start, *ids[:max_tokens], decoder.tokenizer.end])
    return rows, cut


def train(method: Method, decoder: Decoder, corpus: Corpus, captions: Sequence[Sequence[int]], train_rows: NDArray[np.int64],
          heldout_rows: NDArray[np.int64], recipe: Recipe, seed: int, scratch: Path, label: str) -> list[dict[str, Any]]:
    """Train `decoder` in place and leave it with the weights of the lowest held-out text loss.

    captions: token ids per corpus row, empty for rows that are not used. scratch: folder for snapshots. Returns one entry per evaluation:
    step, train and held-out loss.
    Raises `UserError` when the corpus has fewer captions than a batch.
    """
    if len(train_rows) < recipe.batch or len(heldout_rows) == 0:
        raise UserError(f"{len(train_rows)} training and {len(heldout_rows)} held-out sentences are too few for batches of {recipe.batch}: "
                        "lower the recipe's batch, or give a larger corpus")
    device = next(decoder.parameters()).device
    optimiser = torch.optim.AdamW(_groups(decoder, recipe.weight_decay), lr=recipe.learning_rate, betas=(0.9, 0.98))
    run = _Run(decoder, optimiser, scratch / "snapshot.pt")
    run.restore()
    per_epoch = len(train_rows) // recipe.batch
    lengths = np.array([len(ids) for ids in captions])
    heldout = heldout_rows[:_HELDOUT_ROWS]
    running = []
    for step in track(range(run.step, recipe.steps), label, recipe.steps, "steps", done=run.step):
        if step == run.step or step % per_epoch == 0:
            epoch = epoch_batches(train_rows, lengths, recipe.batch, seed, step // per_epoch)
        rows = epoch[step % per_epoch]
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe.steps, recipe.warmup)
        torch.manual_seed(seed * 1_000_003 + step)  # dropout
        decoder.train()
        loss = _loss(method, decoder, corpus, captions, rows, _generator(seed, step), device, recipe.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        running.append(float(loss.detach()))
        if (step + 1) % recipe.evaluate_every == 0 or step + 1 == recipe.steps:
            decoder.eval()
            with torch.inference_mode():
                # the same noise at every evaluation, so that two of them differ by the weights only
                parts = [_loss(method, decoder, corpus, captions, part, _generator(seed, -1), device, 0.0).item() * len(part)
                         for part in np.array_split(heldout, math.ceil(len(heldout) / recipe.batch))]
            run.snapshot(step + 1, {"step": step + 1, "train_loss": round(sum(running) / len(running), 4),
                                    "heldout_loss": round(sum(parts) / len(heldout), 4)})
            running = []
    run.use_best()
    return run.log


def epoch_batches(rows: NDArray[np.int64], lengths: NDArray[np.int64], batch: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """One epoch's batches: every row at most once, rows of like length together, in random order.

    A batch is as long as its longest caption; sorting within random groups of 32 batches halves what is computed for padding.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(rows)[: len(rows) // batch * batch]
    groups = [group[np.argsort(lengths[group], kind="stable")] for group in np.split(order, range(32 * batch, len(order), 32 * batch))]
    batches = np.concatenate(groups).reshape(-1, batch)
    return list(batches[rng.permutation(len(batches))])


def schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


class _Run:
    """Weights, optimiser, log and the best weights so far; saved together, in one rename."""

    def __init__(self, decoder: Decoder, optimiser: torch.optim.Optimizer, path: Path) -> None:
        self.decoder, self.optimiser, self.path = decoder, optimiser, path
        self.step = 0
        self.log: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}

    def restore(self) -> None:
        if not self.path.exists():
            return
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        self.decoder.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.log, self.best = state["step"], state["log"], state["best"]
        print(f"resumed from step {self.step}", file=sys.stderr, flush=True)

    def snapshot(self, step: int, entry: dict[str, Any]) -> None:
        if not (math.isfinite(entry["heldout_loss"]) and math.isfinite(entry["train_loss"])):
            raise UserError(f"training diverged before step {step} (the loss is not a number): lower the recipe's learning_rate")
        if not self.log or entry["heldout_loss"] < min(past["heldout_loss"] for past in self.log):
            self.best = {key: value.detach().cpu().clone() for key, value in self.decoder.state_dict().items()}
        self.step = step
        self.log.append(entry)
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:  # a file of ours, so that a full disk is an OSError
            torch.save({"weights": self.decoder.state_dict(), "optimiser": self.optimiser.state_dict(), "step": step, "log": self.log,
                        "best": self.best}, file)
        partial.replace(self.path)

    def use_best(self) -> None:
        self.decoder.load_state_dict(self.best)


def _loss(method: Method, decoder: Decoder, corpus: Corpus, captions: Sequence[Sequence[int]], rows: NDArray[np.int64],
          generator: torch.Generator, device: torch.device, label_smoothing: float) -> Tensor:
    condition = method.training_condition(corpus, torch.from_numpy(rows).to(device), generator)
    return decoder.loss(condition, pad([captions[row] for row in rows.tolist()]).to(device), label_smoothing)


def _groups(decoder: Decoder, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    parameters = list(decoder.parameters())
    return [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step + 500_000_000)


def train_system(name: str, system: System, params: dict[str, Any], device: torch.device) -> None:
    """Train a system on its corpus and write `data/models/<name>`. Raises `UserError` for missing or foreign artefacts."""
    plan = Plan.of(name, system, params)
    origin = read_origin(paths.text_features(system.clip, system.corpus))
    described = {**asdict(system), "decoder_params": asdict(plan.decoder), "recipe_params": asdict(plan.recipe)}
    described.pop("caption")  # a change of captioning alone does not train again
    pairs = pairs_digest(system, plan.method) if plan.method.uses_pairs else None
    with resumable(paths.model(name), system=described, features=asdict(origin), pairs=pairs, device=device.type,
                   threads=torch.get_num_threads()) as work:
        corpus = training_corpus(plan, params, device)
        decoder, log, cut = fit(plan, corpus, device, work.folder)
        decoder.save(work.output, plan.decoder.mapper)
        write_json(work.output / "log.json", {"cut_captions": cut, "evaluations": log})
        write_json(work.output / "system.json", {
            "name": name, "paper": plan.method.paper, "supervision": plan.method.supervision, **described,
            "clip_digest": origin.clip_digest, "corpus_digest": origin.source_digest, "detector_digest": detector_of(system, plan.method),
            "parameters": sum(p.numel() for p in decoder.parameters()),
            "best_step": min(log, key=lambda entry: entry["heldout_loss"])["step"],
        })


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
        """Raises `UserError` when the system is not one that is trained, or a parameter is wrong."""
        method = make_method(name, system)
        if not method.trains or system.decoder is None or system.recipe is None:
            raise UserError(f"params.yaml: system {name} ({system.method}) needs `decoder` and `recipe`, and a method that is trained")
        decoder = check(DecoderParams, pick(params, f"decoders.{system.decoder}"), f"decoders.{system.decoder}")
        recipe = check(Recipe, pick(params, f"recipes.{system.recipe}"), f"recipes.{system.recipe}")
        return Plan(name, system, method, decoder, recipe)


def training_corpus(plan: Plan, params: dict[str, Any], device: torch.device) -> Corpus:
    """What a system is trained on: its corpus, with synthetic pairs where its method needs them. Raises `UserError` for what is missing."""
    system, method = plan.system, plan.method
    corpus = load_corpus(system.clip, system.corpus, device)
    if not method.uses_pairs:
        return corpus
    tags = method.objects
    encode = label_encoder(load_clip(system.clip, params, device), tags.prompt) if tags else None
    clip_digest = read_origin(paths.text_features(system.clip, system.corpus)).clip_digest
    return replace(corpus, pairs=load_pairs(system.clip, system.corpus, len(corpus.texts), method.train.optimize, method.train.project,
                                            tags.limit if tags else 0, device, encode, clip_digest))


def detector_of(system: System, method: Method) -> str | None:
    """Digest of the detector that tagged the synthetic pictures; None for a method without objects."""
    return str(read_json(paths.synthetic(system.corpus) / "tags.json")["detector_digest"]) if method.objects else None


def pairs_digest(system: System, method: Method) -> list[str]:
    """Digests of the pseudo-features that a system is trained on, and of the pairs and tags that they belong to."""
    sources = [pair_features(system.clip, system.corpus, method.train.optimize, method.train.project), paths.synthetic(system.corpus)]
    return [digest_tree(source) for source in sources]


def _trained_rows(plan: Plan, corpus: Corpus, splits: Sequence[str]) -> NDArray[np.int64]:
    """Rows of the corpus that a system may be trained on, or choose its snapshot by; with pairs, only those that have a picture."""
    rows = choose_rows(splits, plan.recipe.captions)
    if corpus.pairs is None:
        return rows
    asked, wanted = read_json(paths.synthetic(corpus.name) / "report.json")["asked"], plan.recipe.captions or 0
    if asked < min(wanted, len(splits)):
        raise UserError(f"recipe {plan.system.recipe} trains {plan.name} on {wanted} captions, and synthesis.captions is {asked}: "
                        "make them equal in params.yaml")
    return rows[corpus.pairs.pair_of[torch.from_numpy(rows)].cpu().numpy() >= 0]


def fit(plan: Plan, corpus: Corpus, device: torch.device, scratch: Path) -> tuple[Decoder, list[dict[str, Any]], int]:
    """A trained decoder, its log, and how many captions were cut. Snapshots go to `scratch`."""
    splits = np.array(read_table(paths.corpus_table(plan.system.corpus), ["split"])["split"])
    rows = _trained_rows(plan, corpus, splits.tolist())
    torch.manual_seed(plan.system.seed)
    decoder = build(plan.decoder, paths.foundation(plan.system.clip), corpus.features.shape[1], plan.method.prefix_length,
                    plan.method.front(corpus.features.shape[1])).to(device)
    encoded, cut = encode_captions(decoder, [corpus.texts[row] for row in rows], plan.decoder.max_tokens)
    captions: list[list[int]] = [[]] * len(corpus.texts)
    for row, ids in zip(rows.tolist(), encoded, strict=True):
        captions[row] = ids
    log = train(plan.method, decoder, corpus, captions, rows[splits[rows] == "train"], rows[splits[rows] == "heldout"],
                plan.recipe, plan.system.seed, scratch, f"train {plan.name}")
    return decoder, log, cut
