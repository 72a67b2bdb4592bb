"""What the report shows, gathered from the artefacts of the other stages into frozen data classes.

Scores keep their artefacts' units. Everything here raises `UserError` for an artefact that is missing or does not fit the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..core import paths
from ..core.artefacts import again, whole
from ..core.errors import UserError
from ..core.files import digest_of, read_json, read_object
from ..core.params import entries, section
from ..core.tables import read_captions, read_table
from ..features.frames import FrameParams
from ..methods import find_method
from ..methods.base import Supervision
from ..metrics.bootstrap import Comparison, compare
from ..metrics.judge import EvaluationParams
from ..sweep_table import Row
from ..systems import Setting, System, find_system, make_method, settings_of
from ..tasks.base import Score
from ..tasks.caption import TASK, read_references
from .questions import Answered, gather_answers
from .sweeps import Sweep, not_above, over_seeds, read_tables, sweep_of
from .synthetic import Synthetic, gather_synthetic

_PROTOCOL = {"tokenizer": "Tokenizer", "judge": "Judge", "judge_dtype": "Judge's numbers", "judge_prompt": "Judge's prompt",
             "java": "Java"}


@dataclass(frozen=True)
class RunSystem:
    """A system, its method's paper and supervision, and how its training went.

    model: content of its system.json, empty for a system that is not trained itself. evaluations: of
    the last phase: step, train_loss, and the score that chose the weights under its name.
    """

    name: str
    system: System
    paper: str
    supervision: str
    model: dict[str, Any]
    evaluations: tuple[dict[str, Any], ...]

    @property
    def method_params(self) -> dict[str, Any]:
        """The method's own parameters, of training and of captioning."""
        return {**self.system.train, **self.system.caption}


@dataclass(frozen=True)
class Result:
    """One system in one setting.

    scores: by metric, means over the seeds that it was trained with, intervals over seeds and images. by_seed: the primary metric of each
    seed. kept: what the task keeps of each image, by metric (S, N). items (the primary metric) and captions: of the run's own seed, by
    image id. empty: captions without a word. constant: the sentence of that control.
    """

    system: RunSystem
    scores: dict[str, Score]
    by_seed: dict[int, float]
    kept: dict[str, NDArray[np.float32]]
    items: dict[str, float]
    captions: dict[str, str]
    empty: int
    constant: str

    @property
    def not_above(self) -> tuple[str, ...]:
        """The controls that it is not shown to beat."""
        return not_above(self.scores, TASK)


@dataclass(frozen=True)
class SettingResults:
    """One setting: results by the primary metric, lowest first, and the systems that it does not apply to.

    leads: whether it is its suite's first. references and files (path below the raw folder): by image id, of the tested split. frames: that
    a video is shown by.
    """

    name: str
    leads: bool
    setting: Setting
    results: tuple[Result, ...]
    absent: tuple[RunSystem, ...]
    references: dict[str, list[str]]
    files: dict[str, str]
    frames: int

    @property
    def best(self) -> Result | None:
        """The system that is highest there; None when no system was run."""
        return self.results[-1] if self.results else None

    @property
    def by_supervision(self) -> dict[str, list[Result]]:
        """Results by what systems learn from, of each kind the best first."""
        return {kind: its for kind in get_args(Supervision)
                if (its := [result for result in reversed(self.results) if result.system.supervision == kind])}

    @property
    def in_groups(self) -> list[Result]:
        """The same, one group behind another."""
        return [result for its in self.by_supervision.values() for result in its]


