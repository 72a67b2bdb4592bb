"""Pages that commands write where they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import UserError
from ..core.files import replace


@contextmanager
def new_page(file: Path) -> Iterator[Callable[[str], None]]:
    """Takes a page's HTML and puts it there whole.

    Raises `UserError` at once for a file that is no page, or cannot be.
    """
    if file.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{file} is no name of a page: let it end in .html")
    partial = file.with_name(f"{file.name}.partial")
    try:
        partial.touch()
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}): name a file in a folder that is there") from None

    def write(html: str) -> None:
        # halves of surrogate pairs, which JSON can hold, have no UTF-8 form
        partial.write_text(html, encoding="utf-8", errors="backslashreplace", newline="\n")
        replace(partial, file)

    try:
        yield write
    finally:
        partial.unlink(missing_ok=True)
