"""`unpaired evaluate`: captions of anybody's file, scored by what the pipeline's stage `evaluate` is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..core.errors import UserError, printable
from ..metrics import captions, java, spice
from ..metrics.judge import EvaluationParams
from ..tasks import caption
from ..tasks.base import Metric, Score
from .files import Pair, pair, read_captions, read_references
from .markers import count_markers, without_markers
from .truth import Record, truth

# Seed and samples are those of params.yaml as shipped: files are scored alike wherever this runs.
WANTED = EvaluationParams(judge="")

SPICE = Metric("SPICE", interval=True,
               meaning="Agreement with the references in objects, attributes and relations, synonyms included.")
TASK = replace(caption.TASK, metrics=tuple(each for metric in caption.TASK.metrics
                                           for each in ((metric, SPICE) if metric.name == "CIDEr" else (metric,))))
"""The pipeline's, and SPICE behind CIDEr: no stage may wait for what only some have installed."""


@dataclass(frozen=True)
class Evaluated:
    """Scores of one file of captions.

    scores: as the stage has them. per_image: by metric (N,), in the order of pair.texts. empty: captions without a
    word. markers, reference_markers: how often each occurs. stripped: whether they were taken out before.
    """

    pair: Pair
    scores: tuple[Score, ...]
    per_image: Mapping[str, NDArray[Any]]
    empty: int
    markers: dict[str, int]
    reference_markers: dict[str, int]
    stripped: bool

    @property
    def references(self) -> int:
        """How many there are."""
        return sum(map(len, self.pair.texts.values()))

    @property
    def split(self) -> str | None:
        """The split of the references, if they say one; several where captions carry references of several."""
        splits = dict.fromkeys(item.split for item in self.pair.references.items)
        return ", ".join(split for split in splits if split is not None) or None


def load_pair(file: Path, references: Path | None, split: str | None) -> Pair:
    """A file of captions beside its references, the file's own ones where no other is named."""
    found = read_captions(file)
    if references is not None:
        return pair(found, read_references(references, split))
    if split is not None:
        raise UserError(f"--split {split} is of a file of references: name that by --references")
    if found.own is None:
        raise UserError(f"{file} ({found.kind}) carries no references: name a file of them by --references")
    return pair(found, found.own)


def evaluate(found: Pair, strip_markers: bool = False, with_spice: bool = False, record: Record | None = None) -> Evaluated:
    """Score captions as they stand, or, both sides, without models' markers.

    The order is that of sorted ids, whatever that of the files: another order has another control and interval. The
    control, other images' captions, takes two images. SPICE, where asked for, has to be installed. record: what the images
    show, for CHAIR.
    """
    hypotheses, references = dict(found.hypotheses), dict(found.texts)
    markers = count_markers(hypotheses.values())
    of_references = count_markers(text for texts in references.values() for text in texts)
    if strip_markers:
        hypotheses = {image_id: without_markers(text) for image_id, text in hypotheses.items()}
        references = {image_id: list(map(without_markers, texts)) for image_id, texts in references.items()}
    tokenized = captions.tokenize_pair(hypotheses, references, markers=True)
    extra = {SPICE.name: spice.spice(tokenized)} if with_spice else {}
    scored = captions.score_tokenized(tokenized)
    values = scored.per_image | extra
    if len(references) > 1:
        values[TASK.controls[0]] = captions.shuffled_cider(tokenized, WANTED.seed)
    pooled = scored.corpus
    if record:
        its = truth(found, tokenized, record)
        values, pooled = values | its.per_image, pooled | its.corpus
    scores = TASK.scores(found.captions.source, pooled, values, WANTED)
    return Evaluated(found, scores, values, scored.empty, markers, of_references, strip_markers)


