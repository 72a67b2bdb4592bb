"""Captions in rows: CSV, TSV, JSON Lines, lists of JSON objects, Parquet, and Flickr8k's and Flickr30k's token files.

Readers as `readers.py` describes them. A row names a file, its captions (one, or a list) and perhaps its split; ids of images are the
files' names as written, those of captions `file#k`, k from 0. Where no column names files, ids of captions are the numbers of their rows.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import UserError
from ..core.files import UNWANTED
from ..core.params import suggest
from .records import Caption, Image, Options, Records, listed_splits, parse_json, shown
from .sources import Source

T = TypeVar("T")
_SPLITS = {
    "train": "train", "restval": "restval", "val": "val", "valid": "val", "validate": "val", "validation": "val", "dev": "val",
    "test": "test", "unlabelled": "unlabelled",
}
_COLUMNS = {
    "file": ("video", "clip", "image", "file", "file_name", "filename", "path"),
    "caption": ("caption", "text", "sentence", "description", "captions", "sentences"),
    "split": ("split",),
}
"""The names that columns have where `Options.columns` gives none."""
_UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError, KeyError)  # what Arrow raises on damaged Parquet files
_FLICKR = re.compile(r"([^\t|#]+?)(?:#\d+\t|\| ?\d+(?:\| ?| +))(.*)")
_FLICKR_HEADER = "image_name| comment_number| comment"


class _Row(NamedTuple):
    """number: of the row, for errors. file, split: None where no column holds them."""

    number: int
    file: Any
    captions: Any
    split: Any = None


def read_table(source: Source, options: Options) -> Records:
    """A table with a row for each caption, whose header names columns of files, of captions, perhaps of splits.

    Other columns are ignored. What separates them is a tab where the source's name ends in .tsv or the header has one, else a comma;
    quotation marks are those of RFC 4180. Where `options.columns` are numbers there is no header, and in a table with tabs, such as
    Conceptual Captions', quotation marks are then part of the text. An "unlabelled" row has no caption and only lists its file.
    """
    headless = any(isinstance(column, int) for column in options.columns.values())
    cells = cells_of(source, headless)
    ahead = _ahead(cells, lambda pair: pair[1])
    header = ahead[-1][1] if ahead else []
    if not header:
        raise UserError(f"{source} is empty: give it a header of column names and a row for each caption")
    at = _numbered(len(header), options, source) if headless else _named(header, options, source, "its header has")

    def read() -> Iterator[_Row | None]:
        for line, row in itertools.chain(ahead if headless else ahead[:-1], cells):
            if row and len(row) != len(header):
                raise UserError(f"{source}, line {line}: the row has {len(row)} columns, the {'first' if headless else 'header'} "
                                f"{len(header)}: correct it, and quote captions that hold what separates columns")
            yield _Row(line, *(None if i is None else row[i] for i in at)) if row else None

    return _gathered(read(), source, options, "line", at)


def read_jsonl(source: Source, options: Options) -> Records:
    """JSON Lines: an object a line, with columns named as in a table; a caption may be a list of them."""
    lines = ((i, parse_json(line, f"{source}, line {i}") if line.strip() else None) for i, line in enumerate(source.lines(), 1))
    return read_objects_of(lines, source, options, "line")


def read_objects_of(records: Iterable[tuple[int, Any]], source: Source, options: Options, noun: str) -> Records:
    """JSON objects with their numbers, None for a blank line; columns are named as in a table, by the first object's keys."""
    records = iter(records)
    ahead = _ahead(records, lambda pair: pair[1] is not None)
    names = list(first) if ahead and isinstance(first := ahead[-1][1], dict) else []
    keys = [None if i is None else names[i] for i in _named(names, options, source, "its first record has")]

    def read() -> Iterator[_Row | None]:
        for i, record in itertools.chain(ahead, records):
            if record is None:
                yield None
                continue
            for key in keys:
                if key is not None and (not isinstance(record, dict) or key not in record):
                    raise UserError(f"{source}, {noun} {i}: no {key!r} in {shown(record)}: correct the record, or choose another format")
            yield _Row(i, *(None if key is None else record[key] for key in keys))

    return _gathered(read(), source, options, noun, keys)


