"""Sheets and raters' answers for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.core.files import write_json
from pipeline.human.ratings import checksum
from pipeline.human.sheet import Pair
from pipeline.report.pictures import Embedded

PIXEL = Embedded("data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7", 64, 64, tiny=True, strip=False)
SHEET = "5eed5eed5eed5eed"


def pairs(count: int) -> list[Pair]:
    """Pictures of one pixel, whose captions say which they are."""
    return [Pair(str(i), f"caption a of {i}", f"caption b of {i}", PIXEL) for i in range(1, count + 1)]


def write_key(file: Path, sides: str) -> Path:
    """A key whose n-th picture has, for "x", the first system's caption as A, for "y" the second's."""
    items = [{"id": str(i), "image_id": f"image {i}", "a": side} for i, side in enumerate(sides, 1)]
    write_json(file, {"sheet": SHEET, "systems": ["x", "y"], "items": items})
    return file


def write_answers(file: Path, distinctive: str, informative: str = "", called: str | None = None, **changes: Any) -> Path:
    """Answers to a key's pictures in their order: a, b, n for neither, space for none."""
    choices: dict[str, dict[str, str]] = {}
    for name, letters in (("distinctive", distinctive), ("informative", informative or distinctive)):
        for i, letter in enumerate(letters, 1):
            if letter != " ":
                choices.setdefault(str(i), {})[name] = "neither" if letter == "n" else letter
    who = called or file.stem
    ids = [str(i) for i in range(1, len(distinctive) + 1)]
    record = {"sheet": SHEET, "rater": who, "copy": f"copy of {file.stem}", "answers": choices}
    record = {**record, "check": checksum(SHEET, who, record["copy"], choices, ids), **changes}
    file.write_text(json.dumps(record), encoding="utf-8")
    return file
