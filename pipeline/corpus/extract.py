"""The `extract` stage: one caption data set becomes three tables that never mix its pools.

corpus.parquet: caption_id, image_id (null where unknown), text, split "train"|"heldout"; sentences only, no path of any image.
references.parquet: caption_id, image_id (null for formats without images), text, split "val"|"test".
objects.parquet, vocabulary.json: what the val and test images show, and the words for it, where a record of that is named (`objects.py`).
images.parquet: pictures, videos or both: image_id, path (relative to the raw folder, with "/"), split "unlabelled"|"val"|"test"; with
`paired` the corpus's too.
report.json: for each of the two tables of captions read = kept + skipped + beyond_limit, and what was done to the text; unspaced: captions
of both with words that no space divides; unlisted, where lists of clips say the splits: captions of other clips.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ..core.artefacts import whole_if_sealed
from ..core.errors import UserError
from ..core.files import UNWANTED, file_inside, inside, write_json
from ..core.params import Count, Seed, StrictParams
from ..core.resume import finished_folder
from ..images import in_shard, locate
from .objects import read_objects, read_vocabulary
from .readers import MAX_BYTES, read_records
from .records import REFERENCE_SPLITS, TRAIN_SPLITS, Caption, Image
from .video_readers import MSVD_LISTS

CAPTIONS = pa.schema([(name, pa.string()) for name in ("caption_id", "image_id", "text", "split")])
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]{8}")
"""Eight characters in a row of Thai, Lao, Burmese, Khmer, Japanese or Chinese, which are written without spaces between words."""
IMAGES = pa.schema([(name, pa.string()) for name in ("image_id", "path", "split")])
OBJECTS = pa.schema([*((name, pa.string()) for name in ("image_id", "object", "colour")), ("crowd", pa.bool_())])
MOTIONS = pa.field("motions", pa.list_(pa.string()))  # of films


@dataclass(frozen=True)
class ExtractParams(StrictParams):
    """What to read and how."""

    format: Literal["karpathy", "coco", "lines", "json", "maccap", "msrvtt", "msvd", "table"]
    """How the source is laid out."""
    source: str
    """File below the raw folder, or "archive.zip!member" (.jar too), each also as "package:name/..."; .gz is unpacked."""
    images: str = "."
    """Folder of the images below the raw folder; the names in the records are joined below it. The raw folder itself may be a link, and so
    may each picture, but no folder in it: DVC does not look behind those. `cp -rs` links the pictures of a folder elsewhere."""
    train_splits: tuple[Literal["train", "restval"], ...] = ("train", "restval")
    """Splits whose sentences form the corpus, for formats that hold splits: any of "train" and "restval"; () for none."""
    split: Literal["train", "val", "test"] = "train"
    """What all records are, for formats that hold no split (coco, lines, json, a table without such a
    column): "train", "val" or "test"."""
    suffix: str = ""
    """How the clips' files end, for formats that leave it out; empty for ".mp4" (msrvtt) and ".avi" (msvd)."""
    lists: dict[Literal["train", "val", "test"], str] = field(default_factory=dict)
    """For msvd: the files that list the clips of the splits, found like `source`; empty for train_list.txt,
    val_list.txt and test_list.txt. Clips in none of them are left out."""
    limit: Count | None = None
    """Keep at most this many corpus captions (1 or more), drawn with the seed; a smaller draw is part of a larger one."""
    heldout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.02
    """Share of the corpus (0 up to, not including, 1) kept out of training to choose checkpoints by text loss: whole images, or
    all copies of a sentence where images are unknown. Above 0, at least one image or sentence, but never the whole corpus."""
    max_characters: Count = 400
    """A caption with more characters after cleaning is bad; 1 or more."""
    bad_captions: Literal["error", "skip"] = "error"
    """"error": the first bad caption stops extraction; "skip": bad captions are left out and listed in the report."""
    max_bytes: Annotated[int, Field(ge=1, lt=2**63)] = MAX_BYTES
    """The source may unpack to so many bytes, and to a hundred times its size; 1 or more."""
    paired: bool = False
    """Whether the corpus's own pictures are listed too, for methods that are trained on pairs; no other method ever sees them."""
    instances: str = ""
    """What the images show, for CHAIR: a file in COCO's `instances_*.json` format, found like `source`; see `corpus/objects.py`."""
    synonyms: str = ""
    """The words for what the instances are, a line per object; goes with `instances`."""
    colours: str = ""
    """The words for their colours, where the instances have any."""
    motions: str = ""
    """The words for what they do in films, where the instances say it."""
    seed: Seed = 0
    """Decides `limit` and `heldout`."""

    def __post_init__(self) -> None:
        if bool(self.instances) != bool(self.synonyms) or ((self.colours or self.motions) and not self.instances):
            raise ValueError("instances and synonyms go together, and colours and motions with both")
        if self.suffix and self.format not in ("msrvtt", "msvd"):
            raise ValueError(f"suffix goes with the formats msrvtt and msvd, not with {self.format}")
        if self.suffix and not re.fullmatch(r"\.[A-Za-z0-9]{1,10}", self.suffix):
            raise ValueError(f"suffix is {self.suffix!r}, expected a dot, letters and digits, such as '.mp4'")
        if self.lists and self.format != "msvd":
            raise ValueError(f"lists goes with the format msvd, not with {self.format}")


