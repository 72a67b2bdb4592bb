"""Which images the report shows, and the images themselves as data URIs."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import asdict, dataclass

from PIL import Image

from ..core import paths
from ..core.artefacts import whole_if_sealed
from ..images import Source, locate, open_image
from ..videos import is_video, open_frames, strip
from .data import Result, SettingResults

SHOWN = 8
EXTREMES = 4
_LONGEST = 256
_TINY = 128  # up to here an image is enlarged by the browser, each pixel a square


@dataclass(frozen=True)
class Caption:
    """A system's sentence for an image, and its primary metric."""

    system: str
    text: str
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
    """The same few images for every setting on a data set, whatever the systems say; captions of all systems, best system first."""
    # Hashes, because the order of a library's random draw may change with its version and this one must not.
    order = sorted(setting.references, key=lambda image_id: hashlib.sha256(f"pictures {seed} {image_id}".encode()).digest())
    return [_picture(setting, image_id, tuple(reversed(setting.results))) for image_id in order[:SHOWN]]


def extremes(setting: SettingResults, result: Result) -> tuple[list[Picture], list[Picture]]:
    """The images with the highest and with the lowest score of one system; ties by image id, no image in both."""
    best = sorted(result.items, key=lambda image_id: (-result.items[image_id], image_id))[:EXTREMES]
    worst = sorted(result.items.keys() - set(best), key=lambda image_id: (result.items[image_id], image_id))[:EXTREMES]
    return ([_picture(setting, image_id, (result,)) for image_id in best],
            [_picture(setting, image_id, (result,)) for image_id in worst])


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


def _picture(setting: SettingResults, image_id: str, results: tuple[Result, ...]) -> Picture:
    image = embed(locate(whole_if_sealed(paths.raw(setting.setting.test)), setting.files[image_id]), setting.frames)
    captions = tuple(Caption(r.system.name, r.captions[image_id], r.items[image_id]) for r in results)
    return Picture(**asdict(image), image_id=image_id, references=tuple(setting.references[image_id]), captions=captions)


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
