"""`unpaired caption --page`: pictures with their captions and the reasons for them, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.params import load, section
from ..features.frames import FrameParams
from ..photographs import Show, readable
from .pages import new_page
from .pictures import embed
from .templates import environment, style


@contextmanager
def explained_page(file: Path, system: str) -> Iterator[Show]:
    """Takes what is shown to it, and at the end writes the page. Raises `UserError` at once for a file that is no page, or cannot be."""
    with new_page(file) as write:
        shown: list[dict[str, Any]] = []
        frames = section(FrameParams, load(), "frames").count

        def show(picture: Path, caption: str, reason: dict[str, Any]) -> None:
            shown.append({"name": readable(Path(picture.name)), "image": embed(picture, frames), "caption": caption, **reason})

        yield show
        write(environment().get_template("explained.html.j2").render(shown=shown, system=system, style=style()))
