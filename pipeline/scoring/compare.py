"""`unpaired compare`: two systems that were run, or two files of captions, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..core import paths
from ..core.artefacts import again
from ..core.errors import UserError, printable
from ..core.params import load, section
from ..core.tables import read_captions, read_table
from ..metrics import bootstrap
from ..metrics.judge import EvaluationParams
from ..systems import find_system
from ..tasks.caption import TASK
from .evaluate import WANTED, Evaluated, evaluate, load_pair
from .settings import shared_setting


@dataclass(frozen=True)
class Side:
    """One of the two. captions: by image id. values: by metric (N,), in the order of captions."""

    name: str
    captions: dict[str, str]
    values: Mapping[str, NDArray[Any]]


class Different(NamedTuple):
    """An image with both captions, and the difference of their CIDEr."""

    image_id: str
    difference: float
    a: str
    b: str


@dataclass(frozen=True)
class Compared:
    """A against b. where: the setting, or the file of references. means: of a and b by metric, over images.

    a_better, b_better: the images on which CIDEr differs most, most first; those with equal CIDEr are in neither.
    """

    a: str
    b: str
    where: str
    images: int
    means: dict[str, tuple[float, float]]
    comparisons: tuple[bootstrap.Comparison, ...]
    a_better: tuple[Different, ...]
    b_better: tuple[Different, ...]
    wanted: EvaluationParams


@dataclass(frozen=True)
class Files:
    """How two files of captions are scored, see `evaluate` and `load_pair`."""

    references: Path | None = None
    split: str | None = None
    strip_markers: bool = False


def compare(a: str, b: str, setting: str | None, files: Files, number: int) -> Compared:
    """Compare files where references are named or both are files, systems else.

    Options of the other kind are a `UserError`. setting: of systems. number: images to show of each side.
    """
    if files.references is None and not (Path(a).is_file() and Path(b).is_file()):
        if files != Files():
            raise UserError(f"--split and --strip-markers are of files of captions, which {a} and {b} are not: leave "
                            "them out, or name two files and --references")
        return compare_systems((a, b), setting, number)
    if setting is not None:
        raise UserError(f"--setting {setting} is of systems, but {a} and {b} are scored as files: leave it out")
    return compare_files((Path(a), Path(b)), files, number)


def compare_files(named: tuple[Path, Path], files: Files, number: int) -> Compared:
    """Compare two files of captions of the same images, against the references named, or the ones that both carry."""
    _require_two(named)
    first, second = (evaluate(load_pair(file, files.references, files.split), files.strip_markers) for file in named)
    if first.pair.texts != second.pair.texts:
        raise UserError(f"{named[0]} and {named[1]} carry other references: name one file of them for both by "
                        "--references")
    return _compare(_side(first), _side(second), first.pair.references.source, WANTED, number)


def compare_systems(systems: tuple[str, str], setting: str | None, number: int) -> Compared:
    """Compare two systems by the scores per image that `dvc repro` left.

    setting: one that both share, by default the first.
    """
    _require_two(systems)
    params = load()
    name, _ = shared_setting(systems, setting, params)
    wanted = section(EvaluationParams, params, "evaluation")
    first, second = (_scored(system, name) for system in systems)
    if find_system(systems[0], params).clip != find_system(systems[1], params).clip:
        # cosines of two models are on two scales
        first, second = (replace(side, values={key: its for key, its in side.values.items() if key != "OwnCLIPScore"})
                         for side in (first, second))
    return _compare(first, second, name, wanted, number)


def _require_two(names: tuple[str | Path, str | Path]) -> None:
    if names[0] == names[1]:
        raise UserError(f"{names[0]} against itself: name two")


def _side(found: Evaluated) -> Side:
    return Side(found.pair.captions.source, found.pair.hypotheses, found.per_image)


def _scored(system: str, setting: str) -> Side:
    """A system's captions and scores in a setting, images in the order of sorted ids."""
    file, key = paths.scores_file(system, setting), f"{TASK.item}_id"
    ids = read_table(file, [key])[key]
    metrics = [name for name in pq.read_schema(file).names if name != key]
    table = read_table(file, metrics)
    captions = read_captions(system, setting)
    if captions.keys() != set(ids) or len(captions) != len(ids):
        raise UserError(f"{file} and the captions of {system} are of other images: {again(file)}")
    order = np.argsort(np.array(ids))
    try:
        values = {metric: np.array(table[metric], dtype=np.float64)[order] for metric in metrics}
    except (ValueError, TypeError, pa.ArrowException):
        raise UserError(f"{file} holds something else than numbers: {again(file)}") from None
    return Side(system, {image_id: captions[image_id] for image_id in sorted(ids)}, values)


