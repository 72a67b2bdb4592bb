"""The caption formats in use, each read into the same plain records.

A reader takes a `Source` and `Options` for what it leaves open; it returns `Records` in source order. Whatever it cannot take as it stands
is a `UserError` of one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from .beside import read_beside
from .pickles import read_pickle
from .records import (
    TRAIN_SPLITS,
    Caption,
    Image,
    Listing,
    Options,
    Records,
    field,
    identifier,
    parse_json,
    require_unique,
    sentence_of,
    shown,
    split_of,
)
from .sentences import LOOKED_AT, require_sentences
from .sources import MAX_BYTES, Source
from .tables import read_flickr, read_jsonl, read_objects_of, read_parquet, read_table
from .video_readers import read_msrvtt, read_msvd


def read_karpathy(file: Source, options: Options) -> Records:
    """Karpathy's `dataset_*.json`; image ids are `cocoid` where present, else `imgid`. It leaves nothing open."""
    captions, images, ids, source = [], [], [], file.name
    for i, record in enumerate(field(parse_json(file.text(), source), "images", list, source, "top level")):
        own = split_of(record, source, "images", i)
        image_id = identifier(record, "cocoid" if "cocoid" in record else "imgid", source, "images", i)
        ids.append(image_id)
        if own not in TRAIN_SPLITS or "filename" in record:  # a corpus may do without pictures
            folder = field(record, "filepath", str, source, "images", i) + "/" if record.get("filepath") else ""
            images.append(Image(image_id, folder + field(record, "filename", str, source, "images", i), own))
        if own == "unlabelled":
            if record.get("sentences"):
                raise UserError(f"{source}: images[{i}] (image {image_id}) is unlabelled and yet has sentences: "
                                "remove them, or give it another split")
            continue
        where = f"images[{i}].sentences"
        for j, sentence in enumerate(field(record, "sentences", list, source, "images", i)):
            captions.append(Caption(identifier(sentence, "sentid", source, where, j), image_id,
                                    sentence_of(sentence, "raw", source, where, j), own))
    require_unique(ids, "image", source)
    return Records(captions, images, own_splits=True)


def read_coco(file: Source, options: Options) -> Records:
    """COCO's `captions_*.json`: {images: [{id, file_name}], annotations: [{id, image_id, caption}]}, all of one split."""
    data, source, split = parse_json(file.text(), file.name), file.name, options.split
    records = field(data, "images", list, source, "top level")
    ids = [identifier(record, "id", source, "images", i) for i, record in enumerate(records)]
    require_unique(ids, "image", source)
    images = [
        Image(image_id, field(record, "file_name", str, source, "images", i), split)
        for i, (image_id, record) in enumerate(zip(ids, records, strict=True)) if split not in TRAIN_SPLITS or "file_name" in record
    ]
    captions, known = [], set(ids)
    for i, record in enumerate(field(data, "annotations", list, source, "top level")):
        image_id = identifier(record, "image_id", source, "annotations", i)
        if image_id not in known:
            raise UserError(f"{source}: annotations[{i}] is of image {image_id}, which `images` does not list: correct either")
        captions.append(Caption(identifier(record, "id", source, "annotations", i), image_id,
                                sentence_of(record, "caption", source, "annotations", i), split))
    return Records(captions, images)


def read_lines(source: Source, options: Options) -> Records:
    """One sentence a line; caption ids are line numbers from 1. Blank lines are counted and left out."""
    captions, count = [], 0
    for line in source.lines():
        count += 1
        if line and not line.isspace():
            captions.append(Caption(str(count), None, line, options.split))
    require_sentences([caption.text or "" for caption in captions[:LOOKED_AT]], source.name)
    return Records(captions, [], noun="line", blank=count - len(captions))


def read_json_list(source: Source, options: Options) -> Records:
    """A JSON list of strings, as DeCap and MacCap have it, or of objects with columns as in a table; strings' ids are positions from 0."""
    items = _list(parse_json(source.text(), source.name), source.name)
    if items and isinstance(items[0], dict):
        return read_objects_of(enumerate(items), source, options, "item")
    for i, sentence in enumerate(items):
        if not isinstance(sentence, str | None):
            raise UserError(f"{source}: list[{i}] is {shown(sentence)}, not a string: correct it, or choose another format")
    return Records([Caption(str(i), None, sentence, options.split) for i, sentence in enumerate(items)], [], noun="item")


def read_maccap(file: Source, options: Options) -> Records:
    """MAGIC's and MacCap's list of {split, image_name, captions}; caption ids are `image_name#k`, k from 0. It leaves nothing open."""
    captions, images, ids, source = [], [], [], file.name
    for i, record in enumerate(_list(parse_json(file.text(), source), source)):
        own = split_of(record, source, "list", i)
        if own == "unlabelled":
            raise UserError(f"{source}: list[{i}] is 'unlabelled', which only the karpathy format and tables can say: use one of them")
        name = identifier(record, "image_name", source, "list", i)
        ids.append(name)
        images.append(Image(name, name, own))
        for j, sentence in enumerate(field(record, "captions", list, source, "list", i)):
            if not isinstance(sentence, str | None):
                raise UserError(f"{source}: list[{i}].captions[{j}] is {shown(sentence)}, not a string: correct it")
            captions.append(Caption(f"{name}#{j}", name, sentence, own))
    require_unique(ids, "image", source)
    return Records(captions, images, own_splits=True)


READERS: dict[str, Callable[[Source, Options], Records]] = {
    "karpathy": read_karpathy, "coco": read_coco, "lines": read_lines, "json": read_json_list, "maccap": read_maccap,
    "msrvtt": read_msrvtt, "msvd": read_msvd, "table": read_table, "jsonl": read_jsonl, "parquet": read_parquet, "flickr": read_flickr,
    "pickle": read_pickle, "folder": read_beside,
}


def read_records(raw: Path, source: str, format: str, split: str, limit: int = MAX_BYTES, suffix: str = "",
                 lists: Iterable[tuple[str, str]] = (), columns: Mapping[Any, str | int] | None = None) -> Records:
    """Read one source in one of READERS' formats; caption ids are unique among the records returned, image ids too.

    split, suffix, columns: see `Options`. lists: splits, each with the file that lists its clips or pictures, found like `source`.
    """
    listed = tuple(Listing(own, name, _read_list(raw, own, name, limit)) for own, name in lists)
    records = READERS[format](Source(raw, source, limit), Options(split, suffix, listed, columns or {}))
    require_unique([caption.caption_id for caption in records.captions], "caption", source)
    return records


def _read_list(raw: Path, split: str, name: str, limit: int) -> str:
    try:
        return Source(raw, name, limit).text()
    except UserError as error:
        raise UserError(f"lists: {split}: {error}") from None


def _list(value: Any, source: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{source}: found {shown(value)} at the top level, expected a list: choose the format that it has")
    return value