@dataclass(frozen=True)
class LanguageModel:
    """A language model of our own that systems are given. systems: their names. figures: on held-out texts, by style. samples: what it
    writes by itself."""

    name: str
    systems: tuple[str, ...]
    figures: dict[str, dict[str, float]]
    samples: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    datasets: extraction reports by name. protocol: label and what it was, by system where they differ. synthetic: None where nothing was
    drawn. frames: that a video is shown by.
    """

    systems: tuple[RunSystem, ...]
    settings: tuple[SettingResults, ...]
    differences: tuple[tuple[Comparison, ...], ...]
    protocol: tuple[tuple[str, str], ...]
    datasets: dict[str, dict[str, Any]]
    synthetic: Synthetic | None
    language_models: tuple[LanguageModel, ...]
    answered: tuple[Answered, ...]
    sweeps: tuple[Sweep, ...]
    seed: int
    frames: int


def gather(params: dict[str, Any]) -> Report:
    """Read every artefact that the report shows."""
    evaluation = section(EvaluationParams, params, "evaluation")
    systems = tuple(_run_system(name, find_system(name, params)) for name in entries(params, "systems"))
    suites = entries(params, "settings")
    tables = read_tables(paths.SWEEPS, TASK)
    settings = tuple(_setting(suite, name, section(Setting, params, f"settings.{suite}.{name}"), systems, tables, params)
                     for suite in suites for name in entries(suites, suite))
    extracted = {run.system.corpus for run in systems} | {dataset for s in settings for dataset in (s.setting.test, s.setting.support)}
    datasets = sorted(extracted - {*map(paths.drawn, entries(params, "synthesis").get("corpora") or ())})
    return Report(systems, settings, _differences(settings, evaluation), _protocol(settings),
                  {name: read_json(whole(paths.corpus(name) / "report.json")) for name in datasets},
                  gather_synthetic(params), _language_models(systems, params), gather_answers(params, evaluation.seed),
                  tuple(sweep_of(name, rows, TASK, evaluation) for name, rows in tables.items()), evaluation.seed,
                  section(FrameParams, params, "frames").count)


def _language_models(systems: Iterable[RunSystem], params: dict[str, Any]) -> tuple[LanguageModel, ...]:
    """Those that systems' decoders name, as far as their folders say what they write."""
    given: dict[str, list[str]] = {}
    for run in systems:
        if name := (params.get("decoders", {}).get(run.system.decoder) or {}).get("pretrained"):
            given.setdefault(name, []).append(run.name)
    found = []
    for name, its in given.items():
        about = Path(name) / "provenance.json"
        figures = read_object(about).get("figures", {}) if about.exists() else {}
        if samples := figures.pop("samples", ()):
            found.append(LanguageModel(name, tuple(its), figures, tuple(samples)))
    return tuple(found)


def _run_system(name: str, system: System) -> RunSystem:
    method = find_method(system.method)
    curve, about = read_json(paths.curve(name)), read_json(whole(paths.model(name) / "system.json"))
    if digest_of(curve) != about["curve_digest"]:
        raise UserError(f"{paths.curve(name)} is not as it was made: run `dvc repro --force --single-item train@{name}`")
    last = tuple(entry for entry in curve if entry["phase"] == curve[-1]["phase"])
    return RunSystem(name, system, method.paper, method.supervision, about if curve else {}, last)


def _setting(suite: str, name: str, setting: Setting, systems: tuple[RunSystem, ...], tables: dict[str, list[Row]],
             params: dict[str, Any]) -> SettingResults:
    tested = [run for run in systems if run.system.suite == suite]
    applies = [run for run in tested if name in settings_of(run.system, make_method(run.name, run.system), params)]
    evaluation = section(EvaluationParams, params, "evaluation")
    references, _ = read_references(setting)
    found = [_result(run, name, setting, list(references), _seeds(run, f"{suite}.{name}", setting.split, tables), evaluation)
             for run in applies]
    results = sorted(found, key=lambda result: (result.scores[TASK.primary].value, result.system.name))
    images = read_table(paths.image_table(setting.test), ["image_id", "path", "split"])
    files = {image_id: path for image_id, path, split in zip(images["image_id"], images["path"], images["split"], strict=True)
             if split == setting.split}
    for result in results:
        if not result.captions.keys() == references.keys() == files.keys():
            raise _foreign(result.system.name, name, setting)
    absent = tuple(run for run in tested if run not in applies)
    shown = name if len(params["settings"]) == 1 else f"{name} ({suite})"
    leads = name == next(iter(entries(entries(params, "settings"), suite)))
    return SettingResults(shown, leads, setting, tuple(results), absent, references, files, section(FrameParams, params, "frames").count)


def _foreign(system: str, name: str, setting: Setting) -> UserError:
    return UserError(f"{paths.scores_file(system, name)}, its captions and {paths.corpus(setting.test)} hold different images: "
                     f"{again(paths.scores(system))}")


