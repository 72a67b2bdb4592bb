"""The `extract` stage: one caption data set becomes three tables that never mix its pools.

corpus.parquet: caption_id, image_id (null where unknown), text, split "train"|"heldout"; sentences only, no path of any image.
references.parquet: caption_id, image_id (null for formats without images), text, split "val"|"test".
objects.parquet, vocabulary.json: what the val and test images show, and the words for it, where a record of that is named (`objects.py`).
images.parquet: pictures, videos or both: image_id, path (relative to the raw folder, with "/"), split "unlabelled"|"val"|"test"; with
`paired` the corpus's too.
report.json: for each of the two tables of captions read = kept + skipped + beyond_limit, and what was done to the text (unescaped: captions
with HTML's entities, where there are any); unspaced: captions of both with words that no space divides; unlisted, where lists say the
splits: captions of other clips or pictures; skipped_images, where there are any: pictures that were left out, with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..core.artefacts import whole_if_sealed
from ..core.errors import UserError
from ..core.files import write_json
from ..core.resume import finished_folder
from .cleaning import Cleaned, clean, draw, hold_out
from .objects import Object, read_objects, read_vocabulary
from .parameters import ExtractParams
from .pictures import faults, located, without_captions
from .readers import read_records
from .records import REFERENCE_SPLITS, TRAIN_SPLITS, Caption, Image, Records
from .video_readers import MSVD_LISTS

CAPTIONS = pa.schema([(name, pa.string()) for name in ("caption_id", "image_id", "text", "split")])
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]{8}")
"""Eight characters in a row of Thai, Lao, Burmese, Khmer, Japanese or Chinese, which are written without spaces between words."""
IMAGES = pa.schema([(name, pa.string()) for name in ("image_id", "path", "split")])
OBJECTS = pa.schema([*((name, pa.string()) for name in ("image_id", "object", "colour")), ("crowd", pa.bool_())])
MOTIONS = pa.field("motions", pa.list_(pa.string()))  # of films
LEFT_OUT = "its picture is left out"
"""Why a caption is skipped that is itself sound."""


@dataclass(frozen=True)
class Extraction:
    """The rows of all tables, and the report. vocabulary: None where no record of objects is named."""

    corpus: list[Caption]
    references: list[Caption]
    images: list[Image]
    objects: list[Object]
    vocabulary: dict[str, Any] | None
    report: dict[str, Any]


def extract(raw: Path, out: Path, params: ExtractParams) -> dict[str, Any]:
    """Write the folder `out`, complete or not at all, from the data set below `raw`, and return the report."""
    whole_if_sealed(raw)
    found = examine(raw, params)
    with finished_folder(out) as folder:
        _write_table(folder / "corpus.parquet", found.corpus, CAPTIONS)
        _write_table(folder / "references.parquet", found.references, CAPTIONS)
        _write_table(folder / "images.parquet", found.images, IMAGES)
        if found.vocabulary:
            moving = "motions" in found.vocabulary
            _write_table(folder / "objects.parquet", found.objects if moving else [each[:-1] for each in found.objects],
                         OBJECTS.append(MOTIONS) if moving else OBJECTS)
            write_json(folder / "vocabulary.json", found.vocabulary)
        write_json(folder / "report.json", found.report)
    return found.report


def read(raw: Path, params: ExtractParams) -> Records:
    """The records of the source, as they are."""
    lists = params.lists or (MSVD_LISTS if params.format == "msvd" else {})
    return read_records(raw, params.source, params.format, params.split, params.max_bytes, params.suffix, lists.items(), params.columns)


def examine(raw: Path, params: ExtractParams) -> Extraction:
    """All that `extract` writes, from the data set below `raw`."""
    records = read(raw, params)
    splits = params.train_splits if records.own_splits else ("train",)
    of_train = Counter(caption.split for caption in records.captions if caption.split in TRAIN_SPLITS)
    of_corpus, of_tests = ([caption for caption in records.captions if caption.split in own] for own in (splits, REFERENCE_SPLITS))
    records = replace(records, captions=[])
    corpus, references = (clean(_taken(captions), records.noun, params) for captions in (of_corpus, of_tests))
    _require_captions(params, of_train, corpus, references)
    paired = splits if params.paired else ()
    images = located(raw, params, [image for image in records.images if image.split not in TRAIN_SPLITS or image.split in paired])
    unusable = without_captions(images, {caption.image_id for caption in references.kept}, params)
    unusable |= faults(raw, params, [image for image in images if image.image_id not in unusable])
    corpus = _without(corpus, unusable, params) if params.paired else corpus
    references = _without(references, unusable, params)
    _require_captions(params, of_train, corpus, references)
    listed = [image for image in images if image.image_id not in unusable]
    rows = hold_out(draw(corpus.kept, params.limit, params.seed), params.heldout, params.seed)
    if params.paired:
        _require_pictures(params.source, corpus.kept, listed)
    _require_held_out(params, rows)
    vocabulary = None
    if params.synonyms:
        vocabulary = read_vocabulary(raw, params.synonyms, params.colours, params.motions, params.max_bytes)
    tested = {image.image_id for image in listed if image.split in REFERENCE_SPLITS}
    objects = read_objects(raw, params.instances, vocabulary, [image for image in records.images if image.image_id in tested],
                           params.max_bytes) if vocabulary else []
    skipped_images = [{"image": image.image_id, "path": image.name, "reason": unusable[image.image_id]}
                      for image in images if image.image_id in unusable]
    report = {
        "format": params.format,
        "source": params.source,
        "corpus": _counts(corpus, rows, ("train", "heldout")),
        "references": _counts(references, references.kept, REFERENCE_SPLITS),
        "images": _per_split(listed, ("unlabelled", *REFERENCE_SPLITS, *paired)),
        **({"objects": len(objects)} if vocabulary else {}),
        "other_splits": of_train.total() - corpus.read,
        "blank_lines": records.blank,
        **({} if records.unlisted is None else {"unlisted": records.unlisted}),
        "unspaced": sum(bool(_UNSPACED.search(caption.text or "")) for table in (rows, references.kept) for caption in table),
        "skipped": corpus.skipped + references.skipped,
        **({"skipped_images": skipped_images} if skipped_images else {}),
    }
    return Extraction(rows, references.kept, listed, objects, vocabulary, report)


def _taken(captions: list[Caption]) -> Iterator[Caption]:
    """Each caption, of which the list then no longer knows: three million of them weigh a gigabyte, and would be there twice."""
    captions.reverse()
    while captions:
        yield captions.pop()


def _without(cleaned: Cleaned, unusable: Mapping[str, str], params: ExtractParams) -> Cleaned:
    """The captions whose pictures can be used, all others skipped."""
    skipped = [{"source": params.source, "record": caption.caption_id, "reason": f"{LEFT_OUT}: {unusable[caption.image_id]}"}
               for caption in cleaned.kept if caption.image_id is not None and caption.image_id in unusable]
    kept = [caption for caption in cleaned.kept if caption.image_id not in unusable]
    return replace(cleaned, kept=kept, skipped=cleaned.skipped + skipped) if skipped else cleaned


def _require_captions(params: ExtractParams, of_train: Counter[str], corpus: Cleaned, references: Cleaned) -> None:
    """A data set may lack a corpus only if it holds references and nothing that was asked for as one."""
    if corpus.kept or (references.kept and (not of_train or not params.train_splits)):
        return
    if corpus.read:
        raise UserError(f"{params.source}: the corpus is empty: all {corpus.read} train captions are bad, the first ("
                        f"{corpus.skipped[0]['record']}) because {corpus.skipped[0]['reason']}: correct the source")
    if of_train:
        there = ", ".join(sorted(of_train))
        raise UserError(f"{params.source}: the corpus is empty: train_splits is {list(params.train_splits)}, the train captions "
                        f"are of {there}: add one of these to train_splits")
    if references.skipped:
        first = references.skipped[0]
        raise UserError(f"{params.source}: all {references.read} val and test captions are left out, the first ({first['record']}) because "
                        f"{first['reason']}: correct the source, or put its pictures there")
    raise UserError(f"{params.source}: no captions found in format {params.format!r}: check that file and format belong together")


def _require_held_out(params: ExtractParams, rows: Sequence[Caption]) -> None:
    if len(rows) > 1 and params.heldout > 0 and all(row.split == "train" for row in rows):
        what = "the same sentence" if rows[0].image_id is None else "of one image"
        raise UserError(f"{params.source}: all {len(rows)} train captions are {what}, so that none can be held out to choose weights by: "
                        "give others too, or set heldout to 0 for captions that nothing is trained on")


def _require_pictures(source: str, captions: Sequence[Caption], images: Sequence[Image]) -> None:
    known = {image.image_id for image in images}
    for caption in captions:
        if caption.image_id not in known:
            raise UserError(f"{source}: caption {caption.caption_id} has no picture: add it, or set paired to false")


def _counts(cleaned: Cleaned, rows: Sequence[Caption], splits: Sequence[str]) -> dict[str, Any]:
    words = [(row.text or "").count(" ") + 1 for row in rows]
    return {
        "read": cleaned.read,
        "kept": len(rows),
        "skipped": len(cleaned.skipped),
        "beyond_limit": len(cleaned.kept) - len(rows),
        **_per_split(rows, splits),
        "normalised": cleaned.normalised,
        **({"unescaped": cleaned.unescaped} if cleaned.unescaped else {}),
        "mean_words": round(sum(words) / len(words), 4) if words else None,
        "max_words": max(words, default=None),
    }


def _per_split(rows: Sequence[Caption] | Sequence[Image], splits: Sequence[str]) -> dict[str, int]:
    found = Counter(row.split for row in rows)
    return {split: found[split] for split in splits}


def _write_table(path: Path, rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> None:
    arrays = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")
