"""Key frames of videos through FFmpeg's libraries (PyAV), without decoding what lies between them; and videos of drawn frames."""

from __future__ import annotations

import bisect
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from PIL import Image

from .core.errors import UserError
from .core.files import regular
from .images import Member, Source, in_shard, open_image

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp"})
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,h264,hevc,m4v,ivf,obu,av1,gif,dv,nut"
"""What may be read: each holds its pictures itself. Playlists, which name other files and addresses, are none of them."""
_INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""Containers that say where key frames are, by the times that packets have. A seek in others may land behind the frame that is wanted, and
packets of AVI have times of their own."""
_STRETCH = 4  # pixels further from square are taken for a mistake in the header
_TURNS = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT, (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM, (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE, (0, 1, -1, 0): Image.Transpose.ROTATE_270, (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
}
"""By the signs of the matrix (a, b, c, d) that brings a frame to the screen: x' = a x + c y, y' = b x + d y."""
_ATTACHED = av.stream.Disposition.attached_pic  # the cover of a song


class _Frame(NamedTuple):
    """When a frame is shown, in the stream's own units."""

    time: int
    is_key: bool


class _File:
    """What FFmpeg reads. A place that no file has, where broken ones send it, is refused by a number: PyAV would print what is raised."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell, self._seek = file.read, file.tell, file.seek

    def seek(self, offset: int, whence: int) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -1


def is_video(name: str | Path) -> bool:
    """By the ending of a file's name, or of a part's of a tar file."""
    shard = in_shard(str(name))
    return Path(shard[1] if shard else name).suffix.lower() in SUFFIXES


def open_frames(source: Source, count: int) -> list[Image.Image]:
    """Key frames of a video as RGB pictures; of a picture itself alone. Raises `UserError` for what is broken."""
    return key_frames(source, count) if is_video(source.name) else [open_image(source)]


def key_frames(source: Source, count: int) -> list[Image.Image]:
    """`count` frames of a video at equal steps, the first one at its beginning, as RGB: frame i * total // count for i from 0 on, so that
    one with fewer frames repeats some. Knight's released code steps by total // count, which leaves up to count - 1 frames more at the end.

    Which frames there are is read from the packets, not from what the file says of its length; frames are decoded from the key frame before
    each that is wanted, one at a time in memory. Where a container has no index of its key frames (AVI, MPEG, FLV and bare streams), or the
    decoder shows other frames than it names, all are decoded, twice: to count them, and to take some. Quarter turns, mirroring and the
    shape of pixels are applied. Of several streams FFmpeg's choice is taken.
    Raises `UserError` naming the file when it is missing, broken, no video, or too large. One that is cut off between two frames is a
    shorter film where its container does not tell, as MP4 does.
    """
    with _opened(source) as (container, stream):
        pictures = _sought(container, stream, count) if container.format.name in _INDEXED else None
    return pictures or _read_through(source, count)


@contextmanager
def _opened(source: Source) -> Iterator[tuple[Any, Any]]:
    """The container of a file and its video stream. What FFmpeg raises is a `UserError` that names the file."""
    try:
        with _stream(source) as file, av.open(file, options={"format_whitelist": _FORMATS}, metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None or stream.disposition & _ATTACHED:
                raise UserError(f"{source}: there is no video stream in it")
            context = stream.codec_context
            if context is None:
                raise ValueError("of a kind that cannot be decoded")
            if Image.MAX_IMAGE_PIXELS and context.width * context.height > Image.MAX_IMAGE_PIXELS:
                raise UserError(f"{source}: {context.width} x {context.height} pixels, more than {Image.MAX_IMAGE_PIXELS}")
            stream.thread_type = "AUTO"
            yield container, stream
    except FileNotFoundError:
        raise UserError(f"{source}: no such file") from None
    except (av.error.FFmpegError, OSError, ValueError, LookupError, TypeError, EOFError, MemoryError, OverflowError) as error:
        raise UserError(f"{source}: not a readable video ({_why(error)}): convert it to H.264 in MP4, or leave it out") from None


@contextmanager
def _stream(source: Source) -> Iterator[Any]:
    if isinstance(source, Member):
        with source.tar.open("rb") as tar:
            tar.seek(source.offset)
            yield _File(io.BytesIO(tar.read(source.size)))
    else:
        with regular(source).open("rb") as file:  # FFmpeg would take some names for addresses
            yield _File(file)


def _why(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())


def _frames(container: Any, stream: Any) -> list[_Frame] | None:
    """All frames of a stream, from its packets, undecoded; None where these do not say when each is shown, or name no key frame."""
    if stream.codec_context.name == "vp8":  # whose packets may hold frames that are never shown
        return None
    frames = []
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            if packet.is_corrupt:
                raise ValueError("cut off within a frame")
            if packet.pts is None:
                return None
            frames.append(_Frame(packet.pts, packet.is_keyframe))
    every_once = len({frame.time for frame in frames}) == len(frames)
    return frames if every_once and any(frame.is_key for frame in frames) else None


def _sought(container: Any, stream: Any, count: int) -> list[Image.Image] | None:
    """The key frames, each decoded from the key frame before it; None where one of them is not to be had so."""
    frames = _frames(container, stream)
    if frames is None:
        return None
    times, keys = sorted(frame.time for frame in frames), sorted(frame.time for frame in frames if frame.is_key)
    wanted = [times[i * len(times) // count] for i in range(count)]
    pictures: dict[int, Image.Image] = {}
    decoded: Iterator[Any] = iter(())
    reached = keys[0] - 1
    for time in sorted(set(wanted)):
        key = keys[max(bisect.bisect_right(keys, time) - 1, 0)]
        if reached < key:
            container.seek(key, stream=stream)
            decoded = container.decode(stream)
        frame = next((frame for frame in decoded if frame.pts is not None and frame.pts >= time), None)
        if frame is None or frame.pts != time:
            return None
        pictures[time], reached = _picture(frame, stream), time
    return [pictures[time] for time in wanted]


def _read_through(source: Source, count: int) -> list[Image.Image]:
    """The same by decoding everything, twice."""
    with _opened(source) as (container, stream):
        total = sum(1 for _ in container.decode(stream))
        if not total:
            raise ValueError("it has no frames")
    wanted = [i * total // count for i in range(count)]
    with _opened(source) as (container, stream):
        shown = enumerate(islice(container.decode(stream), wanted[-1] + 1))
        pictures = {number: _picture(frame, stream) for number, frame in shown if number in wanted}
    return [pictures[number] for number in wanted]


def _picture(frame: Any, stream: Any) -> Image.Image:
    """A decoded frame as a viewer shows it. `ValueError` where the decoder says that it made part of it up."""
    if frame.is_corrupt:
        raise ValueError("cut off or damaged within a frame that is wanted")
    picture: Image.Image = frame.to_image()
    shape = stream.sample_aspect_ratio  # of a pixel, width to height
    if shape and shape != 1 and 1 / _STRETCH <= shape <= _STRETCH:
        picture = picture.resize((max(1, round(picture.width * shape)), picture.height), Image.Resampling.BICUBIC)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    turned = _TURNS.get(tuple(np.sign(np.frombuffer(matrix, np.int32)[[0, 1, 3, 4]]))) if matrix else None
    return picture if turned is None else picture.transpose(turned)


def strip(frames: Sequence[Image.Image], height: int) -> Image.Image:
    """Frames of one size beside each other, no higher than `height`."""
    small = [frame.copy() for frame in frames]
    for frame in small:
        frame.thumbnail((16 * height, height), Image.Resampling.LANCZOS)
    width, high = small[0].size
    gap = max(2, high // 32)
    sheet = Image.new("RGB", (len(small) * (width + gap) - gap, high), "white")
    for number, frame in enumerate(small):
        sheet.paste(frame, (number * (width + gap), 0))
    return sheet


def write_video(path: Path, frames: Sequence[Image.Image], rate: int) -> None:
    """H.264 in MP4, of frames of even width and height; the bytes depend on them and the encoder's version alone. rate: frames a second."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "18", "threads": "1", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
