"""Folders of data sets whose pictures nobody looks at, and the tables that come of them."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image


def picture(kind: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    """The bytes of a plain picture."""
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, kind)
    return out.getvalue()


def touch(folder: Path, *names: str) -> None:
    """Videos of these names, which extraction does not open."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def rows(out: Path, table: str) -> list[dict[str, str]]:
    """The rows of a table that was extracted."""
    found: list[dict[str, str]] = pq.read_table(out / f"{table}.parquet").to_pylist()
    return found
