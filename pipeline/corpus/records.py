"""The plain records that every caption format is read into, and what its readers share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.errors import UserError
from ..core.files import UNWANTED
from ..core.params import suggest

TRAIN_SPLITS = ("train", "restval")
REFERENCE_SPLITS = ("val", "test")
SPLITS = (*TRAIN_SPLITS, *REFERENCE_SPLITS, "unlabelled")
_OWN_NAMES = {split: split for split in SPLITS}


class Caption(NamedTuple):
    """One sentence as the source has it, None for a null. `image_id` is None where no image is known; `split` is one of SPLITS."""

    caption_id: str
    image_id: str | None
    text: str | None
    split: str


class Image(NamedTuple):
    """One image; `name` is its path below the data set's folder of images, or `shard.tar!member` for a part of a tar file there."""

    image_id: str
    name: str
    split: str


@dataclass(frozen=True)
class Records:
    """What one file holds, in source order.

    noun: what a caption id counts in errors, "caption", "line" or "item". own_splits: whether the file, or lists
    beside it, says the splits. unlisted: captions left out because no list names their clip or picture; None where there
    are no lists.
    """

    captions: list[Caption]
    images: list[Image]
    noun: str = "caption"
    blank: int = 0
    own_splits: bool = False
    unlisted: int | None = None


class Listing(NamedTuple):
    """One of the lists beside a source: the clips or pictures of a split, a name a line. `name` is the file's, for errors."""

    split: str
    name: str
    text: str


@dataclass(frozen=True)
class Options:
    """What a source leaves open.

    split: of all records, where the source holds none. suffix: of the clips' files, "" for the format's own. columns: which
    hold "caption", "file" and "split", by name, or by number from 1 where no header names them.
    """

    split: str = "train"
    suffix: str = ""
    lists: tuple[Listing, ...] = ()
    columns: Mapping[str, str | int] = dataclasses.field(default_factory=dict)


def lines_of(text: str) -> list[str]:
    """The lines of a text, without their ends."""
    # Not str.splitlines: U+2028, VT, FF and \x85 are whitespace inside a sentence here, not the end of one.
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n") if text else []


_KINDS: dict[type | tuple[type, ...], str] = {str: "a string", list: "a list", (int, str): "a whole number or a string"}


def parse_json(text: str, source: str) -> Any:
    """What a JSON text holds."""
    try:
        return json.loads(text)
    # ValueError also stands for numbers of thousands of digits, RecursionError for thousands of brackets.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not valid JSON ({error}): restore the file, or choose another format") from None


def field(record: Any, key: str, kind: type | tuple[type, ...], source: str, where: str, number: int | None = None) -> Any:
    """`record[key]`, which must be a `kind`. The place is only put into words on failure: this runs millions of times."""
    if isinstance(record, dict) and isinstance(value := record.get(key), kind):
        return value
    place = where if number is None else f"{where}[{number}]"
    there = isinstance(record, dict) and key in record
    found = f"{key!r} is {shown(record[key])}" if there else f"no {key!r} in {shown(record)}"
    expected = _KINDS[kind]
    raise UserError(f"{source}: {place}: {found}, expected {expected}: correct the record, or choose another format")


def sentence_of(record: Any, key: str, source: str, where: str, number: int | None = None) -> str | None:
    """The sentence at a key, None for a null, which counts as a bad caption."""
    if isinstance(record, dict) and key in record and record[key] is None:
        return None
    found: str = field(record, key, str, source, where, number)
    return found


def listed_splits(lists: Sequence[Listing], name_of: Callable[[str, str], str] = lambda name, where: name) -> dict[str, str]:
    """The split of each name that the lists hold, in their order; a name that stands there twice is a `UserError`.

    name_of: makes a name of a line and its place, perhaps a `UserError`.
    """
    splits: dict[str, str] = {}
    for split, file, text in lists:
        for i, line in enumerate(lines_of(text), 1):
            if not (written := line.strip()):
                continue
            name = name_of(written, f"{file}, line {i}")
            if name in splits:
                raise UserError(f"{file}, line {i}: {name} is already listed for {splits[name]}: keep one of the two lines")
            splits[name] = split
    return splits


def identifier(record: Any, key: str, source: str, where: str, number: int) -> str:
    """An id as text, whole number or string there."""
    value = field(record, key, (int, str), source, where, number)
    if type(value) is int or (isinstance(value, str) and value and not UNWANTED.search(value)):
        return str(value)
    raise UserError(f"{source}: {where}[{number}]: {key!r} is {shown(value)}, expected {_KINDS[int, str]}: correct it")


def split_of(record: Any, source: str, where: str, number: int, names: Mapping[str, str] = _OWN_NAMES) -> str:
    """The split of a record, one of SPLITS. names: what the format calls them."""
    split: str = field(record, "split", str, source, where, number)
    if split not in names:
        raise UserError(f"{source}: {where}[{number}]: unknown split {split!r}{suggest(split, names)}")
    return names[split]


def require_unique(ids: Sequence[str], noun: str, source: str) -> None:
    """`UserError` for the first id that occurs twice."""
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for value in ids:
        if value in seen:
            raise UserError(f"{source}: {noun} id {value!r} occurs twice: give each {noun} its own id")
        seen.add(value)


def shown(value: Any) -> str:
    """A value as errors show it: in Python's writing, and of 80 characters at most."""
    words = repr(value)
    return words if len(words) <= 80 else words[:77] + "..."
