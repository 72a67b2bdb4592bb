"""Variations of systems: trained, captioned and scored in one go, a row of a CSV file each.

A sweep leaves no models behind, only `data/sweeps/<name>.csv`, the per-image CIDEr beside it, and paired comparisons between systems.
A row that is already there, in this sweep's table or another's, is not computed again as long as its fingerprint still fits (parameters,
corpus, CLIP, judge), so an interrupted sweep goes on where it was, and rows of older parameters go.
"""

from __future__ import annotations

import csv
import itertools
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.captioning import Captioner, load_images, require_detector
from pipeline.core import paths
from pipeline.core.device import choose_device
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, digest_of, digest_tree
from pipeline.core.params import StrictParams, check, load, pick
from pipeline.decoders import Decoder, Decoding
from pipeline.evaluation import Split, load_split, score_setting
from pipeline.features.encoders import load_clip
from pipeline.features.indexing import load_corpus
from pipeline.features.stores import read_origin
from pipeline.metrics import bootstrap
from pipeline.metrics.captions import tokenize_pair
from pipeline.synthetic.pairs import label_encoder
from pipeline.systems import EvaluationParams, Setting, System, find_system, make_method
from pipeline.training import Plan, detector_of, fit, pairs_digest, training_corpus

_COLUMNS = ["system", "variant", "seed", "setting", "split", "images", "CIDEr", "CIDEr_low", "CIDEr_high", "CIDEr_shuffled", "CLIPScore",
            "fingerprint"]
_Key = tuple[str, str, str, str]  # the first four columns


