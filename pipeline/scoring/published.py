"""Figures that papers print, as data (`published.yaml`), to stand beside one's own where the test set is the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ..core.errors import UserError
from ..core.params import suggest


@dataclass(frozen=True)
class Published:
    """A row of a paper's table. figures: by metric, in this project's scale (0 to 100), what the paper has of them."""

    method: str
    figures: dict[str, float]
    source: str
    caveats: tuple[str, ...]


@cache
def _file() -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return content


def settings() -> dict[str, str]:
    """What there are figures of, by name: data set and split."""
    return {name: setting["what"] for name, setting in _file()["settings"].items()}


def metrics() -> tuple[str, ...]:
    """The columns of papers' tables."""
    return tuple(_file()["columns"])


def published(setting: str) -> list[Published]:
    """The rows of a setting, by CIDEr; an unknown one is a `UserError` with the nearest known one."""
    file = _file()
    if setting not in file["settings"]:
        raise UserError(f"there are no published figures of {setting!r}{suggest(setting, file['settings'])}")
    rows = []
    for method, source, *rest in file["settings"][setting]["rows"]:
        values, caveats = rest[:len(metrics())], [caveat for names in rest[len(metrics()):] for caveat in names]
        paper, _, table = source.partition(" ")
        rows.append(Published(method, {name: value for name, value in zip(metrics(), values, strict=True) if value is not None},
                              f"{file['sources'][paper]} {table}", tuple(file["caveats"][caveat] for caveat in caveats)))
    return sorted(rows, key=lambda row: row.figures["CIDEr"])


def as_json(setting: str) -> list[dict[str, Any]]:
    """The rows as JSON has them."""
    return [asdict(row) for row in published(setting)]


def as_text(setting: str) -> str:
    """The rows as people read them in a terminal, sources and caveats below."""
    rows = published(setting)
    notes = list(dict.fromkeys(note for row in rows for note in (row.source, *row.caveats)))
    width = max(len(row.method) for row in rows)
    lines = [f"published, {settings()[setting]}:", " ".join([f"{'':{width}}", *(f"{name:>7}" for name in metrics())])]
    for row in rows:
        figures = (f"{row.figures[name]:7.1f}" if name in row.figures else f"{'-':>7}" for name in metrics())
        marks = ", ".join(str(notes.index(note) + 1) for note in (row.source, *row.caveats))
        lines.append(" ".join([f"{row.method:{width}}", *figures, f" [{marks}]"]))
    return "\n".join([*lines, *(f"[{number}] {note}" for number, note in enumerate(notes, start=1))])
