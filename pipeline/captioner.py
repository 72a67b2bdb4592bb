"""`from unpaired import Captioner`: pictures in, captions out, in anybody's program."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from .core import paths
from .core.errors import UserError
from .core.params import load
from .photographs import Seer
from .portable import SYSTEM, inside

Picture = str | PathLike[str] | Image.Image


class Captioner:
    """A captioner that `unpaired fit` made.

        captioner = Captioner.load("captioner/")
        captioner.caption(["photo.jpg", PIL.Image.open("other.png")])
    """

    def __init__(self, seer: Seer) -> None:
        self._seer = seer

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Captioner:
        """From its folder, wherever that lies. Raises `unpaired.UserError` (one line) for a folder that is damaged or holds none.

        While it loads, the process's current folder is another one. Weights go to the device that UNPAIRED_DEVICE names.
        """
        with inside(Path(folder)):
            return cls(Seer(SYSTEM, None, load(), model=paths.model(SYSTEM).absolute()))

    def caption(self, pictures: Sequence[Picture]) -> list[str]:
        """A caption for each picture or video, in their order. They are opened and looked at in batches.

        Raises `unpaired.UserError` for the first that cannot be read.
        """
        seer, captions = self._seer, list[str]()
        for start in range(0, len(pictures), seer.batch):
            seen, _ = seer.eyes.see([self._opened(picture) for picture in pictures[start : start + seer.batch]])
            captions += seer.captioner.caption(seen, seer.support, seer.decoding)
        return captions

    def _opened(self, picture: Picture) -> list[list[Any]]:
        return [self._seer.eyes.prepare(_rgb(picture))] if isinstance(picture, Image.Image) else self._seer.eyes.open(Path(picture))


def _rgb(picture: Image.Image) -> Image.Image:
    """A picture in memory as it would be opened: upright, transparency over white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        raise UserError(f"a picture of mode {picture.mode} does not say which value is white: convert it to L or RGB, or give its file")
    upright = ImageOps.exif_transpose(picture).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
