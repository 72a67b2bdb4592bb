"""Key frames of videos through FFmpeg's libraries (PyAV), without decoding what lies between them; and videos of drawn frames."""

from __future__ import annotations

import bisect
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import av
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.files import regular
from pipeline.images import Member, Source, in_shard, open_image

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp"})
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,h264,hevc,m4v,ivf,obu,av1,gif,dv,nut"
"""What may be read: each holds its pictures itself. Playlists, which name other files and addresses, are none of them."""
_ATTACHED = av.stream.Disposition.attached_pic  # the cover of a song


class _Frame(NamedTuple):
    """When a frame is shown, in the stream's own units."""

    time: int
    is_key: bool


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
    each that is wanted, one at a time in memory. Rotation and the shape of pixels are applied. Of several streams FFmpeg's choice is taken.
    Raises `UserError` naming the file when it is missing, broken, cut off, no video, or too large.
    """
    with _opened(source) as (container, stream):
        frames = _frames(container, stream)
        if frames is None:
            return [_picture(frame) for frame in _read_through(container, stream, count)]
        times = sorted(frame.time for frame in frames)
        wanted = [times[i * len(times) // count] for i in range(count)]
        pictures = {time: _picture(frame) for time, frame in _seek(container, stream, frames, sorted(set(wanted)))}
        return [pictures[time] for time in wanted]


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
            yield io.BytesIO(tar.read(source.size))
    else:
        with regular(source).open("rb") as file:  # FFmpeg would take some names for addresses
            yield file


def _why(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())


def _frames(container: Any, stream: Any) -> list[_Frame] | None:
    """All frames of a stream, from its packets, undecoded; None where these do not say when they are shown."""
    frames, known = [], True
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            known = known and packet.pts is not None
            frames.append(_Frame(packet.pts or 0, packet.is_keyframe))
    if not frames:
        raise ValueError("it has no frames")
    return frames if known and len({frame.time for frame in frames}) == len(frames) else None


def _seek(container: Any, stream: Any, frames: Sequence[_Frame], wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """The decoded frames at these times, which rise."""
    keys = sorted(frame.time for frame in frames if frame.is_key)
    decoded: Iterator[Any] = iter(())
    last: Any = None
    for time in wanted:
        key = keys[max(bisect.bisect_right(keys, time) - 1, 0)] if keys else frames[0].time
        if last is None or last.pts < key:
            container.seek(key, stream=stream)
            decoded = container.decode(stream)
        for last in decoded:
            if last.pts is not None and last.pts >= time:
                break
        if last is None or last.pts is None or last.pts < time:
            raise ValueError(f"cut off: nothing can be decoded at {float(time * stream.time_base):.2f} s")
        yield time, last


def _read_through(container: Any, stream: Any, count: int) -> Iterator[Any]:
    """The same by decoding everything, twice: to count frames, and to take some."""
    total = 0
    for _ in _again(container, stream):
        total += 1
    if not total:
        raise ValueError("it has no frames")
    wanted = [i * total // count for i in range(count)]
    for number, frame in enumerate(_again(container, stream)):
        for _ in range(wanted.count(number)):
            yield frame


def _again(container: Any, stream: Any) -> Iterator[Any]:
    container.seek(stream.start_time or 0, stream=stream)
    return iter(container.decode(stream))


def _picture(frame: Any) -> Image.Image:
    """A decoded frame as a viewer shows it."""
    picture: Image.Image = frame.to_image()
    if frame.rotation % 360:
        picture = picture.rotate(frame.rotation, expand=True)
    return picture


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
