"""Files of captions or references as records, or as the one JSON object that they are.

JSON, JSON Lines and tables with a header are read. What a file is shows in its content, so that its name does not
matter. A byte order mark and Windows' line ends are no part of it. Whatever cannot be read as it stands is a
`UserError` of one line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import UserError
from ..core.files import UNWANTED, regular
from ..corpus.records import lines_of, shown


class Row(NamedTuple):
    """A record. place: where it stands, for errors: `list[3]`, `line 4`."""

    place: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Content:
    """What a file holds. source: its name, for errors. kind: of file, in words.

    rows: its records, in order. whole: a JSON object that is none.
    """

    source: str
    kind: str
    rows: tuple[Row, ...] = ()
    whole: dict[str, Any] | None = None

    def column(self, names: Sequence[str], what: str) -> str:
        """The one of these keys that the first record has; `UserError` where it has none, or several."""
        columns = self.rows[0].values
        found = [name for name in names if name in columns]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{self.source}: {self.rows[0].place} has {' and '.join(map(repr, found))}, each of which "
                            f"may hold {what}: keep one of them")
        there = ", ".join(map(shown, list(columns)[:10])) or "nothing"
        raise UserError(f"{self.source}, {self.kind}: no {what} in {self.rows[0].place}, which has {there}: name a "
                        f"column {' or '.join(names[:4])}")


def read_content(file: Path) -> Content:
    """Read a file, also one that gzip packed (`.gz`)."""
    text, source = _text(file), str(file)
    begin = text.lstrip()[:1]
    if not begin:
        raise UserError(f"{source} is empty: name a file that holds captions")
    if begin == "[":
        return _listed(_json(text, source), source)
    if begin != "{":
        rows = tuple(_table(text, source))
        if not rows:
            raise UserError(f"{source} is neither JSON nor a table of a header and rows: name a file of captions in "
                            "one of these")
        return Content(source, "table", rows)
    lines = [(number, line) for number, line in enumerate(lines_of(text), 1) if line.strip()]
    named = file.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
    if (named or len(lines) > 1) and _is_object(lines[0][1]):
        return Content(source, "JSON Lines", tuple(
            Row(place, _record(_json(line, f"{source}, {place}"), source, place))
            for place, line in ((f"line {number}", line) for number, line in lines)))
    return Content(source, "JSON object", whole=_json(text, source))


def text_of(row: Row, key: str, source: str) -> str:
    """The caption at a key of a record."""
    return sentence(row.values.get(key), f"{source}, {row.place}: {key!r}")


def sentence(value: Any, where: str) -> str:
    """The value, if it is a string; it may be an empty one."""
    if not isinstance(value, str):
        raise UserError(f"{where} is {shown(value)}, expected a string: correct it")
    return value


def id_of(value: Any, where: str) -> str:
    """An id as text, whole number or string there: 7 and "7" are one id."""
    name = str(value).strip() if type(value) is int or isinstance(value, str) else ""
    if not name or UNWANTED.search(name):
        raise UserError(f"{where} is {shown(value)}, expected a whole number or a name: correct it")
    return name


def _text(file: Path) -> str:
    try:
        with regular(file).open("rb") as stream:
            content = gzip.decompress(stream.read()) if file.name.lower().endswith(".gz") else stream.read()
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{file} is missing: name a file that is there") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{file}, line {line}: byte 0x{error.object[error.start]:02x} at offset {error.start} is not "
                        "UTF-8: convert the file to UTF-8") from None
    except (OSError, EOFError, zlib.error, ValueError) as error:  # ValueError: a name with a null byte
        raise UserError(f"{file} cannot be read ({error}): name a whole and readable file") from None


def _json(text: str, where: str) -> Any:
    """What a JSON text holds. A key that an object has twice is refused: json itself would keep the last one alone."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise UserError(f"{where}: {twice!r} occurs twice in one object: keep one of the two")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    # ValueError also stands for numbers of thousands of digits, RecursionError for thousands of brackets.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON ({error}): restore the file") from None


def _is_object(line: str) -> bool:
    """Whether a line is a whole JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _listed(values: list[Any], source: str) -> Content:
    if not values:
        raise UserError(f"{source} is an empty list: name a file that holds captions")
    places = [f"list[{i}]" for i in range(len(values))]
    return Content(source, "JSON list", tuple(Row(place, _record(value, source, place))
                                              for place, value in zip(places, values, strict=True)))


def _record(value: Any, source: str, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{source}: {place} is {shown(value)}, expected an object with an id and a caption: correct it")
    return value


def _table(text: str, source: str) -> Iterator[Row]:
    """The rows below a header; a tab in the header separates columns, else a comma.

    Quotation marks are those of RFC 4180.
    """
    header: list[str] = []
    delimiter = "\t" if "\t" in text.lstrip().splitlines()[0] else ","
    reader, line = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1
    try:
        for row in reader:
            place, line = f"line {line}", reader.line_num + 1
            if not row:
                continue
            if not header:
                header = [column.strip().lower() for column in row]
                if len(set(header)) != len(header):
                    raise UserError(f"{source}: a column occurs twice in the header {shown(','.join(row))}: rename "
                                    "one of the two")
                continue
            if len(row) != len(header):
                raise UserError(f"{source}, {place}: the row has {len(row)} columns, the header {len(header)}: "
                                "correct it, and quote captions that hold what separates columns")
            yield Row(place, dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise UserError(f"{source}, line {line}: the row that begins here cannot be read ({error}): close its "
                        "quotation marks, and double those inside of them") from None
