"""Opening pictures as people have them: any size, any mode, sometimes broken."""

from __future__ import annotations

import io
import re
import struct
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from .core.artefacts import repair
from .core.errors import UserError
from .core.files import file_inside, file_stamp, is_litter, regular
from .core.params import PARAMS_FILE, Count, StrictParams, check, load

T = TypeVar("T")
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".bmp",
    ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi",
})
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is refused by `open_image`
_LONGEST_SIDE_RATIO = 16
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_ABOVE = {255: 16, 65535: 4096}
"""What is white where a file does not say so, and the number that the picture's largest value must exceed to be taken so: the values of an
8-bit picture reach 17 unless it is all but black, and no picture of 0 to 1, or of 0 to 255, is ever taken for one of a wider range."""
_PNG_SAMPLES = {"L;2": 85.0, "L;4": 17.0, "RGB;16B": 1 / 256}
"""By Pillow's name of a PNG's layout: what makes 8 bits of a sample. Pillow applies it to the pixels, but not to the transparent colour."""


@dataclass(frozen=True)
class ImageParams(StrictParams):
    """How pictures are opened, by all that opens any: the section `images` of params.yaml, which may be left out."""

    max_pixels: Count = 89_478_485
    """A picture, or a frame of a video, may have so many pixels, 1 or more; the default is Pillow's. It keeps a small file from filling
    the memory."""


class Member(NamedTuple):
    """A picture inside an uncompressed tar file, as WebDataset keeps them. offset, size: of its bytes there."""

    tar: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}!{self.name}"


Source = Path | Member


def in_shard(name: str) -> tuple[str, str] | None:
    """Tar file and member of a name such as `shard.tar!member`; None for the name of a plain file."""
    found = re.fullmatch(r"(.+\.tar)!(.+)", name)
    return (found[1], found[2]) if found else None


def locate(folder: Path, name: str) -> Source:
    """Where the picture `name` of an image table lies: a file below `folder`, or for `shard.tar!member` a part of one.

    `folder` may be a link that the user made, and so may the file; a folder between them that is linked from elsewhere is refused.
    Raises `UserError` for a name that leaves the folder, a broken tar file, or a member that it does not hold.
    """
    shard = in_shard(name)
    if shard is None:
        return file_inside(folder, name)
    file, member = shard
    path = file_inside(folder, file)
    members = _members(path, _version(path))
    if member not in members:
        raise UserError(f"{path} holds no {member!r}: run `dvc repro`, or correct the record that names it")
    return Member(path, member, *members[member])


def _version(path: Path) -> tuple[int, ...]:
    """Changes when a file is exchanged; tar files are padded, so that their size says little."""
    if not path.exists():
        return ()
    about = path.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


