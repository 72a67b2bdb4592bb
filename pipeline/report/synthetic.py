"""What the report shows of synthetic pairs: drawn pictures, what the generator can do, and how refinement moves their features.

Legend: M pairs, Q pairs that are measured, R real images, D CLIP width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core import paths
from ..core.artefacts import again, whole, whole_if_sealed
from ..core.errors import UserError
from ..core.files import digest_file, file_inside, read_json, read_object
from ..core.params import check, entries, pick, section
from ..core.tables import read_table
from ..features.retrieval import project
from ..features.stores import FeatureStore, read, unit
from ..features.tags import TagParams
from ..images import Source, locate
from ..metrics.frechet import centroid_distance, frechet_distance
from ..synthetic.refinement import ProjectionParams, drawn_captions

KINDS = {"as drawn": (False, False), "optimised": (True, False), "projected": (False, True), "optimised and projected": (True, True)}
WEAK = 0.5  # a generator that draws less than this share of what captions name is called weak
RECALLS = {"recall": "generated", "control": "control", "rebuilt": "rebuilt", "real": "real"}
SHOWN = 24
_MEASURED = 10_000  # ranks among all captions cost Q x M x D operations, projecting the real images R x N x D
_BLOCK = 16_384
_TIE = 1e-5  # float32 products of equal rows differ by less


@dataclass(frozen=True)
class SynthesisChoice:
    """What the report reads of `synthesis` in params.yaml; how pictures are drawn is none of its business."""

    corpora: tuple[str, ...]
    clips: tuple[str, ...]
    generator: str


@dataclass(frozen=True)
class Drawn:
    """A drawn picture. tags: distinct labels and their best scores, the surest first. cosines: with the own caption, by CLIP."""

    file: Source
    caption_id: str
    caption: str
    tags: tuple[tuple[str, float], ...]
    cosines: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Triple:
    """A scene, the copy of it that the generator's autoencoder makes, and what the generator draws from its caption."""

    caption: str
    real: Path
    rebuilt: Path
    generated: Path


@dataclass(frozen=True)
class StyleRecall:
    """What the detector finds of the things that captions name. shares: by kind of picture, value with its 95 % interval, 0 to 1."""

    style: str
    shares: tuple[tuple[float, ...] | None, ...]
    weak: bool


@dataclass(frozen=True)
class GeneratorCheck:
    """The generator's own pictures and figures, as far as its folder holds them."""

    name: str
    triples: tuple[Triple, ...]
    recalls: tuple[StyleRecall, ...]


@dataclass(frozen=True)
class Refinement:
    """One CLIP's pseudo-features. curve: entries of curve.json. figures: as `refinement_figures` gives them."""

    clip: str
    temperature: float
    curve: tuple[dict[str, float], ...]
    figures: list[dict[str, Any]]


@dataclass(frozen=True)
class SyntheticCorpus:
    """The pairs of one corpus. counts: its report.json. tags: the tags.json of each detector."""

    name: str
    counts: dict[str, Any]
    tags: tuple[tuple[str, dict[str, Any]], ...]
    pictures: tuple[Drawn, ...]
    refinements: tuple[Refinement, ...]


@dataclass(frozen=True)
class Synthetic:
    """All corpora with synthetic pairs, and the model that drew them; None where its folder tells nothing about it."""

    corpora: tuple[SyntheticCorpus, ...]
    generator: GeneratorCheck | None


def gather_synthetic(params: dict[str, Any]) -> Synthetic | None:
    """Read what `synthesis` made; None, and nothing is read, when it names no corpora."""
    if not entries(params, "synthesis").get("corpora"):
        return None
    synthesis = check(SynthesisChoice, {key: pick(params, f"synthesis.{key}") for key in SynthesisChoice.__dataclass_fields__}, "synthesis")
    projection = section(ProjectionParams, params, "projection")
    tag = section(TagParams, params, "tag")
    return Synthetic(tuple(_corpus(name, synthesis, tag.detectors if paths.drawn(name) in tag.datasets else (), projection)
                           for name in synthesis.corpora), _generator(synthesis.generator))


