"""What pictures show, read from annotations in COCO's format, and which words name it.

Instances: COCO's `instances_*.json`, {images: [{id, file_name}], annotations: [{image_id, category_id, iscrowd}],
categories: [{id, name}]}; an annotation may say its `colour` besides. Synonyms, as published with CHAIR: a line per object, "person, man,
woman", the object first; a word on several lines means any of them, and a line that begins with a comma lists phrases that name nothing
(", at home"). Colours: the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.errors import UserError
from pipeline.core.params import suggest
from pipeline.corpus.readers import Image, field, identifier, parse_json, read_source


class Object(NamedTuple):
    """One thing of a picture. colour: null where none is recorded. crowd: whether it stands for any number of them."""

    image_id: str
    object: str
    colour: str | None
    crowd: bool


def read_objects(raw: Path, instances: str, vocabulary: dict[str, Any], images: Sequence[Image], limit: int) -> list[Object]:
    """What the given images show, in the file's order. Images are found by id, else by file name.

    Raises `UserError` for an image that the file does not list, and an object or colour that the vocabulary does not.
    """
    data = parse_json(read_source(raw, instances, limit), instances)
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
            colour = record.get("colour")
            if colour is not None and colour not in vocabulary["colours"]:
                raise UserError(f"{instances}: annotations[{i}]: the colours list no {colour!r}"
                                f"{suggest(str(colour), vocabulary['colours'])}")
            objects.append(Object(image_id, categories[category], colour, bool(record.get("iscrowd"))))
    return objects


def _ids(data: Any, source: str, images: Sequence[Image]) -> dict[str, str]:
    """The id of each of these images, by its id in the file."""
    listed = {identifier(record, "id", source, "images", i): str(record.get("file_name", "")).rpartition("/")[2]
              for i, record in enumerate(field(data, "images", list, source, "top level"))}
    by_name = {name: own for own, name in listed.items() if name}
    found = {}
    for image in images:
        own = image.image_id if image.image_id in listed else by_name.get(image.name.rpartition("/")[2])
        if own is None:
            raise UserError(f"{source}: image {image.image_id} ({image.name}) is not listed in `images`: add it, or name the "
                            "file of its split")
        found[own] = image.image_id
    return found


def read_vocabulary(raw: Path, synonyms: str, colours: str, limit: int) -> dict[str, Any]:
    """The JSON of a `metrics.chair.Vocabulary`: objects and colours with their words, and phrases that name nothing."""
    objects, nothing = _lists(raw, synonyms, limit)
    return {"objects": objects, "colours": _lists(raw, colours, limit)[0] if colours else {}, "nothing": nothing}


def _lists(raw: Path, source: str, limit: int) -> tuple[dict[str, list[str]], list[str]]:
    words: dict[str, list[str]] = {}
    nothing: list[str] = []
    for line in read_source(raw, source, limit).splitlines():
        first, *others = (" ".join(word.lower().split()) for word in line.split(","))
        its = [word for word in others if word]
        if first:
            words[first] = list(dict.fromkeys((*words.get(first, ()), first, *its)))
        else:
            nothing += its
    if not words:
        raise UserError(f"{source} lists nothing: write a line for each, such as 'person, man, woman'")
    return words, nothing
