"""Videos as people have them: each gives the frames that a viewer shows, or is refused in one line."""

from __future__ import annotations

import io
import os
import random
import struct
import tarfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.codec import UnknownCodecError
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.images import Source, locate
from pipeline.videos import is_video, key_frames, open_frames, strip, write_video

SIZE = WIDTH, HEIGHT = 64, 48
TURN = Image.Transpose


def drawn(number: int) -> Image.Image:
    """A view that slides over a texture, with a patch whose place and colour tell the number."""
    texture = np.kron(np.random.default_rng(0).integers(60, 196, (12, 40, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    view = texture[:, 2 * number % 90 :][:, :WIDTH].copy()
    view[5 + number % 30 : 15 + number % 30, 20:40] = (8 * number % 256, 255 - 8 * number % 256, 128)
    return Image.fromarray(view)


def write(path: Path, codec: str = "libx264", count: int = 31, options: dict[str, str] | None = None, form: str | None = None,
          pixels: str = "yuv420p", times: Sequence[int] = (), frames: Sequence[av.VideoFrame] = (),
          prepare: Callable[[Any], None] = lambda context: None) -> Path:
    """A clip of `drawn` pictures, or of these frames. times: when each is shown, in ms."""
    with av.open(str(path), "w", format=form) as container:
        try:
            stream: Any = container.add_stream(codec, rate=25, options=options or {})
        except UnknownCodecError:
            pytest.skip(f"this FFmpeg has no {codec}")
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        prepare(stream.codec_context)
        for number, frame in enumerate(frames or [av.VideoFrame.from_image(drawn(number)) for number in range(count)]):
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def naive(path: Path) -> list[Image.Image]:
    """Every frame, decoded from the first to the last."""
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(container.streams.best("video"))]


def assert_same(found: Sequence[Image.Image], expected: Sequence[Image.Image]) -> None:
    assert [picture.mode for picture in found] == ["RGB"] * len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def assert_key_frames(source: Source, every: Sequence[Image.Image]) -> None:
    for count in (1, 2, 3, 5, 10, len(every), len(every) + 9):
        assert_same(key_frames(source, count), [every[i * len(every) // count] for i in range(count)])


OPEN_GOP = {"x264-params": "open-gop=1:keyint=6:bframes=4:b-pyramid=normal:scenecut=0"}
H264: dict[str, dict[str, str]] = {
    "defaults": {}, "closed GOPs": {"g": "12", "bf": "5"}, "open GOPs": OPEN_GOP, "no B-frames": {"g": "7", "bf": "0"},
    "key frames alone": {"g": "1"}, "GOPs of two": {"g": "2"}, "no key frames but a moving refresh": {
        "x264-params": "intra-refresh=1:keyint=10:bframes=0"}, "half frames": {"x264-params": "interlaced=1:keyint=9"},
}
HEVC = {"preset": "ultrafast", "x265-params": "keyint=6:open-gop=1:bframes=4:log-level=none"}
VPX = {"g": "7", "deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "16"}
OTHERS: list[tuple[str, str, dict[str, str], str | None, str]] = [
    ("mp4", "libx265", HEVC, None, "yuv420p"), ("mkv", "libx265", HEVC, None, "yuv420p"), ("ts", "libx265", HEVC, None, "yuv420p"),
    ("mp4", "libx264", {}, None, "yuv420p10le"), ("mkv", "libx264", {}, None, "yuv444p"),
    ("webm", "libvpx", VPX, None, "yuv420p"), ("webm", "libvpx-vp9", VPX, None, "yuv420p"),
    *((suffix, "mpeg4", {"g": "6", "bf": "2"}, None, "yuv420p") for suffix in ("avi", "mp4", "m4v")),
    *((suffix, "mpeg2video", {"g": "6", "bf": "2"}, form, "yuv420p") for suffix, form in (("mpg", "vob"), ("mpeg", "mpeg"), ("ts", None))),
    ("avi", "mjpeg", {}, None, "yuvj420p"), ("mkv", "ffv1", {}, None, "yuv420p"), ("wmv", "wmv2", {"g": "5"}, "asf", "yuv420p"),
    ("flv", "flv", {"g": "5"}, None, "yuv420p"),
]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi", "flv", "ts", "3gp"])
@pytest.mark.parametrize("kind", H264)
def test_key_frames_are_those_that_decoding_everything_finds(tmp_path, suffix, kind):
    clip = write(tmp_path / f"clip.{suffix}", options=H264[kind])
    assert_key_frames(clip, naive(clip))


@pytest.mark.parametrize(("suffix", "codec", "options", "form", "pixels"), OTHERS)
def test_so_are_those_of_other_encoders_in_their_usual_containers(tmp_path, suffix, codec, options, form, pixels):
    clip = write(tmp_path / f"clip.{suffix}", codec, options=options, form=form, pixels=pixels)
    assert len(naive(clip)) == 31
    assert_key_frames(clip, naive(clip))


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("webm", "libvpx")])
def test_frames_that_are_shown_for_different_times_count_alike(tmp_path, suffix, codec):
    chance = random.Random(0)
    times = np.cumsum([chance.choice([17, 33, 40, 200, 1000]) for _ in range(31)]).tolist()
    clip = write(tmp_path / f"clip.{suffix}", codec, options={"g": "8"}, times=times)
    assert_key_frames(clip, naive(clip))


@pytest.mark.parametrize("options", [{"g": "7"}, OPEN_GOP])
def test_a_bare_stream_that_says_no_times_is_read_through(tmp_path, options):
    clip = write(tmp_path / "clip.mp4", options=options, form="h264")
    assert_key_frames(clip, naive(clip))


@pytest.mark.parametrize(("name", "form"), [("clip.mp4", None), ("clip.avi", None), ("bare.mp4", "h264")])
def test_a_video_inside_a_tar_file_shows_the_same(tmp_path, name, form):
    clip = write(tmp_path / name, options={"g": "8"}, form=form)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(clip, "before.bin")
        tar.add(clip, name)
    assert is_video(f"a.tar!{name}")
    assert_key_frames(locate(tmp_path, f"a.tar!{name}"), naive(clip))


def test_a_film_that_begins_in_the_middle_of_a_shot_begins_with_its_first_whole_frame(tmp_path):
    whole, cut = write(tmp_path / "whole.mkv", options={"g": "10", "bf": "0"}), tmp_path / "cut.mkv"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in list(source.demux(video=0))[4:-1]:
            packet.stream = stream
            target.mux(packet)
    assert 0 < len(naive(cut)) <= 27
    assert_key_frames(cut, naive(cut))


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_video_of_few_frames_repeats_them(tmp_path, suffix, count):
    clip = write(tmp_path / f"clip.{suffix}", count=count)
    assert len(naive(clip)) == count
    assert_key_frames(clip, naive(clip))


def test_a_picture_is_a_video_of_itself_and_frames_stand_beside_each_other(tmp_path):
    drawn(3).save(tmp_path / "a.png")
    assert_same(open_frames(tmp_path / "a.png", 5), [drawn(3)])
    assert len(open_frames(write(tmp_path / "a.MP4", form="mp4"), 5)) == 5
    sheet = strip([drawn(0), drawn(1)], 24)
    assert sheet.size == (2 * 32 + 2, 24)


def add_sound(container: Any, frames: int = 20) -> None:
    stream = container.add_stream("aac", rate=44100, layout="mono")
    for number in range(frames):
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 44100, 1024 * number
        container.mux(stream.encode(sound))
    container.mux(stream.encode())


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_no_video_with_the_picture_of_its_cover_or_without(tmp_path, user_error, cover):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        if cover:
            stream: Any = container.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuvj420p"
            stream.disposition = av.stream.Disposition.attached_pic
            packets = [*stream.encode(av.VideoFrame.from_image(drawn(0))), *stream.encode()]
        add_sound(container)
        for packet in packets if cover else ():
            container.mux(packet)
    assert "song.mp4: there is no video stream in it" in user_error(key_frames, tmp_path / "song.mp4", 5)


def test_of_two_video_streams_one_is_shown_from_beginning_to_end(tmp_path):
    with av.open(str(tmp_path / "two.mp4"), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=25, options={"g": "5"}) for _ in range(2)]
        for stream, (width, height) in zip(streams, [(32, 32), SIZE], strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(20):
            for stream in streams:
                container.mux(stream.encode(av.VideoFrame.from_image(drawn(number).resize((stream.width, stream.height)))))
        for stream in streams:
            container.mux(stream.encode())
    assert_key_frames(tmp_path / "two.mp4", naive(tmp_path / "two.mp4"))


@pytest.mark.parametrize("content", [b"", b"this is no video", b"<!DOCTYPE html><html><body>404</body></html>", bytes(5000),
                                     b"\0\0\0\x18ftypmp42"])
def test_something_else_that_is_called_a_video_is_named(tmp_path, user_error, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    assert "clip.mp4: not a readable video" in user_error(key_frames, tmp_path / "clip.mp4", 5)


def test_a_missing_file_a_folder_a_pipe_and_a_picture_are_named(tmp_path, user_error):
    assert "nowhere.mp4: no such file" in user_error(key_frames, tmp_path / "nowhere.mp4", 5)
    assert f"{tmp_path}: not a readable video" in user_error(key_frames, tmp_path, 5)
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "pipe.mp4 is no regular file" in user_error(key_frames, tmp_path / "pipe.mp4", 5)
    drawn(0).save(tmp_path / "picture.mp4", "PNG")
    assert "picture.mp4: not a readable video" in user_error(key_frames, tmp_path / "picture.mp4", 5)


@pytest.mark.parametrize("playlist", [
    "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{0}\n#EXT-X-ENDLIST\n", "#EXTM3U\n{0}\n", "ffconcat version 1.0\nfile '{0}'\n",
    "v=0\nm=video 9 RTP/AVP 96\nc=IN IP4 127.0.0.1\n", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">{0}</MPD>',
])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_playlist_never_opens_the_file_that_it_names(tmp_path, user_error, playlist, suffix):
    for named in ("secret.ts", str(write(tmp_path / "secret.ts")), f"file://{tmp_path}/secret.ts"):
        (tmp_path / f"clip.{suffix}").write_text(playlist.format(named))
        assert f"clip.{suffix}: not a readable video" in user_error(key_frames, tmp_path / f"clip.{suffix}", 5)


def boxes(content: bytearray, name: bytes) -> list[int]:
    """Where the contents of an MP4's boxes of this name begin."""
    return [start + 4 for start in range(len(content)) if content[start : start + 4] == name]


MATRICES = {
    (1, 0, 0, 1): None, (0, 1, -1, 0): TURN.ROTATE_270, (-1, 0, 0, -1): TURN.ROTATE_180, (0, -1, 1, 0): TURN.ROTATE_90,
    (-1, 0, 0, 1): TURN.FLIP_LEFT_RIGHT, (1, 0, 0, -1): TURN.FLIP_TOP_BOTTOM, (0, 0, 0, 0): None,
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_film_taken_sideways_stands_upright_and_a_mirrored_one_is_mirrored(tmp_path, matrix):
    clip = write(tmp_path / "clip.mp4", count=9)
    every, content = naive(clip), bytearray(clip.read_bytes())
    a, b, c, d = (65536 * value for value in matrix)
    struct.pack_into(">9i", content, boxes(content, b"tkhd")[0] + 40, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    clip.write_bytes(content)
    turn = MATRICES[matrix]
    assert_key_frames(clip, every if turn is None else [picture.transpose(turn) for picture in every])


@pytest.mark.parametrize(("shape", "width"), [(Fraction(4, 3), 85), (Fraction(1, 2), 32), (Fraction(3), 192), (Fraction(1), 64),
                                              (Fraction(9, 2), 64), (Fraction(1, 5), 64)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_pixels_that_are_not_square_are_drawn_so_unless_the_header_is_absurd(tmp_path, suffix, shape, width):
    clip = write(tmp_path / f"clip.{suffix}", count=3, prepare=lambda context: setattr(context, "sample_aspect_ratio", shape))
    every = naive(clip)
    assert_key_frames(clip, every if width == WIDTH else [picture.resize((width, HEIGHT), Image.Resampling.BICUBIC) for picture in every])


def test_a_film_taken_sideways_with_pixels_that_are_not_square_is_stretched_before_it_is_turned(tmp_path):
    clip = write(tmp_path / "clip.mp4", count=3, prepare=lambda context: setattr(context, "sample_aspect_ratio", Fraction(2)))
    content = bytearray(clip.read_bytes())
    struct.pack_into(">9i", content, boxes(content, b"tkhd")[0] + 40, 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    clip.write_bytes(content)
    assert key_frames(clip, 1)[0].size == (HEIGHT, 2 * WIDTH)


@pytest.mark.parametrize("length", [0, 1, 2**31 - 1])
def test_a_length_in_the_header_that_is_wrong_changes_nothing(tmp_path, length):
    clip = write(tmp_path / "clip.mp4", options={"g": "8"})
    every, content = naive(clip), bytearray(clip.read_bytes())
    for name, place in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        struct.pack_into(">I", content, boxes(content, name)[0] + place, length)
    clip.write_bytes(content)
    assert_key_frames(clip, every)


def taken(source: Path, count: int) -> list[Image.Image] | str:
    """The key frames, or the one line that names the file."""
    try:
        return key_frames(source, count)
    except UserError as error:
        said = str(error)
    assert said.startswith(f"{source}: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "flv"])
@pytest.mark.parametrize("part", [0.02, 0.2, 0.5, 0.8, 0.98])
def test_a_film_that_was_cut_is_named_or_shown_as_far_as_it_goes(tmp_path, suffix, part):
    whole, cut = write(tmp_path / f"whole.{suffix}", options={"g": "8"}), tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    found = taken(cut, 5)
    if isinstance(found, list):
        assert suffix != "mp4"  # whose index lies at the end
        assert {picture.tobytes() for picture in found} <= {picture.tobytes() for picture in naive(whole)}


@pytest.mark.parametrize("part", [0.3, 0.5, 0.8, 0.98])
def test_a_film_that_was_cut_behind_its_index_is_named(tmp_path, user_error, part):
    write_video(tmp_path / "cut.mp4", [drawn(number) for number in range(31)], 8)
    content = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: int(len(content) * part)])
    assert "cut.mp4: not a readable video (cut off within a frame)" in user_error(key_frames, tmp_path / "cut.mp4", 5)


def test_a_film_of_too_many_pixels_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, user_error):
    clip = write(tmp_path / "bomb.mp4", count=2)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT)
    assert len(key_frames(clip, 2)) == 2
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT - 1)
    assert "bomb.mp4: 64 x 48 pixels, more than 3071" in user_error(key_frames, clip, 2)


COLOURS = [(200, 30, 40), (30, 180, 60), (40, 50, 210), (128, 128, 128), (240, 240, 240), (10, 10, 10), (220, 200, 40), (30, 200, 210)]
WEIGHTS = {"BT.601": (0.299, 0.114, 6), "BT.709": (0.2126, 0.0722, 1), "BT.2020": (0.2627, 0.0593, 9)}


@pytest.mark.parametrize(("standard", "full", "said", "deep"), [
    ("BT.601", False, False, False), ("BT.601", True, True, False), ("BT.709", False, True, False), ("BT.709", True, True, False),
    ("BT.2020", False, True, False), ("BT.709", False, True, True)])
def test_colours_are_those_that_the_film_was_made_of_by_the_standard_that_it_names(tmp_path, standard, full, said, deep):
    """Eight flat areas, brought to luma and chroma by the formula of the standard, here and not by FFmpeg."""
    areas = np.repeat(np.array(COLOURS), WIDTH // 8, 0)[None].repeat(HEIGHT, 0) / 255
    red, blue, number = WEIGHTS[standard]
    luma = areas @ [red, 1 - red - blue, blue]
    chroma = [((areas[..., band] - luma) / (2 * (1 - weight)))[::2, ::2] for band, weight in ((2, blue), (0, red))]
    scales = (255, 0, 255) if full else (219, 16, 224)
    planes = [luma * scales[0] + scales[1], *(plane * scales[2] + 128 for plane in chroma)]
    values = np.concatenate([np.rint(plane * (4 if deep else 1)).clip(0, 1023 if deep else 255).ravel() for plane in planes])
    pixels = "yuv420p10le" if deep else "yuv420p"
    values = values.astype(np.uint16 if deep else np.uint8).reshape(-1, WIDTH)
    frames = [av.VideoFrame.from_ndarray(values, format=pixels) for _ in range(3)]

    def say(context: Any) -> None:
        context.colorspace, context.color_range = number, 2 if full else 1

    clip = write(tmp_path / "clip.mp4", options={"crf": "3"}, pixels=pixels, frames=frames, prepare=say if said else lambda context: None)
    shown = np.asarray(key_frames(clip, 1)[0]).astype(int)
    for area, colour in enumerate(COLOURS):
        np.testing.assert_allclose(shown[8:40, 8 * area + 3 : 8 * area + 5].mean((0, 1)), colour, atol=5)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("clips")
    kinds = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "webm": "libvpx", "ts": "libx264", "flv": "flv", "mpg": "mpeg2video",
             "wmv": "wmv2"}
    return {suffix: write(folder / f"clip.{suffix}", codec, options={"g": "8"}, form="asf" if suffix == "wmv" else None).read_bytes()
            for suffix, codec in kinds.items()}


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Some damage, more often near the ends, where headers and indexes lie."""
    value = bytearray(content)
    for _ in range(chance.choice([1, 1, 3, 20])):
        place = chance.choice([chance.randrange(len(value)), chance.randrange(min(800, len(value))),
                               len(value) - 1 - chance.randrange(min(1500, len(value)))])
        length = chance.choice([1, 4, 4, 300])
        value[place : place + length] = chance.choice([chance.randbytes(length), bytes(length), b"\xff" * length, b"",
                                                       b"\x7f" + b"\xff" * (length - 1), 2 * value[place : place + length]])
    return bytes(value[: chance.randrange(len(value))] if chance.random() < 0.1 else value)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("seed", [*range(100), 671])  # the last sends its reader to before the beginning
def test_a_damaged_video_is_shown_or_named_in_one_line_and_nothing_else_is_printed(tmp_path, clips, capfd, seed):
    chance = random.Random(seed)
    suffix = list(clips)[seed % len(clips)]
    file = tmp_path / f"damaged.{suffix}"
    file.write_bytes(mutated(clips[suffix], chance))
    found = taken(file, 5)
    assert isinstance(found, str) or [picture.mode for picture in found] == ["RGB"] * 5
    assert capfd.readouterr() == ("", "")


def test_a_drawn_film_has_the_same_bytes_twice_as_h264_that_every_browser_shows(tmp_path):
    frames = [drawn(number) for number in range(12)]
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, 8)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    assert content == (tmp_path / "b.mp4").read_bytes()
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        assert content[boxes(content, name)[0] + 4 :][:8] == bytes(8)  # made and changed: never
    with av.open(io.BytesIO(bytes(content))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate, stream.frames) == ("h264", "yuv420p", 8, 12)
        assert "creation_time" not in {**container.metadata, **stream.metadata}
    assert content.index(b"moov") < content.index(b"mdat")  # it plays while it loads
    for shown, frame in zip(key_frames(tmp_path / "a.mp4", 12), frames, strict=True):
        assert np.abs(np.asarray(shown).astype(int) - np.asarray(frame)).mean() < 12
