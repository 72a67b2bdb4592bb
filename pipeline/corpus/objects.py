"""What pictures show, read from annotations in COCO's format, and which words name it.

Instances: COCO's `instances_*.json`, {images: [{id, file_name}], annotations: [{image_id, category_id, iscrowd}],
categories: [{id, name}]}; an annotation may say its `colour` besides, and in films a list of its `motions`. Synonyms, as published with
CHAIR: a line per object, "person, man, woman", the object first; a word on several lines means any of them, and a line that begins with a
comma lists phrases that name nothing (", at home"). Colours and motions: the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import UserError
from ..core.params import suggest
from .records import Image, field, identifier, parse_json
from .sources import Source


class Object(NamedTuple):
    """One thing of a picture. colour: null where none is recorded. crowd: whether it stands for any number of them. motions: what it does
    in a film."""

    image_id: str
    object: str
    colour: str | None
    crowd: bool
    motions: tuple[str, ...] = ()


def read_objects(raw: Path, instances: str, vocabulary: dict[str, Any], images: Sequence[Image], limit: int) -> list[Object]:
    """What the given images show, in the file's order. Images are found by file name, else by id. Colours and motions are read where
    the vocabulary has any.

    Raises `UserError` for an image that the file does not list, or lists in a way that could mean another one, and for an object, colour or
    motion that the vocabulary does not hold.
    """
    data, colours = parse_json(Source(raw, instances, limit).text(), instances), vocabulary["colours"]
    motions = vocabulary.get("motions", {})
    known = {word: name for name, words in vocabulary["objects"].items() for word in words} | {name: name for name in vocabulary["objects"]}
    categories = {}
    for i, record in enumerate(field(data, "categories", list, instances, "top level")):
        name = field(record, "name", str, instances, "categories", i).lower()
        if name not in known:
            raise UserError(f"{instances}: categories[{i}]: the synonyms list no {name!r}{suggest(name, known)}")
        categories[identifier(record, "id", instances, "categories", i)] = known[name]
    wanted = _ids(data, instances, images)
    objects = []
    for i, record in enumerate(field(data, "annotations", list, instances, "top level")):
        image_id = wanted.get(identifier(record, "image_id", instances, "annotations", i))
        if image_id is not None:
            category = identifier(record, "category_id", instances, "annotations", i)
            if category not in categories:
                raise UserError(f"{instances}: annotations[{i}] is of category {category}, which `categories` does not list: correct "
                                "either")
            colour = field(record, "colour", str, instances, "annotations", i).lower() if record.get("colour") and colours else None
            if colour is not None and colour not in colours:
                raise UserError(f"{instances}: annotations[{i}]: the colours list no {colour!r}{suggest(colour, colours)}")
            moves = field(record, "motions", list, instances, "annotations", i) if record.get("motions") and motions else []
            moves = [str(motion).lower() for motion in moves]
            for motion in moves:
                if motion not in motions:
                    raise UserError(f"{instances}: annotations[{i}]: the motions list no {motion!r}{suggest(motion, motions)}")
            objects.append(Object(image_id, categories[category], colour, bool(record.get("iscrowd")), tuple(moves)))
    return objects


def _ids(data: Any, source: str, images: Sequence[Image]) -> dict[str, str]:
    """The id of each of these images, by its id in the file."""
    listed = {identifier(record, "id", source, "images", i): _base(str(record.get("file_name", "")))
              for i, record in enumerate(field(data, "images", list, source, "top level"))}
    by_name: dict[str, list[str]] = {}
    for own, name in listed.items():
        by_name.setdefault(name, []).append(own)
    found: dict[str, str] = {}
    for image in images:
        named = by_name.get(_base(image.name), [])
        own = named[0] if len(named) == 1 else image.image_id
        if own not in listed or (named and own not in named):
            raise UserError(f"{source}: image {image.image_id} ({image.name}) is not listed in `images`"
                            f"{' by its id, and several have its file name' if named else ''}: add it, or name the file of its split")
        if own in found:
            raise UserError(f"{source}: images {found[own]} and {image.image_id} are both the record of {listed[own] or own}: give each a "
                            "file name of its own, or the ids of `images`")
        found[own] = image.image_id
    return found


def _base(name: str) -> str:
    """A picture's own name, below any folder or archive."""
    return name.replace("!", "/").rpartition("/")[2]


def read_vocabulary(raw: Path, synonyms: str, colours: str, motions: str, limit: int) -> dict[str, Any]:
    """The JSON of a `metrics.chair.Vocabulary`: objects and colours with their words, and phrases that name nothing; motions where a list
    of them is named."""
    objects, nothing = _lists(raw, synonyms, limit)
    vocabulary = {"objects": objects, "colours": _lists(raw, colours, limit)[0] if colours else {}, "nothing": nothing}
    return vocabulary | ({"motions": _lists(raw, motions, limit)[0]} if motions else {})


def _lists(raw: Path, source: str, limit: int) -> tuple[dict[str, list[str]], list[str]]:
    words: dict[str, list[str]] = {}
    nothing: list[str] = []
    for line in Source(raw, source, limit).text().splitlines():
        first, *others = (" ".join(word.lower().split()) for word in line.split(","))
        its = [word for word in others if word]
        if first:
            words[first] = list(dict.fromkeys((*words.get(first, ()), first, *its)))
        else:
            nothing += its
    if not words:
        raise UserError(f"{source} lists nothing: write a line for each, such as 'person, man, woman'")
    return words, nothing