def refinement_figures(clip: str, corpus: str, temperature: float) -> list[dict[str, Any]]:
    """How each kind of pseudo-feature relates to captions and to real images; one dictionary for each of `KINDS`, in that order.

    clip: whose features. corpus: whose captions were drawn. temperature: `projection.temperature` of the corpus. Keys:
    - kind; pairs: M; measured: Q, evenly spaced where M exceeds 10,000; real: R, unlabelled images of the data set, spaced likewise, or 0.
    - cosine: mean over pairs of feature and own caption, -1 to 1.
    - recall_at_1: share of pairs whose own caption is the nearest of all M captions, 0 to 1; median_rank: of the own caption, 1 is best.
      Equal captions tie: the own one stands first.
    - centroid_distance: Euclidean, between the mean rows; frechet_distance: squared, see the function. Both between the (Q, D) unit rows
      and the (R, D) unit rows of real images, which are projected too where the kind is (SynTIC, Eq. 3). None unless both have two rows.
    Raises `UserError` for artefacts that are missing or do not belong together.
    """
    texts = _texts(clip, corpus)
    captions_MD = texts.features[drawn_captions(corpus)]
    measured = _spaced(len(captions_MD))
    real_RD = _real_features(clip, corpus, texts.origin.clip_digest)
    references = {False: real_RD, True: None if real_RD is None else _projected(real_RD, texts.features, temperature)}
    figures = []
    for kind, (refined, projected) in KINDS.items():
        pseudo_QD = unit(_pseudo_features(clip, corpus, refined, projected, texts.origin.clip_digest).features[measured])
        ranks = own_ranks(pseudo_QD, captions_MD, measured)
        figures.append({
            "kind": kind, "pairs": len(captions_MD), "measured": len(measured),
            "cosine": float((pseudo_QD * unit(captions_MD[measured])).sum(1).mean(dtype=np.float64)),
            "recall_at_1": float((ranks == 1).mean()), "median_rank": float(np.median(ranks)),
            **_distances(pseudo_QD, references[projected]),
        })
    return figures