@lru_cache(maxsize=1024)
def _members(tar: Path, version: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Offset and size of every file in a tar file. version: so that an exchanged file is read anew."""
    try:
        with tarfile.open(regular(tar), "r:") as file:
            return {member.name: (member.offset_data, member.size) for member in file if member.isreg()}
    except FileNotFoundError:
        raise UserError(f"{tar} is missing: run `dvc repro`") from None
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{tar} is no readable tar file ({error}): {repair(tar.parent)}") from None


def write_pictures(tar: Path, pictures: dict[str, Image.Image], texts: dict[str, str]) -> None:
    """A WebDataset shard: `<key>.png` and `<key>.txt` of each picture; the bytes depend on the pictures and texts alone."""
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as file:
        for key, picture in pictures.items():
            png = io.BytesIO()
            picture.save(png, "PNG")
            for suffix, content in (("png", png.getvalue()), ("txt", texts[key].encode())):
                about = tarfile.TarInfo(f"{key}.{suffix}")
                about.size = len(content)
                file.addfile(about, io.BytesIO(content))


def source_stamp(source: Source) -> tuple[str, int, int]:
    """Name, size and time of change: enough to notice that a picture was exchanged between a kill and the resumed run."""
    return (str(source), source.size, file_stamp(source.tar)[2]) if isinstance(source, Member) else file_stamp(source)


def open_image(path: Source) -> Image.Image:
    """A picture as RGB: EXIF rotation applied, transparency over white, 16-bit grey scaled, extreme strips cut to their middle.

    What `ImageParams` says is read from params.yaml, where there is one. Raises `UserError` naming the file when it is missing, truncated,
    too large, not a picture, or does not say which value is white.
    """
    limit = _limit_pixels()
    try:
        with Image.open(_bytes(path) if isinstance(path, Member) else regular(path)) as file:
            if file.width * file.height > limit:
                raise Image.DecompressionBombError
            samples = _PNG_SAMPLES.get(str(file.tile[0].args)) if file.format == "PNG" and file.tile else None
            file.load()
            if samples and (clear := file.info.get("transparency")) is not None:
                file.info["transparency"] = int(clear * samples) if isinstance(clear, int) else tuple(int(c * samples) for c in clear)
            image = _to_rgb(ImageOps.exif_transpose(file), file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a readable picture (of no kind that is known): save it as PNG with 8 bits a channel") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: not a readable picture (it has more than images.max_pixels = {limit} pixels: raise that in params.yaml, "
                        "or make the picture smaller)") from None
    # Pillow's readers let the errors of what they call through
    except (OSError, ValueError, SyntaxError, TypeError, LookupError, EOFError, ImportError, struct.error, zlib.error) as error:
        raise UserError(f"{path}: not a readable picture ({' '.join(str(error).split())})") from None
    return _cut_strip(image)


@lru_cache(maxsize=1)
def _limit_pixels() -> int:
    """The limit, of which Pillow is told too: it would refuse by its own."""
    params = load() if PARAMS_FILE.exists() else {}
    Image.MAX_IMAGE_PIXELS = check(ImageParams, params.get("images"), "images").max_pixels
    return Image.MAX_IMAGE_PIXELS


def prepared_ahead(sources: Sequence[Source], batch: int, prepare: Callable[[Source], T]) -> Iterator[list[T]]:
    """What is made of each file, a batch at a time, while the next batch is being made."""
    _limit_pixels()  # which `videos.py` asks Pillow for
    batches = [sources[start : start + batch] for start in range(0, len(sources), batch)]
    with ThreadPoolExecutor(4) as pool:
        ahead: list[Future[T]] = []
        for each in [*batches, []]:
            ready, ahead = ahead, [pool.submit(prepare, source) for source in each]
            if ready:
                yield [future.result() for future in ready]


def _bytes(member: Member) -> io.BytesIO:
    with member.tar.open("rb") as file:
        file.seek(member.offset)
        return io.BytesIO(file.read(member.size))


def _to_rgb(image: Image.Image, file: Image.Image) -> Image.Image:
    """`image` in 8 bits a channel. file: it as it was opened, which knows more of its format."""
    if 2 in (tags := getattr(file, "tag_v2", {})).get(_SAMPLE_FORMAT, ()) and max(tags[_BITS]) < 32:
        raise ValueError("numbers with a sign, of which none is surely white: save it with 8 bits a channel, without sign")
    if image.mode.startswith("I") or image.mode == "F":
        return _grey(image, file, tags).convert("RGB")
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.mode == "LAB":  # Pillow's own conversion, where it has one, is up to 25 levels off
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(lab, srgb, "LAB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE).apply(image)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image, file: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """A picture of 12, 16 or 32 bits a pixel in 8 bits: white is what the format says, or else what the largest value tells.

    Never the largest value itself, which would make a dark picture bright. `ValueError` where that value tells nothing.
    """
    values = np.asarray(image, np.float32)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and file.format == "PPM"):  # Pillow brings PPM's integers to 16 bits
        white = 4095 if tags.get(_BITS) == (12,) else 65535
    elif low >= 0 and high <= (1 if image.mode == "F" else 0):
        white = 1
    else:
        white = next((white for white, least in _WHITE_ABOVE.items() if low >= 0 and least < high <= white), 0)
    if not white:
        raise ValueError(f"values from {low:g} to {high:g}, of which none is surely white: save it with 8 bits a channel")
    shown = white - values if tags and not tags.get(_PHOTOMETRIC) else values  # which "min is white" turns round, and so does its absence
    grey = np.rint(shown * (255 / white)).astype(np.uint8)
    if (clear := image.info.get("transparency")) is not None:
        grey[values == clear] = 255
    return Image.fromarray(grey)


def _cut_strip(image: Image.Image) -> Image.Image:
    """CLIP looks at the middle square: without this, a 1 x 50,000 strip would be enlarged to gigabytes before the rest is cut off."""
    width, height = image.size
    longest = min(width, height) * _LONGEST_SIDE_RATIO
    if max(width, height) <= longest:
        return image
    return ImageOps.fit(image, (min(width, longest), min(height, longest)), method=Image.Resampling.NEAREST)


def list_images(path: Path, suffixes: Set[str] = SUFFIXES) -> tuple[list[Path], list[Path]]:
    """The picture itself, or a folder's pictures by name, sub-folders included; and what was left out of these: links that lead nowhere,
    and files of other kinds than `suffixes`, in lower case. A folder without any picture is a `UserError`."""
    if not path.is_dir():
        return [path], []
    found = sorted(p for p in path.rglob("*") if not p.is_dir() and not any(map(is_litter, p.relative_to(path).parts)))
    pictures = [p for p in found if p.is_file() and p.suffix.lower() in suffixes]
    listed = set(pictures)
    if not pictures:
        raise UserError(f"{path}: no pictures in this folder (looked for {', '.join(sorted(suffixes))})")
    return pictures, [p for p in found if p not in listed]