def _compare(a: Side, b: Side, where: str, wanted: EvaluationParams, number: int) -> Compared:
    if a.captions.keys() != b.captions.keys():
        lacking = min(a.captions.keys() ^ b.captions.keys())
        raise UserError(f"{a.name} and {b.name} are of other images, such as {lacking!r}, which only one of them has: "
                        "run `dvc repro`, or name files of the same images")
    names = [metric.name for metric in TASK.metrics if metric.name in a.values and metric.name in b.values]
    values = {name: bootstrap.known(np.stack([a.values[name], b.values[name]])) for name in names}
    pairs = {name: its for name, its in values.items() if its.size}
    comparisons = tuple(bootstrap.compare(where, name, a.name, b.name, ours, theirs, wanted.seed, wanted.samples)
                        for name, (ours, theirs) in pairs.items())
    means = {name: (float(ours.mean()), float(theirs.mean())) for name, (ours, theirs) in pairs.items()}
    difference = a.values[TASK.primary] - b.values[TASK.primary]
    ids, order = list(a.captions), np.argsort(-difference, kind="stable")
    rows = [Different(ids[i], float(difference[i]), a.captions[ids[i]], b.captions[ids[i]]) for i in order]
    a_better = [row for row in rows if row.difference > 0][:number]
    b_better = [row for row in reversed(rows) if row.difference < 0][:number]
    return Compared(a.name, b.name, where, len(ids), means, comparisons, tuple(a_better), tuple(b_better), wanted)


def as_json(found: Compared) -> dict[str, Any]:
    """All that is known of the comparison."""
    return {
        "a": found.a, "b": found.b, "where": found.where, "images": found.images,
        "metrics": {each.metric: _figures(found, each) for each in found.comparisons},
        "a_better": [row._asdict() for row in found.a_better], "b_better": [row._asdict() for row in found.b_better],
        "interval": {"level": 0.95, "samples": found.wanted.samples, "seed": found.wanted.seed},
    }


def _figures(found: Compared, each: bootstrap.Comparison) -> dict[str, float | bool]:
    names = ("a", "b", "difference", "low", "high")
    figures = (round(figure, 4) for figure in (*found.means[each.metric], *each.difference))
    return {**dict(zip(names, figures, strict=True)), "told_apart": each.told_apart}


def as_text(found: Compared) -> str:
    """What people read in a terminal."""
    lines = [f"a: {found.a}", f"b: {found.b}", f"{found.images:,} images, {found.where}", "",
             f"{'mean over images':18}{'a':>9}{'b':>9}{'a - b':>9}  95 % interval"]
    for each in found.comparisons:
        digits = TASK.metric(each.metric).digits
        a, b = found.means[each.metric]
        difference, low, high = each.difference
        lines.append(f"{each.metric:18}{a:9.{digits}f}{b:9.{digits}f}{difference:+9.{digits}f}  "
                     f"[{low:.{digits}f}, {high:.{digits}f}]{'' if each.told_apart else ', not told apart'}")
    lines += ["", "The interval is over images, which both share, by a bootstrap of "
                  f"{found.wanted.samples:,} samples, seed {found.wanted.seed}; it says nothing of another training.",
              "BLEU-4 and METEOR here are means of sentences' scores, not the figures of the whole."]
    for name, rows in (("a", found.a_better), ("b", found.b_better)):
        lines += ["", f"where {name} has most more {TASK.primary}{':' if rows else ': nowhere'}", *_shown(rows)]
    return "\n".join(map(printable, lines))


def _shown(rows: Sequence[Different]) -> list[str]:
    return [line for row in rows
            for line in (f"{row.image_id}  {row.difference:+.1f}", *(f"  {name}: {text or '(empty)'}"
                                                                     for name, text in (("a", row.a), ("b", row.b))))]
