"""Training a system: what decides its model, what it is trained on, and the artefact that comes of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from .core import paths
from .core.artefacts import whole, whole_if_sealed
from .core.code import code_digest
from .core.device import resolved
from .core.errors import UserError
from .core.files import digest_file, digest_model, digest_of, digest_tree, read_json, write_json
from .core.params import section
from .core.resume import finished_folder, resumable
from .core.tables import read_table
from .corpus.choosing import choose_rows
from .features.stores import read_origin
from .language.decoders import Decoder, DecoderParams, build, load
from .methods.base import Method
from .methods.phases import Recipe, Trainer, kept_steps
from .needs.base import Inputs, models_of, read
from .needs.pairs import Pairs
from .systems import System, make_method


def encode_captions(decoder: Decoder, texts: Sequence[str], max_tokens: int) -> tuple[list[list[int]], int]:
    """Start token, caption, end token for each text, and how many captions were cut to `max_tokens`."""
    rows, cut = [], 0
    for text in texts:
        ids = decoder.encode(text)
        cut += len(ids) > max_tokens
        rows.append([decoder.tokenizer.start, *ids[:max_tokens], decoder.tokenizer.end])
    return rows, cut


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
    needs, clip, corpus = plan.method.learns_from, plan.system.clip, plan.system.corpus
    with resumable(target, __name__, type(plan.method).__module__, identity=identity(plan, device)) as work:
        decoder, log, best_step, cut = fit(plan, read(needs, clip, corpus).to(device), device, work.folder)
        decoder.save(work.output, _width(plan), plan.decoder.mapper)
        for step, weights in kept_steps(work.folder).items():
            decoder.load_state_dict(load_file(weights), strict=False)
            folder = paths.model_of_step(work.output, step)
            folder.mkdir(parents=True, exist_ok=True)
            decoder.save(folder, _width(plan), plan.decoder.mapper)
        write_json(work.output / "system.json", {
            **plan.card, "models": models_of(needs, clip, corpus).digests, "corpus_digest": digest_file(paths.corpus_table(corpus)),
            "parameters": sum(p.numel() for p in decoder.parameters()), "cut_captions": cut, "curve_digest": digest_of(log),
            "best_step": best_step,
        })
    return log


def trained_model(plan: Plan, device: torch.device) -> Path | None:
    """The folder below data/models that holds just this model, trained by this code on these inputs; None where there is none."""
    memo, folder = paths.trained(plan.name), paths.model(plan.name)
    if not memo.exists() or not folder.exists():
        return None
    return folder if read_json(memo) == {"identity": identity(plan, device), "model": digest_tree(folder)} else None


def identity(plan: Plan, device: torch.device) -> str:
    """Digest of everything that decides a model's bytes."""
    start = _start(plan)
    return digest_of([plan.card, digest_of_learnt(plan), digest_tree(start), plan.language_model, device.type,
                      resolved(plan.recipe.precision, device, "bfloat16"), torch.get_num_threads(),
                      code_digest(__name__, type(plan.method).__module__)])


def digest_of_learnt(plan: Plan) -> list[list[str]]:
    """Of everything that a system is trained on."""
    return [need.digest(plan.system.clip, plan.system.corpus) for need in plan.method.learns_from]


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
            write_json(folder / "system.json", {**plan.card, "models": {}, "curve_digest": digest_of([])})
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
        plan = Plan(name, system, make_method(name, system), section(DecoderParams, params, f"decoders.{system.decoder}"),
                    section(Recipe, params, f"recipes.{system.recipe}"))
        given = Path(plan.decoder.pretrained or "")
        if given.parts[:2] == (paths.DATA / "foundation").parts and system.starts_from not in ("/".join(given.parts[1:]), *_models(system)):
            raise UserError(f"params.yaml: systems.{name}.starts_from is {system.starts_from!r}, and its decoder is given {given}: name "
                            f"{'/'.join(given.parts[1:])} there, so that DVC watches it")
        return plan

    @property
    def language_model(self) -> str | None:
        """Digest of the one that its decoder names, where that lies in a folder."""
        name = self.decoder.pretrained
        return digest_model(Path(name)) if name and Path(name).is_dir() else None

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


def _models(system: System) -> tuple[str, ...]:
    """What a system starts from, if that is another one's model."""
    return (system.starts_from,) if system.starts_from.startswith("models/") else ()


def _width(plan: Plan) -> int:
    """D of what is learnt from."""
    first = plan.method.learns_from[0].parts[0]
    return read_origin(first.folders(plan.system.clip, plan.system.corpus)[0]).width


def _trained_rows(plan: Plan, corpus: Inputs, splits: Sequence[str]) -> NDArray[np.int64]:
    """Rows of the corpus that a system may be trained on, or choose its snapshot by; with pairs, only those that have a picture."""
    rows = choose_rows(splits, plan.recipe.captions)
    if not any(isinstance(need, Pairs) for need in plan.method.learns_from):
        return rows
    wanted = plan.recipe.captions or 0
    asked = read_json(whole(paths.corpus(plan.system.corpus) / "report.json")).get("asked", wanted)  # only drawn pictures were asked for
    if asked < min(wanted, len(splits)):
        raise UserError(f"recipe {plan.system.recipe} trains {plan.name} on {wanted} captions, and synthesis.captions is {asked}: "
                        "make them equal in params.yaml")
    return rows[corpus.of(Pairs).picture_of[torch.from_numpy(rows)].cpu().numpy() >= 0]


def fit(plan: Plan, corpus: Inputs, device: torch.device, scratch: Path) -> tuple[Decoder, list[dict[str, Any]], int, int]:
    """A trained decoder, its log, the step that its weights are of, and how many captions were cut. Snapshots go to `scratch`."""
    table = read_table(paths.corpus_table(plan.system.corpus), ["text", "split"])
    splits = np.array(table["split"])
    rows = _trained_rows(plan, corpus, splits.tolist())
    torch.manual_seed(plan.system.seed)
    start = _start(plan)
    if (start / "decoder.json").exists():  # another system's model
        decoder = load(start, device, plan.method.mapper).requires_grad_(True)
    else:
        decoder = build(plan.decoder, start, _width(plan), plan.method.prefix_length, plan.method.mapper).to(device)
    encoded, cut = encode_captions(decoder, [table["text"][row] for row in rows], plan.decoder.max_tokens)
    captions: list[list[int]] = [[]] * len(splits)
    for row, ids in zip(rows.tolist(), encoded, strict=True):
        captions[row] = ids
    trainer = Trainer(plan.method.training_condition, decoder, corpus, captions, rows[splits[rows] == "train"],
                      rows[splits[rows] == "heldout"], plan.recipe, plan.system.seed)
    log, best_step = trainer.train(plan.method.phases(trainer), scratch, f"train {plan.name}")
    return decoder, log, best_step, cut