def read_parquet(source: Source, options: Options) -> Records:
    """A Parquet file with columns named as in a table; a caption may be a list of them."""
    file, names = open_parquet(source)
    at = _named(names, options, source, "it has")
    wanted = [names[i] for i in at if i is not None]

    def read() -> Iterator[_Row]:
        number, size = itertools.count(1), 0
        try:
            for batch in file.iter_batches(columns=wanted):
                size += batch.nbytes
                if size > source.limit:
                    raise UserError(f"{source} unpacks to over {source.limit} bytes, more than max_bytes: raise it, or replace the file")
                columns = [itertools.repeat(None) if i is None else batch.column(names[i]).to_pylist() for i in at]
                for values in zip(*columns, strict=False):
                    yield _Row(next(number), *values)
        except _UNREADABLE as error:
            raise _damaged(source, error) from None

    return _gathered(read(), source, options, "row", at)


def open_parquet(source: Source) -> tuple[pq.ParquetFile, list[str]]:
    """The file, and the names of its columns."""
    try:
        file = pq.ParquetFile(source.path())
        return file, file.schema_arrow.names
    except _UNREADABLE as error:
        raise _damaged(source, error) from None


def read_flickr(source: Source, options: Options) -> Records:
    """Flickr8k's and Flickr30k's captions: `1.jpg#0`, a tab and a caption, or `1.jpg| 0| caption` (Kaggle's results.csv).

    One line of results.csv lacks its second divider, and is read all the same. `options.lists` are Flickr8k's lists of splits.
    """

    def read() -> Iterator[_Row | None]:
        for i, line in enumerate(source.lines(), 1):
            if i == 1 and line.strip() == _FLICKR_HEADER:
                continue
            if not line.strip():
                yield None
            elif found := _FLICKR.fullmatch(line):
                yield _Row(i, found[1], found[2])
            else:
                raise UserError(f"{source}, line {i}: {shown(line)} is no picture's name, number and caption: correct it, or choose "
                                "another format")

    return _gathered(read(), source, options, "line", (0, 2, None))


def is_flickr(line: str) -> bool:
    """Whether a file that begins with this line is one of Flickr's."""
    return line.strip() == _FLICKR_HEADER or _FLICKR.fullmatch(line) is not None


def _gathered(rows: Iterable[_Row | None], source: Source, options: Options, noun: str, columns: Sequence[Any]) -> Records:
    """The records of rows, None for a blank one. columns: where files, captions and splits stand, None for what no column holds."""
    named, _, divided = (column is not None for column in columns)
    captions: list[Caption] = []
    splits: dict[str, str] = {}
    counts, blank, unlisted, listed = Counter[str](), 0, 0, listed_splits(options.lists)
    for row in rows:
        if row is None:
            blank += 1
            continue
        number, name, sentences, written = row
        sentences = sentences if isinstance(sentences, list) else [sentences]
        for sentence in sentences:
            if not isinstance(sentence, str | None):
                raise UserError(f"{source}, {noun} {number}: the caption is {shown(sentence)}, expected a text: correct it, or name the "
                                "column of captions in `columns`")
        own = _split(written, source, noun, number) if divided else options.split
        if not named:
            ids = [str(number)] if len(sentences) == 1 else [f"{number}#{k}" for k in range(len(sentences))]
            captions += [Caption(caption_id, None, sentence, own) for caption_id, sentence in zip(ids, sentences, strict=True)]
            continue
        name = _file(name, source, noun, number)
        if listed:
            if name not in listed:
                unlisted += len(sentences)
                continue
            own = listed[name]
        if splits.setdefault(name, own) != own:
            raise UserError(f"{source}, {noun} {number}: {shown(name)} is {own} here and {splits[name]} before: "
                            "give all rows of a file one split")
        if own != "unlabelled":
            captions += [Caption(f"{name}#{k}", name, sentence, own) for k, sentence in enumerate(sentences, counts[name])]
            counts[name] += len(sentences)
        elif any(sentence and sentence.strip() for sentence in sentences):
            raise UserError(f"{source}, {noun} {number}: {shown(name)} is unlabelled and yet has a caption: "
                            "remove it, or give another split")
    if listed and unlisted and not splits:
        raise UserError(f"{source}: none of its files is in {', '.join(own.name for own in options.lists)}: correct source or lists")
    images = [Image(name, name, own) for name, own in (splits | listed).items()]
    return Records(captions, images, noun="caption" if splits or listed else noun, blank=blank, own_splits=divided or bool(listed),
                   unlisted=unlisted if listed else None)


