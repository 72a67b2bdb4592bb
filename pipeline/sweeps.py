"""Variations of systems: trained, captioned and scored in one go, a row of a CSV file each.

A sweep leaves `data/sweeps/<name>.csv`, and its primary metric per item beside it. A row that is already there, in this sweep's table or
another's, is not computed again as long as its fingerprint still fits (parameters, code, corpus, CLIP, judge); an interrupted training goes
on from its snapshot, and a model that `data/models` or another sweep holds is not trained again.
"""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from .captioning import Captioner, decoding_of, digest_of_inputs
from .core import paths
from .core.code import code_digest
from .core.device import choose_device
from .core.errors import UserError
from .core.files import digest_of, digest_tree
from .core.params import Seed, StrictParams, check, load, section
from .core.resume import Ledger, held
from .metrics.judge import EvaluationParams
from .sweep_table import Key, Row, comparisons, read_rows, write_rows
from .systems import Setting, System, corpora_of, distinct, find_system
from .tasks.caption import TASK, Scorer, require_another, scored_with
from .training import Plan, digest_of_learnt, identity, train_model, trained_model


@dataclass(frozen=True)
class SweepParams(StrictParams):
    """One entry of `sweeps`.

    systems: names of systems. vary: dotted keys of a system, such as `train.k`, with the values to try; all combinations are run. `step`
    is one more: the weights of a step that the recipe keeps (`keep_steps`), of all phases together, so that one training gives a curve.
    variants: values that belong together, each a variant, for each combination of `vary` where there is one.
    seeds: each variation is trained once per seed. settings: what it is scored in, by suite and name. split: `val` to choose by, `test`
    to report.
    """

    systems: Annotated[tuple[str, ...], Field(min_length=1)]
    settings: Annotated[tuple[str, ...], Field(min_length=1)]
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]] = field(default_factory=dict)
    variants: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = ({},)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    split: str = "test"


@dataclass(frozen=True)
class Variant:
    """One system with one choice of values and one seed. starts_from: the variant whose model it begins as, where that is a system's.
    step: whose weights it captions with, None for the model's own."""

    values: dict[str, Any]
    plan: Plan
    starts_from: Variant | None
    step: int | None = None

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def system(self) -> System:
        return self.plan.system

    def key(self, setting: str) -> Key:
        """Of its row in a setting."""
        return self.name, json.dumps(self.values), self.system.seed, setting


def run_sweep(name: str) -> None:
    """Fill `data/sweeps/<name>.csv`. Raises `UserError` for a wrong entry, missing artefacts, and if another process fills it."""
    params, device = load(), choose_device()
    wanted = section(SweepParams, params, f"sweeps.{name}")
    with held(paths.sweep(name)) as scratch:
        _Sweep(paths.sweep(name), wanted, params, device, scratch).run()


class _Sweep:
    """A sweep under way: what its rows share is loaded once."""

    def __init__(self, table: Path, sweep: SweepParams, params: dict[str, Any], device: torch.device, scratch: Path) -> None:
        self.table, self.sweep, self.params, self.device, self.scratch = table, sweep, params, device, scratch
        self.evaluation = section(EvaluationParams, params, "evaluation")
        self.settings = {name: replace(section(Setting, params, f"settings.{name}"), split=sweep.split) for name in sweep.settings}
        if twice := {key for together in sweep.variants for key in together} & sweep.vary.keys():
            raise UserError(f"params.yaml: a sweep has {min(twice)} both in vary and in variants: name it in one of them")
        self.variants = [variant_for(name, {**together, **dict(zip(sweep.vary, values, strict=True))}, seed, params)
                         for name, seed, together, values in
                         itertools.product(sweep.systems, sweep.seeds, sweep.variants, itertools.product(*sweep.vary.values()))]
        self.scorer = Scorer(self.evaluation, params, device)

    def run(self) -> None:
        """Compute what is missing, row by row."""
        wanted = {variant.key(name): fingerprint(variant, setting, self.params, self.scorer.judge.digest)
                  for variant in self.variants for name, setting in distinct(self.settings, variant.plan.method).items()}
        rows = finished(self.table, wanted)
        if len(rows) == len(wanted):  # older rows stay until the first new one is there
            write_rows(self.table, list(rows.values()), TASK)
        for variant in self.variants:
            if missing := [name for name in self.settings if variant.key(name) in wanted and variant.key(name) not in rows]:
                captioner = Captioner(variant.name, variant.system, self.device, self._model(variant), variant.step)
                for setting in missing:
                    key = variant.key(setting)
                    rows[key] = self._row(variant, captioner, setting, wanted[key])
                    write_rows(self.table, [rows[key] for key in wanted if key in rows], TASK)
                    _print(rows[key])
        for pair in comparisons(list(rows.values()), TASK, self.evaluation):
            print("{0.setting}, {0.metric}: {0.a} - {0.b} = {1:.{4}f} [{2:.{4}f}, {3:.{4}f}]".format(
                pair, *pair.difference, TASK.metric(pair.metric).digits))

    def _model(self, variant: Variant) -> Path:
        """The folder of a variant's model, trained if it has to be."""
        if not variant.plan.trains:
            return self._model(variant.starts_from) if variant.starts_from else paths.model(variant.name)
        if found := trained_model(variant.plan, self.device):
            return found
        folder = paths.WORK / "sweeps" / identity(variant.plan, self.device)[:16]  # there only when it is complete
        if not folder.exists():
            train_model(variant.plan, folder, self.device)
        return folder

    def _row(self, variant: Variant, captioner: Captioner, name: str, fingerprint: str) -> Row:
        setting, label = self.settings[name], " ".join(map(str, variant.key(name)))
        require_another(self.evaluation.judge, self.scorer.judge.digest, variant.system, variant.plan.method, setting)
        ledger = Ledger(self.scratch / f"{fingerprint}.jsonl")
        captions = captioner.caption_setting(setting, decoding_of(setting, self.params), ledger, label)
        scored = self.scorer.score(name, setting, captions, corpora_of(variant.system, variant.plan.method, setting), variant.system.clip)
        ledger.file.unlink()
        return Row(*variant.key(name), setting.split, len(captions), {score.metric: score for score in scored.scores}, fingerprint,
                   {metric: np.array(scored.values[metric], np.float32) for metric in TASK.per_item if metric in scored.values})


