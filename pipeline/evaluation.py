"""Scores of one system in every setting that it was run in, as its task scores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from .core import paths
from .core.code import code_digest
from .core.errors import UserError
from .core.files import digest_of, digest_tree, write_json
from .core.params import entries, section
from .core.resume import kept_ledgers
from .core.tables import read_captions
from .features.stores import read_origin
from .metrics import java
from .metrics.judge import EvaluationParams
from .systems import Setting, System, corpora_of, make_method, settings_of
from .tasks import caption
from .tasks.base import Score


def evaluate_system(name: str, system: System, params: dict[str, Any], device: torch.device) -> None:
    """Write scores, also per image, and `data/metrics/<system>.json`: flat, `<setting>.<metric>`, times 100 where papers do.

    Scores of each setting are kept in a ledger, so that one whose captions, references, judge, parameters and code are those of an
    earlier run is not scored again.
    """
    wanted = section(EvaluationParams, params, "evaluation")
    method = make_method(name, system)
    settings = settings_of(system, method, params)
    judged = set()
    for setting in settings.values():
        judged.add(digest := read_origin(paths.image_features(wanted.judge, setting.test)).clip_digest)
        caption.require_another(wanted.judge, digest, system, method, setting)
    scorer = caption.Scorer(wanted, params, device)
    scores: list[Score] = []
    metrics: dict[str, float] = {}
    tested: dict[str, Any] = {}
    with kept_ledgers(paths.scores(name)) as kept:
        for setting_name, setting in settings.items():
            corpora = corpora_of(system, method, setting)
            ledger = kept.open(_fingerprint(name, corpora, system.clip, setting_name, setting, wanted, params))
            if not ledger.done:
                ledger.record("scores", asdict(scorer.score(setting_name, setting, read_captions(name, setting_name), corpora,
                                                           system.clip)))
            found = ledger.done["scores"]
            its = [Score(**score) for score in found["scores"]]
            scores += its
            metrics |= {f"{setting_name}.{metric}": value for metric, value in caption.TASK.wide(its).items()}
            table = {f"{caption.TASK.item}_id": found["ids"], **found["values"]}
            pq.write_table(pa.table(table), kept.folder / paths.scores_file(name, setting_name).name)
            tested[setting_name] = {"dataset": setting.test, "split": setting.split, "support": setting.support, **found["about"]}
        pq.write_table(pa.Table.from_pylist([asdict(score) for score in scores]), kept.folder / paths.scores_table(name).name)
        write_json(kept.folder / "protocol.json",
                   {**caption.protocol(wanted), "judge_digest": ", ".join(sorted(judged)), "settings": tested})
        write_json(paths.metrics(name), metrics)


def _fingerprint(name: str, corpora: Sequence[str], own: str, setting_name: str, setting: Setting, wanted: EvaluationParams,
                 params: dict[str, Any]) -> str:
    """Of all that decides a setting's scores."""
    files = [paths.captions_file(name, setting_name), *caption.scored_with(setting, corpora, own, params), paths.image_table(setting.test),
             paths.image_features(wanted.judge, setting.test), paths.reference_features(wanted.judge, setting.test),
             paths.foundation(wanted.judge)]
    if missing := [file for file in files if not file.exists()]:
        raise UserError(f"{missing[0]} is missing: run `dvc repro`")
    clips = [entries(params, "clips").get(clip) for clip in (wanted.judge, own)]
    return digest_of([[digest_tree(file) for file in files], setting_name, setting.split, asdict(wanted), clips, java.version_text(),
                      code_digest(__name__)])[:16]
