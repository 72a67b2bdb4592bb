"""Captions and references in the shapes in which papers and tools pass them around, and which belong together.

Captions: COCO's results, MAGIC's result lists (which carry their references), a mapping of ids to captions (Knight's),
JSON Lines, tables. References: COCO's annotations, Karpathy's data sets, MAGIC's test lists, a mapping of ids to lists,
JSON Lines, tables.
Ids are text, so that 7 is "7". Where a file has several names for an image (COCO's `id` and `file_name`), those count
that are the other file's. Nothing is left out but the other splits where one is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ..core.errors import UserError
from ..core.params import suggest
from ..corpus.records import require_unique, shown
from .contents import Content, Row, id_of, read_content, sentence, text_of

IDS = ("image_id", "image_name", "file_name", "filename", "image", "video_id", "video", "clip", "file", "path", "id")
CAPTIONS = ("caption", "prediction", "generated", "hypothesis", "text", "sentence", "description")
LISTS = ("captions", "references", "refs", "gts")
REFERENCES = ("caption", "reference", "text", "sentence", "description")


class Item(NamedTuple):
    """An image's references. names: its id by what the file calls ids, the same ones for all items of a file.

    split: None where the file has none.
    """

    names: dict[str, str]
    texts: tuple[str, ...]
    split: str | None = None


@dataclass(frozen=True)
class References:
    """source: the file, for people. kind: its format, in words. others: items of other splits, left out."""

    source: str
    kind: str
    items: tuple[Item, ...]
    others: int = 0


@dataclass(frozen=True)
class Captions:
    """One caption per image, in the file's order. own: the references that the file carries."""

    source: str
    kind: str
    texts: dict[str, str]
    own: References | None


@dataclass(frozen=True)
class Pair:
    """Captions and references of the same images, both in the order of sorted ids: no file's order decides anything.

    The ids are the first that the references have. ids: what they call those by which captions were found.
    """

    captions: Captions
    references: References
    ids: str
    hypotheses: dict[str, str]
    texts: dict[str, list[str]]


def read_captions(file: Path) -> Captions:
    """Read captions; two of one image are a `UserError`."""
    content = _rowed(read_content(file), CAPTIONS)
    if content.whole is not None:
        if isinstance(content.whole.get("images"), list):
            raise UserError(f"{file} holds references of COCO or of Karpathy's data sets, no captions: name it by "
                            "--references")
        texts = {id_of(key, f"{file}: id"): sentence(_only(value), f"{file}: the caption of {shown(key)}")
                 for key, value in content.whole.items()}
        if len(texts) != len(content.whole):
            raise UserError(f"{file}: two of its ids differ in blanks alone: give each image its own id")
        return Captions(str(file), "mapping of ids to captions", texts, None)
    key, caption = _first(content, IDS, "id"), content.column(CAPTIONS, "caption")
    places: dict[str, str] = {}
    texts = {}
    for row in content.rows:
        image_id = _id(row, key, content.source)
        if image_id in places:
            raise UserError(f"{file}: image {image_id!r} has two captions, in {places[image_id]} and {row.place}: "
                            "keep one of the two")
        places[image_id], texts[image_id] = row.place, text_of(row, caption, content.source)
    own = _of_lists(content) if _has(content, LISTS) else None
    return Captions(str(file), f"{content.kind} of {key!r} and {caption!r}", texts, own)


def read_references(file: Path, split: str | None = None) -> References:
    """Read references. split: the one that is meant, where a file has several; one that it has not is a `UserError`."""
    content = _rowed(read_content(file), (*LISTS, *REFERENCES))
    whole = content.whole
    if whole is None:
        found = _of_lists(content) if _has(content, LISTS) else _of_rows(content)
    elif isinstance(whole.get("annotations"), list):
        found = References(content.source, "COCO annotations", tuple(_coco(whole, content.source)))
    elif isinstance(whole.get("images"), list):
        found = References(content.source, "Karpathy's data set", tuple(_karpathy(whole["images"], content.source)))
    else:
        found = References(content.source, "mapping of ids to references", tuple(_mapping(whole, content.source)))
    return _of_split(found, split)