@dataclass(frozen=True)
class Cleaned:
    """Captions of one table after cleaning, in source order, and what happened on the way."""

    kept: list[Caption]
    skipped: list[dict[str, str]]
    read: int
    normalised: int


def extract(raw: Path, out: Path, params: ExtractParams) -> dict[str, Any]:
    """Write the folder `out`, complete or not at all, from the data set below `raw`, and return the report."""
    whole_if_sealed(raw)
    lists = params.lists or (MSVD_LISTS if params.format == "msvd" else {})
    records = read_records(raw, params.source, params.format, params.split, params.max_bytes, params.suffix,
                           lists.items())
    of_train = [caption for caption in records.captions if caption.split in TRAIN_SPLITS]
    asked_for = params.train_splits if records.own_splits else ("train",)
    corpus = clean([caption for caption in of_train if caption.split in asked_for], records.noun, params)
    references = clean([caption for caption in records.captions if caption.split in REFERENCE_SPLITS], records.noun, params)
    _require_captions(params, of_train, corpus, references)
    _require_references(params.source, records.images, references.kept)
    drawn = draw(corpus.kept, params.limit, params.seed)
    rows = hold_out(drawn, params.heldout, params.seed)
    paired = asked_for if params.paired else ()
    images = _located(raw, params, [image for image in records.images if image.split not in TRAIN_SPLITS or image.split in paired])
    if params.paired:
        _require_pictures(params.source, corpus.kept, images)
    _require_held_out(params, rows)
    vocabulary = None
    if params.synonyms:
        vocabulary = read_vocabulary(raw, params.synonyms, params.colours, params.motions, params.max_bytes)
    tested = [image for image in records.images if image.split in REFERENCE_SPLITS]
    objects = read_objects(raw, params.instances, vocabulary, tested, params.max_bytes) if vocabulary else []

    report = {
        "format": params.format,
        "source": params.source,
        "corpus": _counts(corpus, rows, ("train", "heldout")),
        "references": _counts(references, references.kept, REFERENCE_SPLITS),
        "images": _per_split(images, ("unlabelled", *REFERENCE_SPLITS, *paired)),
        **({"objects": len(objects)} if vocabulary else {}),
        "other_splits": len(of_train) - corpus.read,
        "blank_lines": records.blank,
        **({} if records.unlisted is None else {"unlisted": records.unlisted}),
        "unspaced": sum(bool(_UNSPACED.search(caption.text)) for caption in [*rows, *references.kept]),
        "skipped": corpus.skipped + references.skipped,
    }
    with finished_folder(out) as folder:
        _write_table(folder / "corpus.parquet", rows, CAPTIONS)
        _write_table(folder / "references.parquet", references.kept, CAPTIONS)
        _write_table(folder / "images.parquet", images, IMAGES)
        if vocabulary:
            moving = "motions" in vocabulary
            _write_table(folder / "objects.parquet", objects if moving else [each[:-1] for each in objects],
                         OBJECTS.append(MOTIONS) if moving else OBJECTS)
            write_json(folder / "vocabulary.json", vocabulary)
        write_json(folder / "report.json", report)
    return report


