"""Reading the tables and caption files that stages hand to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from . import paths
from .artefacts import again, repair, whole
from .errors import UserError
from .files import read_json


def read_table(path: Path, columns: list[str]) -> dict[str, list[Any]]:
    """Columns of a Parquet table as lists; a missing, damaged or foreign table is a `UserError`."""
    if not path.exists():
        raise UserError(f"{path} is missing: run `dvc repro`")
    whole(path)
    try:
        result: dict[str, list[Any]] = pq.read_table(path, columns=columns).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:100]}): {repair(path.parent)}") from None
    if missing := [column for column in columns if column not in result]:
        raise UserError(f"{path} has no column {missing[0]!r}: it was made by another version, {again(path)}")
    return result


def read_captions(system: str, setting: str) -> dict[str, str]:
    """A captions file as image id -> caption; two captions for one image are a `UserError`."""
    file = paths.captions_file(system, setting)
    entries = read_json(whole(file))
    found = {str(entry["image_id"]): str(entry["caption"]) for entry in entries}
    if len(found) != len(entries):
        raise UserError(f"{file} has two captions for one image: {again(file)}")
    return found

