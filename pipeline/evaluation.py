"""Scores of one system in every setting that it was run in, with intervals and the shuffled-image control."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.core.artefacts import again
from pipeline.core.code import code_digest
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, digest_of, digest_tree, write_json
from pipeline.core.params import entries, section
from pipeline.core.paths import ImageSet
from pipeline.core.resume import Ledger, kept_ledgers
from pipeline.core.tables import read_captions, read_table
from pipeline.features.embedding import reference_source
from pipeline.features.encoders import Clip, load_clip
from pipeline.features.stores import half, read, read_origin, unit
from pipeline.methods.base import Method
from pipeline.metrics import bootstrap, captions, clip, java
from pipeline.metrics.judge import EvaluationParams
from pipeline.systems import Setting, System, clip_of, make_method, settings_of


@dataclass(frozen=True)
class Split:
    """The references of a test split, and what the judge sees of it: unit features of the images (N, D) and of all references,
    padded (N, R, D) with their mask (N, R)."""

    references: dict[str, list[str]]
    images: NDArray[np.float32]
    reference_features: NDArray[np.float32]
    reference_mask: NDArray[np.bool_]


def evaluate_system(name: str, system: System, params: dict[str, Any], device: torch.device) -> None:
    """Write `data/metrics/<system>.json` (flat, `<setting>.<metric>`, times 100 where papers do) and per-image scores.

    Scores of each setting are kept in a ledger, so that one whose captions, references, judge, parameters and code are those of an
    earlier run is not scored again.
    """
    wanted = section(EvaluationParams, params, "evaluation")
    method = make_method(name, system)
    settings = settings_of(system, method, params)
    judged = {_judge_digest(system, method, setting, wanted.judge) for setting in settings.values()}
    with kept_ledgers(paths.scores(name)) as kept:
        ledgers = {setting: kept.open(_fingerprint(name, setting, value, wanted, params)) for setting, value in settings.items()}
        missing = {setting: settings[setting] for setting, ledger in ledgers.items() if not ledger.done}
        _score_missing(name, missing, ledgers, wanted, params, device)
        metrics: dict[str, float] = {}
        protocol: dict[str, Any] = {"tokenizer": captions.TOKENIZER, "judge": wanted.judge, "judge_digest": ", ".join(sorted(judged)),
                                    "judge_dtype": "float16 unit rows, float32 products", "judge_prompt": wanted.prompt,
                                    "java": java.version_text(), "settings": {}}
        for setting_name, setting in settings.items():
            found = ledgers[setting_name].done["scores"]
            metrics |= {f"{setting_name}.{metric}": round(value, 4) for metric, value in found["corpus"].items()}
            pq.write_table(pa.table({"image_id": found["image_id"], **found["per_image"]}), kept.folder / f"{setting_name}.parquet")
            protocol["settings"][setting_name] = {"dataset": setting.test, "split": setting.split, "support": setting.support,
                                                  **found["about"]}
        protocol["metrics_digest"] = digest_of(metrics)
        write_json(kept.folder / "protocol.json", protocol)
        write_json(paths.metrics(name), metrics)


def _judge_digest(system: System, method: Method, setting: Setting, judge: str) -> str:
    """Of the judge that looked at a setting's pictures; `UserError` if the system looked, or looked sentences up, with the same CLIP."""
    pictures = ImageSet(setting.test)
    digest = read_origin(pictures.features(judge)).clip_digest
    require_another(judge, digest, system.clip, read_origin(pictures.features(system.clip)).clip_digest)
    if "text" in method.looks_at:
        clip = clip_of(system.looks_up)
        require_another(judge, digest, clip, read_origin(paths.text_features(clip, setting.support)).clip_digest)
    return digest


def require_another(judge: str, judge_digest: str, clip: str, clip_digest: str) -> None:
    """`UserError` if the judge is the CLIP that captions were made with, whatever it is called."""
    if judge_digest == clip_digest:
        raise UserError(f"params.yaml: the judge {judge} has the weights of {clip}, the CLIP of the system that it would score: "
                        "name another in evaluation.judge")


def _score_missing(name: str, settings: dict[str, Setting], ledgers: dict[str, Ledger], wanted: EvaluationParams, params: dict[str, Any],
                   device: torch.device) -> None:
    """Score these settings into their ledgers; with none, nothing is loaded."""
    if not settings:
        return
    hypotheses = {setting_name: read_captions(name, setting_name) for setting_name in settings}
    tokenized: dict[str, captions.Tokenized] = {}
    for setting_name, setting in settings.items():
        references, _ = read_references(setting)
        tokenized[setting_name] = captions.tokenize_pair(hypotheses[setting_name], references)
        tokenized[setting_name].begin_meteor()  # it goes on while the judge is loaded and reads
    judge = load_clip(wanted.judge, params, device)
    splits: dict[tuple[str, str], Split] = {}  # settings that share a test split share its references' features
    for setting_name, setting in settings.items():
        where = setting.test, setting.split
        split = splits[where] = splits.get(where) or load_split(wanted, judge, setting)
        scores, per_image, empty = score_setting(hypotheses[setting_name], tokenized[setting_name], split, judge, wanted)
        ledgers[setting_name].record("scores", {
            "corpus": scores, "image_id": list(split.references), "per_image": {key: values.tolist() for key, values in per_image.items()},
            "about": {"images": len(split.references), "references": sum(map(len, split.references.values())), "empty_captions": empty},
        })


