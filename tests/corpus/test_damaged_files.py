"""Every reader takes a damaged file as it is or refuses it in one line, and accounts for each caption; `ROUNDS=200` tries 200 of each."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.core.params import check
from pipeline.corpus.extract import ExtractParams, examine, read
from pipeline.corpus.inspect import inspect
from tests.corpus.formats import EXAMPLES, Example

ROUNDS = int(os.environ.get("ROUNDS", "4"))


def _flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _lines_mixed(content: bytes, chance: random.Random) -> bytes:
    """Lines twice, gone, or elsewhere."""
    lines = content.splitlines(keepends=True)
    for _ in range(chance.randint(1, 4)):
        line = chance.choice(lines)
        chance.choice([lines.append, lambda line: lines.insert(chance.randrange(len(lines)), line)])(line)
        del lines[chance.randrange(len(lines)) :][: chance.randint(0, 1)]
    return b"".join(lines)


def _encodings_mixed(content: bytes, chance: random.Random) -> bytes:
    """A part of the file in another encoding, with a mark, or with the characters that editors and terminals stumble over."""
    start = chance.randrange(len(content))
    stop = min(len(content), start + chance.randint(1, 200))
    part = content[start:stop].decode("utf-8", "replace")
    other = chance.choice([part.encode("utf-16"), part.encode("latin-1", "replace"), b"\xef\xbb\xbf" + part.encode(), part.upper().encode(),
                           part.replace("a", "\u2028\x85\0").encode(), part.replace(" ", "\r").encode(), b'"' + part.encode(), b"null"])
    return content[:start] + other + content[stop:]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flipped, lambda content, chance: content[: chance.randrange(len(content))], _lines_mixed, _encodings_mixed,
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_a_damaged_file_is_refused_in_one_line_or_all_its_captions_are_accounted_for(tmp_path: Path, example: Example) -> None:
    example.write(tmp_path)
    victims = [name for name in example.files if not name.endswith((".mp4", ".avi"))]
    chance = random.Random(example.source)
    params = check(ExtractParams, {**example.entry, "source": example.source, "bad_captions": "skip", "bad_images": "skip"}, "mine")
    for _ in range(ROUNDS):
        name = chance.choice(victims)
        content = example.files[name]
        for _ in range(chance.randint(1, 2)):
            content = chance.choice(DAMAGES)(content or b" ", chance)
        (tmp_path / name).write_bytes(content)
        line = _refusal(tmp_path, params)
        assert "\n" not in line, content
        assert "\n" not in _said_wrongly(tmp_path / example.source), content
        (tmp_path / name).write_bytes(example.files[name])


def _refusal(folder: Path, params: ExtractParams) -> str:
    """The line that refuses what lies there; "" where it is extracted and all of it accounted for."""
    try:
        report = examine(folder, params).report
    except UserError as error:
        return str(error)
    tables = report["corpus"], report["references"]
    assert all(table["read"] == table["kept"] + table["skipped"] + table["beyond_limit"] for table in tables)
    assert sum(table["skipped"] for table in tables) == len(report["skipped"])
    assert sum(table["read"] for table in tables) + report["other_splits"] == len(read(folder, params).captions)
    return ""


def _said_wrongly(place: Path) -> str:
    """The line with which `inspect` refuses what lies there; "" where what it says is what extraction finds."""
    try:
        found = inspect(place)
    except UserError as error:
        return str(error)
    report = examine(found.raw, check(ExtractParams, found.entry, "mine")).report
    assert report["corpus"]["kept"] + report["references"]["kept"] == found.captions
    assert sum(report["images"].values()) == found.pictures
    return ""
