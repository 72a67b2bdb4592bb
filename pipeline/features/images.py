"""Opening pictures as people have them: any size, any mode, sometimes broken."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from PIL import Image, ImageOps

from pipeline.core.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_LONGEST_SIDE_RATIO = 16


def open_image(path: Path) -> Image.Image:
    """A picture as RGB: EXIF rotation applied, transparency over white, 16-bit grey scaled, extreme strips cut to their middle.

    Raises `UserError` naming the file when it is missing, truncated, too large or not a picture.
    """
    try:
        with Image.open(path) as file:
            if Image.MAX_IMAGE_PIXELS and file.width * file.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{file.width} x {file.height} pixels, more than {Image.MAX_IMAGE_PIXELS}")
            file.load()
            image = ImageOps.exif_transpose(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    # Pillow's readers let the errors of what they call through
    except (OSError, ValueError, SyntaxError, TypeError, LookupError, EOFError, struct.error, zlib.error,
            Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable picture ({' '.join(str(error).split())})") from None
    return _cut_strip(_to_rgb(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        _, high = image.getextrema()
        # plain conversion would clip 16-bit grey to white
        scale = 255.0 / max(float(high) if isinstance(high, (int, float)) else 255.0, 255.0)
        return image.convert("F").point(lambda value: value * scale).convert("L").convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _cut_strip(image: Image.Image) -> Image.Image:
    """CLIP looks at the middle square: without this, a 1 x 50,000 strip would be enlarged to gigabytes before the rest is cut off."""
    width, height = image.size
    longest = min(width, height) * _LONGEST_SIDE_RATIO
    if max(width, height) <= longest:
        return image
    return ImageOps.fit(image, (min(width, longest), min(height, longest)), method=Image.Resampling.NEAREST)


def list_images(path: Path) -> list[Path]:
    """The picture itself, or a folder's pictures by name, sub-folders included; a folder without any is a `UserError`."""
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"{path}: no pictures in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    return found