def variant_for(name: str, values: dict[str, Any], seed: int, params: dict[str, Any]) -> Variant:
    """A system with other values, by dotted key, and another seed; so is the system that it starts from, but for the values."""
    system = _with_values(find_system(name, params), {key: value for key, value in values.items() if key != "step"}, seed)
    start, _, owner = system.starts_from.partition("/")
    return Variant(values, Plan.of(name, system, params), variant_for(owner, {}, seed, params) if start == "models" else None,
                   _step(values))


def _step(values: dict[str, Any]) -> int | None:
    """Whose weights are wanted, None for the best ones."""
    step = values.get("step")
    if step is not None and (type(step) is not int or step < 0):
        raise UserError(f"params.yaml: a sweep's step is {step!r}: name whole numbers, or null for the weights that the model keeps")
    return step


def _with_values(system: System, values: dict[str, Any], seed: int) -> System:
    changes: dict[str, Any] = {"seed": seed, "train": dict(system.train), "caption": dict(system.caption)}
    for key, value in values.items():
        part, _, name = key.partition(".")
        if name and part in ("train", "caption"):
            changes[part][name] = value
        elif not name and part in System.__dataclass_fields__:
            changes[part] = value
        else:
            raise UserError(f"params.yaml: a sweep varies {key!r}, which is no key of a system: name train.<key>, caption.<key>, step or "
                            f"one of {', '.join(System.__dataclass_fields__)}")
    return check(System, {**asdict(system), **changes}, "sweeps")


def fingerprint(variant: Variant, setting: Setting, params: dict[str, Any], judge: str) -> str:
    """What a row depends on: code, the system and the one it starts from, how it is trained, captioned and scored, on which features.

    judge: its digest.
    """
    plan = variant.plan
    start = fingerprint(variant.starts_from, setting, params, judge) if variant.starts_from else None
    return digest_of([
        code_digest(__name__, type(plan.method).__module__), start, asdict(plan.system), asdict(plan.decoder), plan.language_model,
        asdict(plan.recipe), asdict(setting), asdict(decoding_of(setting, params)), params.get("evaluation"), judge,
        digest_of_learnt(plan) if plan.method.trains else None, digest_of_inputs(plan.system, plan.method, setting), variant.step,
        [digest_tree(path) for path in scored_with(setting, corpora_of(plan.system, plan.method, setting), plan.system.clip, params)],
    ])[:16]


def finished(table: Path, wanted: dict[Key, str]) -> dict[Key, Row]:
    """Of the rows wanted, with their fingerprints, those that stand complete in this table or any other."""
    known: dict[str, Row] = {}
    for file in [table, *sorted(table.parent.glob("*.csv"))]:
        with suppress(UserError):  # damaged or of an older layout: its rows are computed again
            known = {row.fingerprint: row for row in read_rows(file, TASK) if row.items} | known
    return {key: replace(known[fingerprint], system=key[0], variant=key[1], seed=key[2], setting=key[3])
            for key, fingerprint in wanted.items() if fingerprint in known}


def _print(row: Row) -> None:
    found = row.scores[TASK.primary]
    print(f"{row.system} {row.variant} {row.seed} {row.setting}: {TASK.primary} {found.value:.1f} [{found.low:.1f}, {found.high:.1f}], "
          f"{', '.join(f'{name} {row.scores[name].value:.1f}' for name in TASK.controls if name in row.scores)}", flush=True)