def _result(run: RunSystem, setting: str, tested: Setting, ids: list[str], of_seeds: dict[str, list[Row]],
            evaluation: EvaluationParams) -> Result:
    name, protocol = run.name, read_object(whole(paths.scores(run.name) / "protocol.json"))
    long = read_table(paths.scores_table(name), [column.name for column in fields(Score)])
    scores = {score.metric: score for score in map(Score, *long.values()) if score.setting == setting}
    if TASK.primary not in scores:
        raise UserError(f"{paths.scores_table(name)} has no {setting}.{TASK.primary}: it is of another run than params.yaml; "
                        f"{again(paths.scores(name))}")
    known = [metric for metric in TASK.per_item if metric in scores]
    table = read_table(paths.scores_file(name, setting), ["image_id", *known])
    row_of = {image_id: row for row, image_id in enumerate(table["image_id"])}
    if row_of.keys() != set(ids):
        raise _foreign(name, setting, tested)
    order = [row_of[image_id] for image_id in ids]
    kept = {metric: np.array(table[metric], np.float32)[order] for metric in known}
    own = Row(name, "{}", run.system.seed, setting, tested.split, len(ids), scores, "", kept)
    rows = sorted([own, *_other_seeds(own, of_seeds)], key=lambda row: row.seed)
    about = protocol["settings"][setting]
    return Result(run, over_seeds(rows, TASK, evaluation) if len(rows) > 1 else scores,
                  {row.seed: row.scores[TASK.primary].value for row in rows},
                  {metric: np.stack([row.items[metric] for row in rows]) for metric in known if all(metric in row.items for row in rows)},
                  dict(zip(table["image_id"], table[TASK.primary], strict=True)), read_captions(name, setting),
                  int(about["empty_captions"]), str(about.get("constant", "")))


def _seeds(run: RunSystem, setting: str, split: str, tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Of each sweep, the rows of the system as it stands in params.yaml, in a setting and its split."""
    return {name: [row for row in rows if (row.system, row.variant, row.setting, row.split) == (run.name, "{}", setting, split)]
            for name, rows in tables.items()}


def _other_seeds(own: Row, of_seeds: dict[str, list[Row]]) -> list[Row]:
    """The rows of a sweep that holds this very result too, of the one with most: where the row of the same seed differs, the sweep was made
    of other models, or scored otherwise. Rows that are like the own one in every caption's score are of the same model: nothing is
    trained there."""
    def alike(row: Row, names: Iterable[str]) -> bool:
        return all(name in row.items and np.array_equal(row.items[name], own.items[name], equal_nan=True) for name in names)

    def same(row: Row) -> bool:
        plain = [name for name in own.scores if name not in TASK.margins]
        return alike(row, own.items) and all(name in row.scores and row.scores[name].value == own.scores[name].value for name in plain)

    found = [[row for row in rows if row.seed != own.seed and row.items.keys() >= own.items.keys() and not alike(row, own.items)]
             for rows in of_seeds.values() if any(row.seed == own.seed and same(row) for row in rows)]
    return max(found, key=len, default=[])


def _protocol(settings: tuple[SettingResults, ...]) -> tuple[tuple[str, str], ...]:
    """Label and value; where systems were scored under different protocols, each value names its systems."""
    names = sorted({result.system.name for setting in settings for result in setting.results})
    protocols = {name: read_object(whole(paths.scores(name) / "protocol.json")) for name in names}
    rows = []
    for key, label in _PROTOCOL.items():
        users: dict[str, list[str]] = {}
        for name in names:
            users.setdefault(str(protocols[name].get(key, "—")) or "none", []).append(name)
        if len(users) == 1:
            rows.append((label, next(iter(users))))
        rows += [(label, f"{value} ({', '.join(of)})") for value, of in users.items() if len(users) > 1]
    return tuple(rows)


def _differences(settings: tuple[SettingResults, ...], evaluation: EvaluationParams) -> tuple[tuple[Comparison, ...], ...]:
    """The first setting's best system against each other one, the nearest first, by each metric that has an interval."""
    if not settings or settings[0].best is None:
        return ()
    first = settings[0]
    *others, best = first.results
    metrics = [metric for metric in best.kept if metric not in TASK.controls and all(metric in other.kept for other in others)]
    return tuple(tuple(compare(first.name, metric, best.system.name, other.system.name, best.kept[metric], other.kept[metric],
                               evaluation.seed, evaluation.samples) for metric in metrics) for other in reversed(others))
