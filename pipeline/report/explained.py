"""`unpaired caption --page`: pictures with their captions and the reasons for them, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.core.errors import UserError
from pipeline.photographs import Show
from pipeline.report.pictures import embed

_FOLDER = Path(__file__).parent


@contextmanager
def explained_page(file: Path, system: str) -> Iterator[Show]:
    """Takes what is shown to it, and at the end writes the page. Raises `UserError` where it cannot be written, before anything is done."""
    if not file.parent.is_dir() or file.is_dir():
        raise UserError(f"{file} cannot be written: name a file in a folder that is there")
    shown: list[dict[str, Any]] = []

    def show(picture: Path, caption: str, reason: dict[str, Any]) -> None:
        shown.append({"name": picture.name, "image": embed(picture), "caption": caption, **reason})

    yield show
    # every placeholder is escaped: captions and names are text, whatever they hold
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)
    html = environment.get_template("explained.html.j2").render(shown=shown, system=system,
                                                                style=Markup((_FOLDER / "style.css").read_text("utf-8")))
    file.write_text(html, encoding="utf-8", newline="\n")
