"""Which images the report shows, and the images themselves as data URIs."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from PIL import Image

from ..core import paths
from ..core.artefacts import whole_if_sealed
from ..images import Source, locate, open_image
from ..videos import is_video, open_frames, strip
from .data import Result, SettingResults
from .marks import Piece, mark

SHOWN = 6
EXTREMES = 4
_LONGEST = 256
_TINY = 128  # up to here an image is enlarged by the browser, each pixel a square


@dataclass(frozen=True)
class Caption:
    """A system's sentence for an image, in pieces by what is right of it, and its primary metric."""

    system: str
    pieces: tuple[Piece, ...]
    score: float


@dataclass(frozen=True)
class Embedded:
    """An image file inside the page, or a strip of a video's key frames. source: data URI. tiny: to be enlarged without smoothing."""

    source: str
    width: int
    height: int
    tiny: bool
    strip: bool


@dataclass(frozen=True)
class Picture(Embedded):
    """An image with its references and captions."""

    image_id: str
    references: tuple[str, ...]
    captions: tuple[Caption, ...]


def chosen(setting: SettingResults, seed: int) -> list[Picture]:
    """The same few images for every setting on a data set, whatever the systems say; captions of all systems, as `in_groups`."""
    # Hashes, because the order of a library's random draw may change with its version and this one must not.
    order = sorted(setting.references, key=lambda image_id: hashlib.sha256(f"pictures {seed} {image_id}".encode()).digest())
    return _pictures(setting, order[:SHOWN], setting.in_groups)


def extremes(setting: SettingResults, result: Result) -> tuple[list[Picture], list[Picture]]:
    """The images with the highest and with the lowest score of one system; ties by image id, no image in both."""
    best = sorted(result.items, key=lambda image_id: (-result.items[image_id], image_id))[:EXTREMES]
    worst = sorted(result.items.keys() - set(best), key=lambda image_id: (result.items[image_id], image_id))[:EXTREMES]
    pictures = _pictures(setting, [*best, *worst], [result])
    return pictures[: len(best)], pictures[len(best) :]


def embed(file: Source, frames: int) -> Embedded:
    """An image file for the page, a large one as its thumbnail, and a video as a strip of so many key frames; `UserError` for a missing or
    broken one."""
    if is_video(file.name):
        image = strip(open_frames(file, frames), _LONGEST // 2)
        return Embedded(_data_uri(image), image.width, image.height, tiny=False, strip=True)
    image = open_image(file)
    tiny = max(image.size) <= _TINY
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return Embedded(_data_uri(image), image.width, image.height, tiny, strip=False)


def _pictures(setting: SettingResults, image_ids: Sequence[str], results: Sequence[Result]) -> list[Picture]:
    dataset = setting.setting.test
    marked = mark(dataset, setting.references, {image_id: [result.captions[image_id] for result in results] for image_id in image_ids})
    folder = whole_if_sealed(paths.raw(dataset))
    return [Picture(**asdict(embed(locate(folder, setting.files[image_id]), setting.frames)), image_id=image_id,
                    references=tuple(setting.references[image_id]),
                    captions=tuple(Caption(result.system.name, tuple(pieces), result.items[image_id])
                                   for result, pieces in zip(results, marked[image_id], strict=True))) for image_id in image_ids]


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