def as_table(several: Sequence[Evaluated]) -> str:
    """Several files, a row each and CIDEr's interval behind; what is said of how they were scored stands once where it is the same."""
    known = {metric.name for metric in TASK.metrics}
    names = list(dict.fromkeys(score.metric for found in several for score in found.scores if score.metric in known))
    width = max(len(found.pair.captions.source) for found in several)
    lines = [" ".join([f"{'':{width}}", *(f"{name:>{max(len(name), 7)}}" for name in names)])]
    for found in several:
        said = {name: (value, between) for name, value, between in rows(found)}
        figures = (f"{said.get(name, ('-', ''))[0]:>{max(len(name), 7)}}" for name in names)
        lines.append(" ".join([f"{found.pair.captions.source:{width}}", *figures, f" {TASK.primary} {said[TASK.primary][1]}"]))
    facts = [{"scored": counted(found), **protocol(found)} for found in several]
    shared = {what: text for what, text in facts[0].items() if all(other.get(what) == text for other in facts)}
    own = [f"{found.pair.captions.source}: {what}: {text}" for found, said_of in zip(several, facts, strict=True)
           for what, text in said_of.items() if what not in shared and what != "captions"]
    return "\n".join(map(printable, [*lines, "", *own, *(f"{what}: {text}" for what, text in shared.items())]))


def protocol(found: Evaluated) -> dict[str, str]:
    """How captions were scored, by what is said of it."""
    said = {"captions": f"{found.pair.captions.source}: {found.pair.captions.kind}",
            "references": f"{found.pair.references.source}: {found.pair.references.kind}, images by {found.pair.ids!r}"}
    if found.split:
        said["split"] = found.split
    if others := found.pair.references.others:
        said["left out"] = f"references of {others:,} images of other splits"
    markers = "taken out" if found.stripped else "scored as words; --strip-markers takes them out"
    for side, counts in (("captions", found.markers), ("references", found.reference_markers)):
        if counts:
            listed = ", ".join(f"{marker} ({count:,})" for marker, count in list(counts.items())[:10])
            said[f"markers in {side}"] = f"{listed}{', ...' if len(counts) > 10 else ''}: {markers}"
    if len(found.pair.texts) == 1:
        said["note"] = "CIDEr of one image is 0, whatever its caption: its weights come from what sets images apart"
    if SPICE.name in found.per_image:
        said[SPICE.name] = spice.PROTOCOL
    return said | {"interval": f"95 %, over images alone, bootstrap of {WANTED.samples:,} samples, seed {WANTED.seed}",
                   "tokenizer": captions.PLAIN_TOKENIZER, "Java": java.version_text()}


def as_json(found: Evaluated) -> dict[str, Any]:
    """All that is known of the scores, with those of every image."""
    ids = list(found.pair.texts)
    return {
        "captions": found.pair.captions.source, "references": found.pair.references.source, "split": found.split,
        "counts": {"images": len(ids), "references": found.references, "empty_captions": found.empty,
                   "images_of_other_splits": found.pair.references.others},
        "markers": {"captions": found.markers, "references": found.reference_markers, "stripped": found.stripped},
        "scores": TASK.wide(found.scores), "protocol": protocol(found),
        "per_image": {image_id: {metric: round(float(values[i]), 4) for metric, values in found.per_image.items()}
                      for i, image_id in enumerate(ids)},
    }


def counted(found: Evaluated) -> str:
    """Of what the scores are, in a line."""
    empty = f"{found.empty:,} empty {'caption' if found.empty == 1 else 'captions'}"
    images = "1 image" if len(found.pair.texts) == 1 else f"{len(found.pair.texts):,} images"
    return f"{images}, {found.references:,} references, {empty}"


def rows(found: Evaluated) -> list[tuple[str, str, str]]:
    """Name, value and interval of each score, as text; a margin stands behind its control."""
    said = []
    for score in found.scores:
        digits = TASK.metric(score.metric).digits
        between = "" if isnan(score.low) else f"[{score.low:.{digits}f}, {score.high:.{digits}f}]"
        said.append((score.metric, f"{score.value:.{digits}f}", between))
    return said


def as_text(found: Evaluated) -> str:
    """What people read in a terminal."""
    lines = [counted(found), *(f"{name:22}{value:>7} {between}".rstrip() for name, value, between in rows(found)), "",
             *(f"{name}: {value}" for name, value in protocol(found).items())]
    return "\n".join(map(printable, lines))
