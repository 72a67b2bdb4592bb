"""A picture of a few bytes, for data sets whose pictures nobody looks at."""

from __future__ import annotations

import io

from PIL import Image


def picture(kind: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    """The bytes of a plain picture."""
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, kind)
    return out.getvalue()