@dataclass(frozen=True)
class SweepParams(StrictParams):
    """One entry of `sweeps`.

    systems: names of systems. vary: dotted keys of a system, such as `train.k`, with the values to try; all combinations are run.
    seeds: each variation is trained once per seed. settings: what it is scored in. split: `val` to choose by, `test` to report.
    """

    systems: tuple[str, ...]
    settings: tuple[str, ...]
    vary: dict[str, list[Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    split: str = "test"


@dataclass(frozen=True)
class Variant:
    """One system with one choice of values and one seed; `plan` is what its decoder is trained by, None where there is none."""

    label: str
    system_name: str
    system: System
    plan: Plan | None


def run_sweep(name: str) -> None:
    """Fill `data/sweeps/<name>.csv`. Raises `UserError` for a wrong entry or missing artefacts."""
    params = load()
    sweep = check(SweepParams, pick(params, f"sweeps.{name}"), f"sweeps.{name}")
    table = paths.SWEEPS / f"{name}.csv"
    device = choose_device()
    judge_params = check(EvaluationParams, params.get("evaluation"), "evaluation")
    decoding = check(Decoding, params.get("captioning"), "captioning")
    judge = load_clip(judge_params.judge, params, device)
    decoders: dict[str, Decoder] = {}
    splits: dict[tuple[str, str], Split] = {}
    variants = _variants(sweep, params)
    wanted = {_key(variant, setting): _fingerprint(variant, setting, sweep, params, judge.digest)
              for variant in variants for setting in sweep.settings}
    rows, cider = _finished(table, wanted)
    if len(rows) == len(wanted):
        _write(table, rows, cider)
    else:  # differences that no longer belong to the rows; older rows stay until the first new one is there
        _comparisons(table).unlink(missing_ok=True)
    for variant in variants:
        missing = [setting for setting in sweep.settings if _key(variant, setting) not in rows]
        if not missing:
            continue
        decoder = _decoder(variant, params, decoders, device)
        method = make_method(variant.system_name, variant.system)
        captioner = Captioner(method, decoder, decoding, device)
        tags = method.objects
        encode = label_encoder(load_clip(variant.system.clip, params, device), tags.prompt) if tags else None
        for setting_name in missing:
            setting = replace(check(Setting, pick(params, f"settings.{setting_name}"), f"settings.{setting_name}"), split=sweep.split)
            image_ids, images, clip_digest = load_images(variant.system.clip, setting, tags, encode)
            if tags:
                require_detector(variant.system_name, setting, detector_of(variant.system, method))
            captions = captioner.caption(images, load_corpus(variant.system.clip, setting.support, device, clip_digest),
                                         " ".join(_key(variant, setting_name)))
            where = setting.test, setting.split
            split = splits[where] = splits.get(where) or load_split(judge_params, judge, setting)
            hypotheses = dict(zip(image_ids, captions, strict=True))
            scores, per_image, _ = score_setting(hypotheses, tokenize_pair(hypotheses, split.references), split, judge, judge_params)
            key = _key(variant, setting_name)
            row = [*key, sweep.split, len(image_ids), *(f"{scores[column]:.4f}" for column in _COLUMNS[6:-1]), wanted[key]]
            rows[key] = dict(zip(_COLUMNS, map(str, row), strict=True))
            cider["|".join(key)] = per_image["CIDEr"].astype(np.float32)
            _write(table, {key: rows[key] for key in wanted if key in rows}, cider)
            print(f"{' '.join(key)}: CIDEr {scores['CIDEr']:.1f} [{scores['CIDEr_low']:.1f}, {scores['CIDEr_high']:.1f}], "
                  f"shuffled {scores['CIDEr_shuffled']:.1f}", flush=True)
    if len(sweep.systems) > 1:
        _compare(table, sweep, rows, cider, judge_params)


def _variants(sweep: SweepParams, params: dict[str, Any]) -> list[Variant]:
    variants = []
    for system_name, seed, values in itertools.product(sweep.systems, sweep.seeds, itertools.product(*sweep.vary.values())):
        chosen = dict(zip(sweep.vary, values, strict=True))
        system = _with_values(find_system(system_name, params), chosen, seed)
        label = ", ".join(f"{key}={value}" for key, value in chosen.items())
        variants.append(Variant(label, system_name, system, _plan(system_name, system, params)))
    return variants


def _with_values(system: System, values: dict[str, Any], seed: int) -> System:
    changes: dict[str, Any] = {"seed": seed, "train": dict(system.train), "caption": dict(system.caption)}
    for key, value in values.items():
        part, _, name = key.partition(".")
        if name:
            changes[part][name] = value
        else:
            changes[part] = value
    return replace(system, **changes)


def _plan(name: str, system: System, params: dict[str, Any]) -> Plan | None:
    """A system that reads another's model is captioned with that one, trained with the same seed."""
    if not make_method(name, system).decodes:
        return None
    if system.reads:
        owner = Path(system.reads).name
        return Plan.of(owner, replace(find_system(owner, params), seed=system.seed), params)
    return Plan.of(name, system, params)


def _decoder(variant: Variant, params: dict[str, Any], cache: dict[str, Decoder], device: torch.device) -> Decoder | None:
    if variant.plan is None:
        return None
    system = variant.plan.system
    key = digest_of([system.method, system.corpus, system.clip, system.decoder, system.recipe, system.seed, system.train])
    if key not in cache:
        with tempfile.TemporaryDirectory() as scratch:
            cache[key] = fit(variant.plan, training_corpus(variant.plan, params, device), device, Path(scratch))[0].eval()
    return cache[key]


def _fingerprint(variant: Variant, setting: str, sweep: SweepParams, params: dict[str, Any], judge_digest: str) -> str:
    """What a row depends on: the system and the one it reads, how it is trained, captioned and scored, and on which features."""
    plan, system = variant.plan, variant.system
    where = params["settings"][setting]
    stores: list[Any] = [asdict(read_origin(paths.text_features(system.clip, corpus))) for corpus in (system.corpus, where["support"])]
    stores += [asdict(read_origin(paths.image_features(system.clip, where["test"]))), digest_file(paths.references_table(where["test"]))]
    if plan and plan.method.uses_pairs:
        stores += pairs_digest(system, plan.method)
    if plan and plan.method.objects:
        stores.append(digest_tree(paths.tags(where["test"])))
    return digest_of([asdict(system), asdict(plan.system) if plan else None, asdict(plan.decoder) if plan else None,
                      asdict(plan.recipe) if plan else None, where, sweep.split, params.get("captioning"),
                      params.get("evaluation"), judge_digest, stores])[:16]


def _key(variant: Variant, setting: str) -> _Key:
    return variant.system_name, variant.label, str(variant.system.seed), setting


def _finished(table: Path, wanted: dict[_Key, str]) -> tuple[dict[_Key, dict[str, str]], dict[str, Any]]:
    """Of the rows wanted, with their fingerprints, those that stand in this table or any other, and their CIDEr per image."""
    known: dict[str, tuple[dict[str, str], Any]] = {}
    for file in [table, *sorted(paths.SWEEPS.glob("*.csv"))]:
        cider = _read_cider(file)
        known = {row["fingerprint"]: (row, cider["|".join(key)]) for key, row in _read(file).items() if "|".join(key) in cider} | known
    found = {key: known[fingerprint] for key, fingerprint in wanted.items() if fingerprint in known}
    return ({key: {**row, **dict(zip(_COLUMNS, key, strict=False))} for key, (row, _) in found.items()},
            {"|".join(key): values for key, (_, values) in found.items()})


def _read(table: Path) -> dict[_Key, dict[str, str]]:
    if not table.exists():
        return {}
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != _COLUMNS:  # comparisons, or a table of somebody's own
            return {}
        return {(row["system"], row["variant"], row["seed"], row["setting"]): row for row in reader}


def _read_cider(table: Path) -> dict[str, Any]:
    file = table.with_suffix(".parquet")
    if not file.exists():
        return {}
    columns = pq.read_table(file).to_pydict()
    return {key: np.array(values, np.float32) for key, values in zip(columns["key"], columns["CIDEr"], strict=True)}


def _write(table: Path, rows: dict[_Key, dict[str, str]], cider: dict[str, Any]) -> None:
    """Scores per image first: a row of the table that exists is complete."""
    cider = {"|".join(key): cider["|".join(key)] for key in rows}
    table.parent.mkdir(parents=True, exist_ok=True)
    partial = table.with_suffix(".partial")
    pq.write_table(pa.table({"key": list(cider), "CIDEr": [values.tolist() for values in cider.values()]}), partial)
    partial.replace(table.with_suffix(".parquet"))
    _write_csv(table, _COLUMNS, list(rows.values()))


def _write_csv(table: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    partial = table.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(table)


def _comparisons(table: Path) -> Path:
    return table.with_name(f"{table.stem}-comparisons.csv")


def _compare(table: Path, sweep: SweepParams, rows: dict[_Key, dict[str, str]], cider: dict[str, Any],
             params: EvaluationParams) -> None:
    """Every pair of systems: difference and ratio of CIDEr, seeds averaged per image, with paired 95 % intervals over images."""
    columns = ["setting", "a", "b", "difference", "difference_low", "difference_high", "ratio", "ratio_low", "ratio_high"]
    found = []
    for setting in sweep.settings:
        means = {system: np.mean([cider["|".join(key)] for key in rows if key[0] == system and key[3] == setting], axis=0)
                 for system in sweep.systems}
        for a, b in itertools.permutations(sweep.systems, 2):
            values = [float((means[a] - means[b]).mean()), *bootstrap.paired_interval(means[a], means[b], params.seed, params.samples),
                      *_ratio(means[a], means[b], params)]
            found.append(dict(zip(columns, [setting, a, b, *("" if np.isnan(value) else f"{value:.4f}" for value in values)],
                                  strict=True)))
    _write_csv(_comparisons(table), columns, found)


def _ratio(a: np.ndarray, b: np.ndarray, params: EvaluationParams) -> tuple[float, float, float]:
    """Ratio of the means with its interval; NaN where the denominator may be zero."""
    try:
        return float(a.mean() / b.mean()), *bootstrap.ratio_interval(a, b, params.seed, params.samples)
    except UserError:
        return (float("nan"),) * 3