def pair(captions: Captions, references: References) -> Pair:
    """Put captions beside the references of their images.

    Captions of files in folders also fit references that name the files alone. Raises `UserError` where they are not of
    the same images, or an image has no reference.
    """
    named = [captions.texts, {PurePath(image_id).name: text for image_id, text in captions.texts.items()}]
    by_name = {name: [item.names[name] for item in references.items] for name in references.items[0].names}
    ours, (name, ids) = min(
        itertools.product([each for each in named if len(each) == len(captions.texts)], by_name.items()),
        key=lambda found: len(found[0].keys() ^ set(found[1][1])))
    if differ := " and ".join(_differences(set(ours), set(ids))):
        raise UserError(f"{captions.source} and {references.source} ({name!r}) are not of the same images: {differ}: "
                        "give both of the same split, with the same ids")
    main = next(iter(by_name))
    for key in (main, name):
        require_unique(by_name[key], key, references.source)
    hypotheses, texts = {}, {}
    for item in sorted(references.items, key=lambda item: item.names[main]):
        image_id = item.names[main]
        if not item.texts:
            raise UserError(f"{references.source}: image {image_id!r} has no reference: give it one, or leave it out "
                            "on both sides")
        hypotheses[image_id], texts[image_id] = ours[item.names[name]], list(item.texts)
    return Pair(captions, references, name, hypotheses, texts)


def _differences(ours: set[str], theirs: set[str]) -> Iterable[str]:
    for alone, has, lacks in ((ours - theirs, "a caption", "references"), (theirs - ours, "references", "caption")):
        if alone:
            images = "1 image has" if len(alone) == 1 else f"{len(alone)} images have"
            yield f"{images} {has} and no {lacks}, such as {min(alone)!r}"


def _rowed(content: Content, texts: Sequence[str]) -> Content:
    """Content whose whole is a single record, as one of rows."""
    whole = content.whole
    if whole and any(name in whole for name in IDS) and any(name in whole for name in texts):
        return Content(content.source, "JSON record", (Row("the record", whole),))
    return content


def _has(content: Content, names: Sequence[str]) -> bool:
    return any(name in content.rows[0].values for name in names)


def _first(content: Content, names: Sequence[str], what: str) -> str:
    """The first of these keys that the first record has."""
    return next((name for name in names if name in content.rows[0].values), None) or content.column(names, what)


def _only(value: Any) -> Any:
    """The value, or the one that a list holds."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _id(row: Row, key: str, source: str) -> str:
    return id_of(row.values.get(key), f"{source}, {row.place}: {key!r}")


def _split(record: Mapping[str, Any], where: str) -> str | None:
    return sentence(record["split"], f"{where}: 'split'").strip() if "split" in record else None


def _texts(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise UserError(f"{where} is {shown(values)}, expected a list of references: correct it")
    return tuple(sentence(value, f"{where}[{i}]") for i, value in enumerate(values))


def _of_lists(content: Content) -> References:
    """Records that hold an image with all of its references each."""
    column, source = content.column(LISTS, "list of references"), content.source
    names = [name for name in IDS if name in content.rows[0].values] or [content.column(IDS, "id")]
    items = [Item({name: _id(row, name, source) for name in names},
                  _texts(row.values.get(column), f"{source}, {row.place}: {column!r}"),
                  _split(row.values, f"{source}, {row.place}")) for row in content.rows]
    return References(source, f"{content.kind} of {names[0]!r} and {column!r}", tuple(items))


def _of_rows(content: Content) -> References:
    """Records that hold one reference each; those of one image are the same id's."""
    column, source = content.column(REFERENCES, "reference"), content.source
    key = _first(content, IDS, "id")
    texts: dict[str, list[str]] = {}
    splits: dict[str, str | None] = {}
    for row in content.rows:
        image_id, split = _id(row, key, source), _split(row.values, f"{source}, {row.place}")
        if splits.setdefault(image_id, split) != split:
            raise UserError(f"{source}, {row.place}: image {image_id!r} is {split} here and {splits[image_id]} "
                            "before: give it one split")
        texts.setdefault(image_id, []).append(text_of(row, column, source))
    items = [Item({key: image_id}, tuple(its), splits[image_id]) for image_id, its in texts.items()]
    return References(source, f"{content.kind} of {key!r} and {column!r}", tuple(items))