def clean(captions: Sequence[Caption], noun: str, params: ExtractParams) -> Cleaned:
    """Strip the captions and make each run of whitespace, newlines included, one space; then sort out the bad ones.

    Whitespace is what `str.split` takes for it: Unicode's, with U+2028, U+2029, VT, FF, \\x85 and the separators \\x1c to \\x1f.
    Raises `UserError` for the first bad caption unless `params.bad_captions` is "skip".
    """
    kept, skipped, normalised = [], [], 0
    for caption in captions:
        text = " ".join(caption.text.split())
        normalised += text != caption.text
        reason = _fault(text, params.max_characters)
        if reason is None:
            kept.append(Caption(caption.caption_id, caption.image_id, text, caption.split))
        elif params.bad_captions == "skip":
            skipped.append({"source": params.source, "record": caption.caption_id, "reason": reason})
        else:
            raise UserError(f"{params.source}, {noun} {caption.caption_id}: {reason}: "
                            "correct it, or set bad_captions to 'skip' to leave such captions out")
    return Cleaned(kept, skipped, len(captions), normalised)


def draw(captions: list[Caption], limit: int | None, seed: int) -> list[Caption]:
    """At most `limit` captions, in their order; the draw for a smaller limit is part of the draw for a larger one."""
    if limit is None or limit >= len(captions):
        return captions
    order = _shuffled([caption.caption_id for caption in captions], f"limit {seed}")
    chosen = set(order[:limit])
    return [caption for caption in captions if caption.caption_id in chosen]


def hold_out(captions: Sequence[Caption], share: float, seed: int) -> list[Caption]:
    """The same captions with split "train" or "heldout"; captions of one image stay together, and so do equal sentences of none.

    Groups are held out until they make up `share` of the captions; the last one may exceed it.
    """
    # A sentence that is also trained on would make the held-out loss look better than it is.
    groups = Counter(_group(caption) for caption in captions)
    target, count = share * len(captions), 0
    held: set[str] = set()
    for group in _shuffled(groups, f"heldout {seed}")[:-1]:
        if count >= target:
            break
        held.add(group)
        count += groups[group]
    return [Caption(c.caption_id, c.image_id, c.text, "heldout" if _group(c) in held else "train") for c in captions]


def _group(caption: Caption) -> str:
    return caption.text if caption.image_id is None else caption.image_id


def _shuffled(names: Iterable[str], purpose: str) -> list[str]:
    # Hashes, because the order of a library's random draw may change with its version and this one must not.
    key = purpose.encode()
    return sorted(names, key=lambda name: hashlib.blake2b(name.encode(), key=key[:64], digest_size=16).digest())


def _fault(text: str, max_characters: int) -> str | None:
    if not text:
        return "the caption is empty"
    if len(text) > max_characters:
        return f"the caption has {len(text)} characters, more than max_characters = {max_characters}"
    if found := UNWANTED.search(text):
        return f"the caption holds the character U+{ord(found[0]):04X}, which is no text"
    if not any(character.isalnum() for character in text):
        return "the caption has no word"
    return None