def _ahead(items: Iterator[T], filled: Callable[[T], Any]) -> list[T]:
    """What comes before the first filled item, and that item."""
    found = []
    for item in items:
        found.append(item)
        if filled(item):
            break
    return found


def cells_of(source: Source, headless: bool) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of the line that it begins in; blank lines are rows of no columns."""
    lines = source.lines(ends=True)
    ahead = _ahead(lines, lambda text: text.strip("\r\n"))
    tabs = source.name.lower().removesuffix(".gz").endswith(".tsv") or (bool(ahead) and "\t" in ahead[-1])
    reader = csv.reader(itertools.chain(ahead, lines), delimiter="\t" if tabs else ",", strict=True,
                        quoting=csv.QUOTE_NONE if tabs and headless else csv.QUOTE_MINIMAL)
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{source}, line {line}: the row that begins here cannot be read ({error}): "
                        "close its quotation marks, and double those inside of them") from None


def _named(names: Sequence[str], options: Options, source: Source, whose: str) -> tuple[int | None, int, int | None]:
    """Where the columns of files, captions and splits stand among these names; None where there is none."""
    chosen = options.columns
    file = _column(names, "file", chosen, source, whose) if not chosen or "file" in chosen else None
    caption = _column(names, "caption", chosen, source, whose)
    divided = "split" in chosen or (not chosen and any(_is_named(name, _COLUMNS["split"]) for name in names))
    return file, caption, _column(names, "split", chosen, source, whose) if divided else None


def _column(names: Sequence[str], role: str, chosen: Mapping[str, str | int], source: Source, whose: str) -> int:
    """Where the one column stands that was chosen for this role, or has one of its usual names."""
    if role in chosen:
        found = [i for i, name in enumerate(names) if name.strip() == chosen[role]]
    else:
        found = [i for i, name in enumerate(names) if _is_named(name, _COLUMNS[role])]
    if len(found) == 1:
        return found[0]
    if found:
        alike = ", ".join(shown(names[i]) for i in found)
        raise UserError(f"{source}: {len(found)} columns of {role}s, {alike}: rename all but one, or say in `columns` which is meant")
    if role in chosen:
        raise UserError(f"{source}: no column {chosen[role]!r}{suggest(str(chosen[role]), names)}")
    there = ", ".join([*(shown(name) for name in names[:20]), *(["..."] if len(names) > 20 else [])])
    raise UserError(f"{source}: no column of {role}s; {whose} {there or 'none'}: name one {' or '.join(_COLUMNS[role])}, separate columns "
                    "by commas or tabs, or say in `columns` which are meant")


def _is_named(column: str, names: Sequence[str]) -> bool:
    return column.strip().lower() in names


def _numbered(width: int, options: Options, source: Source) -> tuple[int | None, int, int | None]:
    """Where the columns of files, captions and splits stand, by their numbers in `options`; None where there is none."""
    for role, number in options.columns.items():
        if not isinstance(number, int) or number > width:
            raise UserError(f"{source}: columns.{role} is {number!r}, and the table has {width} columns: give numbers from 1, or names, "
                            "which its header then has")
    if "caption" not in options.columns:
        raise UserError(f"{source}: columns numbers no column of captions: add caption to it")
    at = {role: int(number) - 1 for role, number in options.columns.items()}
    return at.get("file"), at["caption"], at.get("split")


def _split(written: Any, source: Source, noun: str, number: int) -> str:
    own = written.strip().lower() if isinstance(written, str) else ""
    if own not in _SPLITS:
        raise UserError(f"{source}, {noun} {number}: unknown split {shown(written)}{suggest(own, _SPLITS)}")
    return _SPLITS[own]


def _file(written: Any, source: Source, noun: str, number: int) -> str:
    name = str(written) if type(written) is int else written
    if not isinstance(name, str) or not name.strip() or UNWANTED.search(name):
        raise UserError(f"{source}, {noun} {number}: {shown(written)} is no file's name: correct the row")
    return name


def _damaged(source: Source, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{source} cannot be read as Parquet ({reason}): restore the file, or choose another format")