def _coco(whole: dict[str, Any], source: str) -> Iterable[Item]:
    """{images: [{id, file_name}], annotations: [{image_id, caption}]}.

    The names of files count where all images have one.
    """
    images = whole.get("images", [])
    if not isinstance(images, list):
        raise UserError(f"{source}: 'images' is {shown(images)}, expected a list: correct it")
    records = [Row(f"images[{i}]", image if isinstance(image, dict) else {}) for i, image in enumerate(images)]
    keys = [key for key in ("id", "file_name") if key == "id" or all(key in row.values for row in records)]
    names = {_id(row, "id", source): {key: _id(row, key, source) for key in keys} for row in records}
    texts: dict[str, list[str]] = {image_id: [] for image_id in names}
    if len(names) != len(records):
        raise UserError(f"{source}: an id occurs twice in 'images': give each image its own id")
    for i, annotation in enumerate(whole["annotations"]):
        row = Row(f"annotations[{i}]", annotation if isinstance(annotation, dict) else {})
        image_id = _id(row, "image_id", source)
        if image_id not in names and records:
            raise UserError(f"{source}: annotations[{i}] is of image {image_id!r}, which `images` does not list: "
                            "correct either")
        texts.setdefault(image_id, []).append(text_of(row, "caption", source))
    return [Item(names.get(image_id, {"id": image_id}), tuple(its)) for image_id, its in texts.items()]


def _karpathy(images: list[Any], source: str) -> Iterable[Item]:
    """[{filename, imgid, cocoid, split, sentences: [{raw}]}]."""
    records = [Row(f"images[{i}]", image if isinstance(image, dict) else {}) for i, image in enumerate(images)]
    keys = [key for key in ("cocoid", "filename", "imgid") if all(key in row.values for row in records)] or ["filename"]
    for row in records:
        sentences = row.values.get("sentences")
        if not isinstance(sentences, list):
            raise UserError(f"{source}, {row.place}: 'sentences' is {shown(sentences)}, expected a list: correct it")
        raw = [each.get("raw") if isinstance(each, dict) else each for each in sentences]
        yield Item({key: _id(row, key, source) for key in keys}, _texts(raw, f"{source}, {row.place}: sentences"),
                   _split(row.values, f"{source}, {row.place}"))


def _mapping(whole: dict[str, Any], source: str) -> Iterable[Item]:
    """{id: [references]}; a string is one reference."""
    for key, value in whole.items():
        where = f"{source}: the value of {shown(key)}"
        if not isinstance(value, str | list):
            raise UserError(f"{where} is {shown(value)}, expected a list of references, as in a mapping of ids: give "
                            "it that form, or that of COCO's annotations, Karpathy's data sets, records or a table")
        yield Item({"id": id_of(key, f"{source}: id")}, (value,) if isinstance(value, str) else _texts(value, where))


def _of_split(found: References, split: str | None) -> References:
    """The references of a split; without one asked for, those of the one that there is."""
    if not found.items:
        raise UserError(f"{found.source}, {found.kind}: there are no references in it: name another file")
    splits = dict.fromkeys(item.split for item in found.items if item.split is not None)
    if split is None and len(splits) > 1:
        counts = ", ".join(f"{each} ({sum(item.split == each for item in found.items)} images)" for each in splits)
        raise UserError(f"{found.source} has several splits, {counts}: choose one by --split")
    if split is None:
        return found
    if split not in splits:
        raise UserError(f"{found.source} has no split {split!r}{suggest(split, splits)}")
    items = tuple(itertools.filterfalse(lambda item: item.split != split, found.items))
    return References(found.source, found.kind, items, len(found.items) - len(items))
