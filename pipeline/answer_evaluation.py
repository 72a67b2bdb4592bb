"""Scores of one system's answers, in every setting that it answered in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .answers import WAYS, AnsweringParams, read_answers
from .core import paths
from .core.files import write_json
from .core.params import section
from .core.resume import finished_folder
from .metrics.judge import EvaluationParams
from .tasks.answer import TASK, Scorer
from .tasks.base import Score


def evaluate_answers(name: str, wanted: AnsweringParams, params: dict[str, Any]) -> None:
    """Write the scores of a system's answers, also per question, and `data/metrics/<system>.answers.json`: flat, `<setting>.<metric>`."""
    scorer = Scorer(section(EvaluationParams, params, "evaluation"))
    scores: list[Score] = []
    metrics: dict[str, float] = {}
    tested: dict[str, Any] = {}
    with finished_folder(paths.answer_scores(name)) as folder:
        for setting_name, setting in wanted.settings.items():
            found = scorer.score(setting_name, setting.test, setting.split, *(read_answers(name, setting_name, way) for way in WAYS))
            scores += found.scores
            metrics |= {f"{setting_name}.{metric}": value for metric, value in TASK.wide(found.scores).items()}
            pq.write_table(pa.table({f"{TASK.item}_id": found.ids, **found.values}), folder / f"{setting_name}.parquet")
            tested[setting_name] = {"dataset": setting.test, "split": setting.split, "support": setting.support, **found.about}
        pq.write_table(pa.Table.from_pylist([asdict(score) for score in scores]), folder / paths.scores_table(name).name)
        write_json(folder / "protocol.json", {"accuracy": "VQA, March 2021", "settings": tested})
    write_json(paths.answer_metrics(name), metrics)