def _fingerprint(name: str, setting_name: str, setting: Setting, wanted: EvaluationParams, params: dict[str, Any]) -> str:
    """Of all that decides a setting's scores."""
    pictures = paths.ImageSet(setting.test)
    files = [paths.captions_file(name, setting_name), paths.references_table(setting.test), pictures.table,
             pictures.features(wanted.judge), paths.reference_features(wanted.judge, setting.test), paths.foundation(wanted.judge)]
    if missing := [file for file in files if not file.exists()]:
        raise UserError(f"{missing[0]} is missing: run `dvc repro`")
    return digest_of([[digest_tree(file) for file in files], setting.split, asdict(wanted), entries(params, "clips").get(wanted.judge),
                      java.version_text(), code_digest(__name__)])[:16]


def score_setting(hypotheses: dict[str, str], tokenized: captions.Tokenized, split: Split, judge: Clip,
                  params: EvaluationParams) -> tuple[dict[str, float], dict[str, NDArray[np.float64]], int]:
    """Every metric of one setting, the per-image scores behind them, (N,) each, in the order of the references, and the number of
    captions without a word.

    Intervals (`CIDEr_low`, `CIDEr_high`) are 95 % bootstrap intervals over images, document frequencies fixed. `CIDEr_shuffled` gives
    the same captions to other images; `CIDEr_above_shuffled_low` is the lower end of the paired interval of the difference.
    """
    scores = captions.score_tokenized(tokenized)
    shuffled = captions.shuffled_cider(tokenized, params.seed)
    judged = _judge(hypotheses, split, judge, params.prompt)
    per_image = {**scores.per_image, "CIDEr_shuffled": shuffled, **judged}
    cider = per_image["CIDEr"]
    low, high = bootstrap.interval(cider, params.seed, params.samples)
    above_low, above_high = bootstrap.paired_interval(cider, shuffled, params.seed, params.samples)
    result = {**scores.corpus, **{metric: float(values.mean()) for metric, values in judged.items()},
              "CIDEr_low": low, "CIDEr_high": high, "CIDEr_shuffled": float(shuffled.mean()),
              "CIDEr_above_shuffled_low": above_low, "CIDEr_above_shuffled_high": above_high}
    return result, per_image, scores.empty


def read_references(setting: Setting) -> tuple[dict[str, list[str]], dict[str, list[int]]]:
    """The references of a setting's test split by image, and their rows in the table."""
    table = read_table(paths.references_table(setting.test), ["image_id", "text", "split"])
    references: dict[str, list[str]] = {}
    rows: dict[str, list[int]] = {}
    for row, (image_id, text, split) in enumerate(zip(table["image_id"], table["text"], table["split"], strict=True)):
        if split == setting.split:
            references.setdefault(image_id, []).append(text)
            rows.setdefault(image_id, []).append(row)
    return references, rows


def load_split(params: EvaluationParams, judge: Clip, setting: Setting) -> Split:
    """What a setting's test split holds. Raises `UserError` when the artefacts do not belong together."""
    references, rows_of = read_references(setting)
    pictures = ImageSet(setting.test)
    store = read(pictures.features(params.judge)).require(judge.digest, digest_file(pictures.table))
    images = read_table(pictures.table, ["image_id", "split"])
    rows = {image_id: row for row, (image_id, split) in enumerate(zip(images["image_id"], images["split"], strict=True))
            if split == setting.split}
    if rows.keys() != references.keys():
        raise UserError(f"{paths.corpus(setting.test)}: images and references of split {setting.split!r} differ: "
                        f"{again(paths.corpus(setting.test))}")
    texts = read(paths.reference_features(params.judge, setting.test)).require(judge.digest, reference_source(setting.test, params.prompt))
    features, mask = clip.pad_references([unit(texts.features[its]) for its in rows_of.values()])
    return Split(references, unit(store.features[[rows[image_id] for image_id in references]]), features, mask)


def _judge(hypotheses: dict[str, str], split: Split, judge: Clip, prompt: str) -> dict[str, NDArray[np.float64]]:
    """CLIPScore and RefCLIPScore (in 0..2.5) and RefCompare (share, 0..1) per image."""
    caption_ND = unit(half(judge.encode_texts([prompt + hypotheses[image_id] for image_id in split.references])))
    clip_score = clip.clip_score(split.images, caption_ND)
    references = split.reference_features, split.reference_mask
    return {"CLIPScore": clip_score, "RefCLIPScore": clip.ref_clip_score(clip_score, caption_ND, *references),
            "RefCompare": clip.ref_compare(split.images, caption_ND, *references)}