def _require_captions(params: ExtractParams, of_train: Sequence[Caption], corpus: Cleaned, references: Cleaned) -> None:
    """A data set may lack a corpus only if it holds references and nothing that was asked for as one."""
    if corpus.kept or (references.kept and (not of_train or not params.train_splits)):
        return
    if corpus.read:
        raise UserError(f"{params.source}: the corpus is empty: all {corpus.read} train captions are bad, the first ("
                        f"{corpus.skipped[0]['record']}) because {corpus.skipped[0]['reason']}: correct the source")
    if of_train:
        there = ", ".join(sorted({caption.split for caption in of_train}))
        raise UserError(f"{params.source}: the corpus is empty: train_splits is {list(params.train_splits)}, the train captions "
                        f"are of {there}: add one of these to train_splits")
    raise UserError(f"{params.source}: no captions found in format {params.format!r}: check that file and format belong together")


def _require_held_out(params: ExtractParams, rows: Sequence[Caption]) -> None:
    if len(rows) > 1 and params.heldout > 0 and all(row.split == "train" for row in rows):
        what = "the same sentence" if rows[0].image_id is None else "of one image"
        raise UserError(f"{params.source}: all {len(rows)} train captions are {what}, so that none can be held out to choose weights by: "
                        "give others too, or set heldout to 0 for captions that nothing is trained on")


def _require_references(source: str, images: Sequence[Image], references: Sequence[Caption]) -> None:
    described = {caption.image_id for caption in references}
    for image in images:
        if image.split in REFERENCE_SPLITS and image.image_id not in described:
            raise UserError(f"{source}: {image.split} image {image.image_id} has no sentences, or only bad ones: "
                            "add some, or remove the image")


def _require_pictures(source: str, captions: Sequence[Caption], images: Sequence[Image]) -> None:
    known = {image.image_id for image in images}
    for caption in captions:
        if caption.image_id not in known:
            raise UserError(f"{source}: caption {caption.caption_id} has no picture: add it, or set paired to false")


def _located(raw: Path, params: ExtractParams, images: Sequence[Image]) -> list[Image]:
    """The same images with paths relative to the raw folder, all on disk; raises `UserError` for the first that is not."""
    located, missing = [], []
    split_of: dict[str, str] = {}
    # One look per folder: to resolve each of 100,000 names takes many seconds.
    resolve = lru_cache(maxsize=None)(inside)
    try:
        folder = resolve(raw, params.images)
    except UserError as error:
        raise UserError(f"extract: images: {error}") from None
    for image in images:
        try:
            path = file_inside(folder, image.name, resolve)
        except UserError as error:
            raise UserError(f"{params.source}: image {image.image_id}: {error}") from None
        path_in_raw = posixpath.normpath(posixpath.join(params.images, image.name))
        if in_shard(image.name):
            locate(raw, path_in_raw)
        elif not os.path.isfile(path):
            missing.append(path)
        if split_of.setdefault(path_in_raw, image.split) != image.split:
            raise UserError(f"{params.source}: {path_in_raw} is {image.split} as image {image.image_id}, and {split_of[path_in_raw]} "
                            "before: give each file one split")
        located.append(Image(image.image_id, path_in_raw, image.split))
    if missing:
        raise UserError(f"{missing[0]} is missing, and {len(missing)} of the {len(images)} images of {params.source} in all: "
                        "put them there, or correct images")
    return located


def _counts(cleaned: Cleaned, rows: Sequence[Caption], splits: Sequence[str]) -> dict[str, Any]:
    words = [row.text.count(" ") + 1 for row in rows]
    return {
        "read": cleaned.read,
        "kept": len(rows),
        "skipped": len(cleaned.skipped),
        "beyond_limit": len(cleaned.kept) - len(rows),
        **_per_split(rows, splits),
        "normalised": cleaned.normalised,
        "mean_words": round(sum(words) / len(words), 4) if words else None,
        "max_words": max(words, default=None),
    }


def _per_split(rows: Sequence[Caption] | Sequence[Image], splits: Sequence[str]) -> dict[str, int]:
    found = Counter(row.split for row in rows)
    return {split: found[split] for split in splits}


def _write_table(path: Path, rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> None:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")