def own_ranks(pseudo_QD: NDArray[np.float32], captions_MD: NDArray[Any], own_Q: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each row's own caption among all captions by cosine, 1 is nearest: (Q,). own_Q: row of the own caption."""
    own = (pseudo_QD * unit(captions_MD[own_Q])).sum(1)
    ranks = np.ones(len(pseudo_QD), np.int64)
    for start in range(0, len(captions_MD), _BLOCK):
        block = unit(captions_MD[start : start + _BLOCK])
        for first in range(0, len(pseudo_QD), 1024):
            part = slice(first, first + 1024)
            ranks[part] += (pseudo_QD[part] @ block.T > own[part, None] + _TIE).sum(1)
    return ranks


def _distances(pseudo_QD: NDArray[np.float32], real_RD: NDArray[np.float32] | None) -> dict[str, Any]:
    if real_RD is None or min(len(pseudo_QD), len(real_RD)) < 2:
        return {"real": 0, "centroid_distance": None, "frechet_distance": None}
    return {"real": len(real_RD), "centroid_distance": centroid_distance(pseudo_QD, real_RD),
            "frechet_distance": frechet_distance(pseudo_QD, real_RD)}


def _corpus(name: str, synthesis: SynthesisChoice, detectors: Sequence[str], projection: ProjectionParams) -> SyntheticCorpus:
    drawn = paths.drawn(name)
    counts = _record(paths.corpus(drawn) / "report.json", ("asked", "drawn", "drawn_again", "blanked_for_good", "captions_in_corpus"))
    tags = tuple((detector, _record(paths.tags(detector, drawn) / "tags.json", ("images", "without_object", "objects", "threshold")))
                 for detector in detectors)
    return SyntheticCorpus(name, counts, tags, _pictures(name, synthesis.clips, detectors),
                           tuple(_refinement(clip, name, projection.of(name)) for clip in synthesis.clips))


def _pictures(corpus: str, clips: Sequence[str], detectors: Sequence[str]) -> tuple[Drawn, ...]:
    """The first pictures of the table."""
    drawn, rows = paths.drawn(corpus), drawn_captions(corpus)[:SHOWN]
    folder = whole(paths.raw(drawn))
    table = read_table(paths.image_table(drawn), ["image_id", "path", "text"])
    cosines = {clip: _cosines(clip, corpus, rows) for clip in clips}
    ids = table["image_id"][:SHOWN]
    tags = _tags(paths.tags(detectors[0], drawn) / "tags.parquet", set(ids)) if detectors else {}
    return tuple(Drawn(locate(folder, table["path"][number]), key, table["text"][number], tags.get(key, ()),
                       tuple((clip, cosines[clip][number]) for clip in clips)) for number, key in enumerate(ids))


def _cosines(clip: str, corpus: str, rows: list[int]) -> list[float]:
    """Cosines of the first drawn pictures and their captions, at these rows of the corpus."""
    texts = _texts(clip, corpus)
    pictures = unit(_pseudo_features(clip, corpus, False, False, texts.origin.clip_digest).features[: len(rows)])
    return [float(value) for value in (pictures * unit(texts.features[rows])).sum(1)]


def _tags(file: Path, ids: set[str]) -> dict[str, tuple[tuple[str, float], ...]]:
    """Distinct labels of each picture with their best scores, the surest first, equal ones by name."""
    table = read_table(file, ["id", "label", "score"])
    found: dict[str, dict[str, float]] = {key: {} for key in ids}
    for key, label, score in zip(table["id"], table["label"], table["score"], strict=True):
        if key in ids:
            found[key][label] = max(score, found[key].get(label, 0.0))
    return {key: tuple(sorted(of.items(), key=lambda tag: (-tag[1], tag[0]))) for key, of in found.items()}


def _refinement(clip: str, corpus: str, temperature: float) -> Refinement:
    file = paths.refined(clip, paths.drawn(corpus)) / "curve.json"
    curve: list[dict[str, float]] = read_json(whole(file))
    for entry in curve:
        _require(file, entry, ("step", "loss", "caption_similarity", "similarity_to_start"))
    return Refinement(clip, temperature, tuple(curve), refinement_figures(clip, corpus, temperature))


def _generator(name: str) -> GeneratorCheck | None:
    """Pictures and figures that a generator of our own has beside its weights; others have none."""
    folder = whole_if_sealed(paths.foundation(name))
    triples, recalls = _triples(folder), _recalls(folder / "provenance.json")
    return GeneratorCheck(name, triples, recalls) if triples or recalls else None


def _triples(folder: Path) -> tuple[Triple, ...]:
    listed = folder / "pictures.json"
    if not listed.exists():
        return ()
    triples, entries = [], read_json(listed)
    for entry in entries[:SHOWN] if isinstance(entries, list) else [entries]:
        _require(listed, entry, ("caption", "real", "rebuilt", "generated"))
        real, rebuilt, generated = (file_inside(folder, str(entry[key])) for key in ("real", "rebuilt", "generated"))
        for file in (real, rebuilt, generated):
            if not file.exists():
                raise UserError(f"{file} is missing, though {listed} names it: restore it with `git checkout`")
        triples.append(Triple(str(entry["caption"]), real, rebuilt, generated))
    return tuple(triples)


def _recalls(file: Path) -> tuple[StyleRecall, ...]:
    """The styles among the figures: entries with a recall and its interval."""
    figures = read_object(file).get("figures") if file.exists() else None
    styles = {style: values for style, values in figures.items() if isinstance(values, dict) and _is_recall(values.get("recall"))
              } if isinstance(figures, dict) else {}
    return tuple(StyleRecall(style, tuple(tuple(values[kind]) if _is_recall(values.get(kind)) else None for kind in RECALLS),
                             values["recall"][0] < WEAK) for style, values in styles.items())


def _is_recall(value: Any) -> bool:
    """A share with its interval."""
    return isinstance(value, list) and len(value) == 3 and all(isinstance(number, int | float) for number in value)


def _texts(clip: str, corpus: str) -> FeatureStore:
    return read(paths.text_features(clip, corpus)).require(source_digest=digest_file(paths.corpus_table(corpus)))


def _pseudo_features(clip: str, corpus: str, refined: bool, projected: bool, clip_digest: str) -> FeatureStore:
    drawn = paths.drawn(corpus)
    return read(paths.pseudo_features(clip, drawn, refined, projected)).require(clip_digest, digest_file(paths.image_table(drawn)))


def _real_features(clip: str, corpus: str, clip_digest: str) -> NDArray[np.float32] | None:
    """Unit rows of the data set's unlabelled images; None where there are none or this CLIP has not seen them."""
    path, table = paths.image_features(clip, corpus), paths.image_table(corpus)
    if not path.exists():
        return None
    rows = [row for row, split in enumerate(read_table(table, ["split"])["split"]) if split == "unlabelled"]
    store = read(path).require(clip_digest, digest_file(table))
    return unit(store.features[np.array(rows)[_spaced(len(rows))]]) if rows else None


def _projected(queries_RD: NDArray[np.float32], support_ND: NDArray[np.float16], temperature: float) -> NDArray[np.float32]:
    support = torch.from_numpy(support_ND)
    return unit(np.concatenate([project(part, support, temperature).numpy() for part in torch.from_numpy(queries_RD).split(1024)]))


def _spaced(count: int) -> NDArray[np.int64]:
    """All of `count` rows, or so many of them as are measured at most, evenly spaced."""
    return np.linspace(0, count - 1, min(count, _MEASURED)).astype(np.int64)


def _record(file: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    record: dict[str, Any] = read_json(whole(file))
    _require(file, record, keys)
    return record


def _require(file: Path, record: dict[str, Any], keys: tuple[str, ...]) -> None:
    if missing := [key for key in keys if not isinstance(record, dict) or key not in record]:
        raise UserError(f"{file} has no {missing[0]!r}: it was made by another version, {again(file)}")
