"""Pictures as people have them: each opens as RGB, or is refused in one line."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline import images
from pipeline.images import Member, Source, _to_rgb, list_images, locate, open_image, source_stamp, write_pictures


@pytest.fixture
def ramp() -> np.ndarray:
    """(16, 24) values from 0 to 250, different in each row and column."""
    return (np.arange(16)[:, None] * 10 + np.arange(24)[None] * 4).clip(0, 250).astype(np.uint8)


def pixels(path: Source) -> np.ndarray:
    image = open_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_a_grey_picture_becomes_rgb_with_its_values(tmp_path, ramp):
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels(tmp_path / "grey.png"), np.stack([ramp] * 3, -1))


def tiff(values: np.ndarray, photometric: int = 1, bits: int | None = None, order: str = "<") -> bytes:
    """A TIFF of (height, width) or (height, width, channels) values as they are; photometric: 0 where the smallest is white."""
    height, width, *channels = values.shape
    samples = channels[0] if channels else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    content = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = [(256, [width]), (257, [height]), (258, [bits or 8 * values.itemsize] * samples), (259, [1]), (262, [photometric]), (273, [8]),
            (277, [samples]), (278, [height]), (279, [len(content)]), (339, [kind] * samples)]
    start = 8 + len(content) + 2 + 12 * len(tags) + 4
    entries, beyond = struct.pack(order + "H", len(tags)), b""
    for tag, numbers in tags:
        value = struct.pack(order + f"{len(numbers)}H", *numbers)
        if len(value) > 4:
            value, beyond = struct.pack(order + "I", start + len(beyond)), beyond + value
        entries += struct.pack(order + "HHI", tag, 3, len(numbers)) + value.ljust(4, b"\0")
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "I", 8 + len(content)) + content + entries + bytes(4) + beyond


def png(values: np.ndarray, depth: int, clear: list[int] | None = None) -> bytes:
    """A PNG of (height, width) or (height, width, channels) samples of `depth` bits, of which one colour may be transparent."""
    height, width, *channels = values.shape
    bits = np.unpackbits(values.reshape(height, -1, 1).astype(">u2").view(np.uint8).reshape(height, -1, 2), axis=2)[..., 16 - depth :]
    rows = np.packbits(bits.reshape(height, -1), axis=1)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 1]
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0),
             **({b"tRNS": struct.pack(f">{len(clear)}H", *clear)} if clear else {}),
             b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
                                           for name, content in parts.items())


def assert_shows(path: Path, content: bytes, expected: np.ndarray) -> None:
    """The file opens as `expected`, the values of its twin of 8 bits, grey or RGB, within one level."""
    path.write_bytes(content)
    opened = pixels(path)
    np.testing.assert_allclose(opened, np.broadcast_to(expected[..., None] if expected.ndim == 2 else expected, opened.shape), atol=1)


GREY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "16 bits": lambda grey: (grey * 257).astype(np.uint16), "16 bits, dark": lambda grey: (grey // 8 * 257).astype(np.uint16),
    "32 bits of 255": lambda grey: grey.astype(np.int32), "32 bits of 65535": lambda grey: (grey * 257).astype(np.int32),
    "32 bits, black": lambda grey: 0 * grey.astype(np.int32),
    "real of 1": lambda grey: (grey / 255).astype(np.float32), "real of 1, dark": lambda grey: (grey // 8 / 255).astype(np.float32),
    "real of 255": lambda grey: grey.astype(np.float32), "real of 65535": lambda grey: (grey * 257).astype(np.float32),
    "real, black": lambda grey: 0 * grey.astype(np.float32), "real, one grey": lambda grey: 0 * grey.astype(np.float32) + np.float32(0.5),
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", GREY)
def test_a_picture_of_more_than_8_bits_is_as_bright_as_its_twin_of_8(tmp_path, ramp, kind, order):
    expected = ramp // 8 if "dark" in kind else 0 * ramp if "black" in kind else 0 * ramp + 128 if "one" in kind else ramp
    values = GREY[kind](ramp.astype(int))
    assert_shows(tmp_path / "deep.tif", tiff(values, order=order), expected)


@pytest.mark.parametrize(("white", "dtype"), [(255, "u1"), (65535, "u2"), (1, "f4"), (255, "f4"), (65535, "f4")])
def test_a_picture_whose_smallest_value_is_white_is_no_negative(tmp_path, ramp, white, dtype):
    values = white - ramp / 255 * white
    assert_shows(tmp_path / "white.tif", tiff(values.astype(dtype), photometric=0), ramp)


def test_a_picture_of_12_bits_is_as_bright_as_its_twin_of_8(tmp_path, ramp):
    first, second = (ramp.astype(int) * 4095 // 255).reshape(16, 12, 2).transpose(2, 0, 1)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8)
    content = tiff(packed.reshape(16, 36), bits=12)
    assert_shows(tmp_path / "deep.tif", content.replace(struct.pack("<HHIH", 256, 3, 1, 36), struct.pack("<HHIH", 256, 3, 1, 24)), ramp)


@pytest.mark.parametrize("format", ["TIFF", "PNG", "JPEG2000", "PPM"])
@pytest.mark.parametrize("darker", [1, 16])
def test_grey_of_16_bits_is_never_stretched_to_its_largest_value(tmp_path, ramp, format, darker):
    Image.fromarray((ramp // darker).astype(np.uint16) * 257).save(tmp_path / "deep", format)
    assert_shows(tmp_path / "deep", (tmp_path / "deep").read_bytes(), ramp // darker)


def test_colours_and_transparency_of_16_bits_are_those_of_8(tmp_path, ramp):
    colour = np.stack([ramp, 255 - ramp, ramp // 2], -1).astype(int)
    opaque, half = (np.full((*ramp.shape, 1), value) for value in (255, 128))
    assert_shows(tmp_path / "rgb.png", png(colour * 257, 16), colour)
    assert_shows(tmp_path / "rgb.tif", tiff((colour * 257).astype(np.uint16), photometric=2), colour)
    inks = np.concatenate([255 - colour, 0 * opaque], -1) * 257
    assert_shows(tmp_path / "cmyk.tif", tiff(inks.astype(np.uint16), photometric=5), colour)
    for alpha, expected in ((opaque, colour), (half, colour / 255 * 128 + 127)):
        assert_shows(tmp_path / "rgba.png", png(np.concatenate([colour, alpha], -1) * 257, 16), expected)
        assert_shows(tmp_path / "la.png", png(np.concatenate([colour[..., :1], alpha], -1) * 257, 16), expected[..., :1])


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_a_transparent_grey_of_any_depth_is_shown_over_white(tmp_path, ramp, depth):
    samples = ramp.astype(int) * (2**depth - 1) // 255
    assert_shows(tmp_path / "clear.png", png(samples, depth, clear=[samples[3, 3]]),
                 np.where(samples == samples[3, 3], 255, samples * 255 / (2**depth - 1)))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_of_any_depth_is_shown_over_white(tmp_path, ramp, depth):
    colour = np.stack([ramp, 255 - ramp, ramp // 2], -1).astype(int)
    clear = (colour == colour[3, 3]).all(-1, keepdims=True)
    scale = (2**depth - 1) // 255
    assert_shows(tmp_path / "clear.png", png(colour * scale, depth, clear=list(colour[3, 3] * scale)), np.where(clear, 255, colour))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.1, 1.5, 16, 300, 4000, 70000])
def test_real_numbers_of_which_none_is_surely_white_are_refused_with_advice(tmp_path, ramp, user_error, value):
    values = (ramp / 255).astype(np.float32)
    values[2, 2] = value
    (tmp_path / "odd.tif").write_bytes(tiff(values))
    message = user_error(open_image, tmp_path / "odd.tif")
    assert "odd.tif: not a readable picture" in message
    assert "save it with 8 bits a channel" in message


@pytest.mark.parametrize("content", [
    *(tiff(np.full((4, 4), value, np.int32)) for value in (1, 16, 1000, -1, 70000)), tiff(np.full((4, 4), 2**32 - 1, np.uint32)),
    tiff(np.full((4, 4), 100, np.int16)), tiff(np.full((4, 4), 32767, np.int16)), tiff(np.full((4, 4), 100, np.int8)),
    tiff(np.full((4, 4), 0.5, np.float64)), tiff(np.full((4, 4), 0.5, np.float16)),
    tiff(np.full((4, 4, 3), 0.5, np.float32), photometric=2),
])
def test_whole_numbers_with_signs_or_unknown_white_and_kinds_that_are_not_known_are_refused_with_advice(tmp_path, user_error, content):
    (tmp_path / "odd.tif").write_bytes(content)
    message = user_error(open_image, tmp_path / "odd.tif")
    assert "odd.tif: not a readable picture" in message
    assert "with 8 bits a channel" in message


def test_a_lab_picture_has_the_colours_that_it_was_made_of(tmp_path):
    rgb = Image.fromarray(np.random.default_rng(0).integers(70, 180, (32, 32, 3), dtype=np.uint8))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    ImageCms.buildTransform(srgb, lab, "RGB", "LAB", flags=ImageCms.Flags.NOOPTIMIZE).apply(rgb).save(tmp_path / "lab.tif")
    np.testing.assert_allclose(pixels(tmp_path / "lab.tif"), np.asarray(rgb), atol=4)  # a step of 8-bit L*a*b* is up to 4 of RGB
    Image.new("LAB", (2, 2), (255, 128, 128)).save(tmp_path / "white.tif")
    assert (pixels(tmp_path / "white.tif") == 255).all()


@pytest.mark.parametrize("mode", ["1", "P", "PA", "RGBX", "YCbCr", "HSV", "La", "RGBa", "I;16", "I;16L", "I;16B", "I;16N"])
def test_every_mode_of_pillow_shows_the_same_picture(ramp, mode):
    grey = Image.fromarray(np.where(ramp > 100, 255, 0).astype(np.uint8) if mode == "1" else ramp)
    if mode.startswith("I;16"):
        image = Image.frombytes(mode, grey.size, (ramp.astype(int) * 257).astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    else:
        between = {"PA": "P", "YCbCr": "RGB", "HSV": "RGB", "La": "LA", "RGBa": "RGBA"}.get(mode)
        image = (grey.convert(between) if between else grey).convert(mode)
    opened = _to_rgb(image, image)
    assert opened.mode == "RGB"
    np.testing.assert_allclose(np.asarray(opened), np.stack([np.asarray(grey)] * 3, -1), atol=2)


def test_a_deep_picture_taken_sideways_stands_upright(tmp_path, ramp):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray((ramp / 255).astype(np.float32)).save(tmp_path / "turned.tif", exif=exif)
    np.testing.assert_allclose(pixels(tmp_path / "turned.tif")[..., 0], np.rot90(ramp, -1), atol=1)


def test_a_printers_cmyk_picture_becomes_rgb(tmp_path):
    Image.new("CMYK", (20, 10), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    opened = pixels(tmp_path / "print.jpg")
    assert opened.shape == (10, 20, 3)
    assert (opened[..., 0] > 200).all()  # no cyan, full magenta and yellow: red
    assert (opened[..., 1:] < 55).all()


def test_transparency_is_shown_over_white(tmp_path):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    image.save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(pixels(tmp_path / "alpha.png")[0], [[255, 255, 255], [200, 0, 0], [127, 127, 127]])


def test_grey_with_transparency_is_shown_over_white(tmp_path):
    image = Image.new("LA", (2, 1), (40, 0))
    image.putpixel((1, 0), (40, 255))
    image.save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(pixels(tmp_path / "alpha.png")[0], [[255] * 3, [40] * 3])


def test_a_transparent_palette_colour_is_shown_over_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=0)
    np.testing.assert_array_equal(pixels(tmp_path / "palette.png")[0], [[255, 255, 255], [200, 0, 0]])


def test_a_photograph_taken_sideways_stands_upright(tmp_path, ramp):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    Image.fromarray(ramp).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "turned.png")[..., 0], np.rot90(ramp, -1))


def test_a_single_pixel_is_a_picture(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "pixel.png")
    np.testing.assert_array_equal(pixels(tmp_path / "pixel.png"), [[[1, 2, 3]]])


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 700)])
def test_an_extreme_strip_is_cut_to_its_middle_before_it_is_enlarged(tmp_path, size):
    values = np.zeros((size[1], size[0], 3), np.uint8)
    middle = tuple(slice(n // 2 - 30, n // 2 + 30) if n > 60 else slice(None) for n in values.shape[:2])
    values[middle] = 200
    Image.fromarray(values).save(tmp_path / "strip.png")
    opened = pixels(tmp_path / "strip.png")
    assert max(opened.shape[:2]) <= 16 * min(opened.shape[:2])
    assert min(opened.shape[:2]) == min(size)
    assert (opened == 200).all()


def test_an_ordinary_panorama_is_left_whole(tmp_path):
    Image.new("RGB", (160, 10)).save(tmp_path / "wide.png")
    assert open_image(tmp_path / "wide.png").size == (160, 10)


def photograph(path: Path) -> bytes:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
def test_a_truncated_file_is_named(tmp_path, user_error, suffix):
    file = tmp_path / f"cut.{suffix}"
    file.write_bytes(photograph(file)[:600])
    assert f"cut.{suffix}: not a readable picture" in user_error(open_image, file)


@pytest.mark.parametrize("content", [b"", b"this is no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_something_else_that_is_called_a_picture_is_named(tmp_path, user_error, content):
    (tmp_path / "text.png").write_bytes(content)
    assert "text.png: not a readable picture" in user_error(open_image, tmp_path / "text.png")


def test_a_picture_with_a_broken_middle_is_named(tmp_path, user_error):
    content = bytearray(photograph(tmp_path / "broken.png"))
    content[len(content) // 2] ^= 255
    (tmp_path / "broken.png").write_bytes(content)
    assert "broken.png: not a readable picture" in user_error(open_image, tmp_path / "broken.png")


def test_a_missing_file_and_a_folder_are_named(tmp_path, user_error):
    assert "nowhere.png: no such file" in user_error(open_image, tmp_path / "nowhere.png")
    assert f"{tmp_path}: not a readable picture" in user_error(open_image, tmp_path)


@pytest.fixture
def limit_pixels(tmp_path, monkeypatch):
    """limit_pixels(number): as if params.yaml said so."""
    def limit(number: int) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "params.yaml").write_text(f"images: {{max_pixels: {number}}}\n")
        images._limit_pixels.cache_clear()

    yield limit
    monkeypatch.undo()
    images._limit_pixels.cache_clear()
    images._limit_pixels()


@pytest.mark.parametrize("limit", [80, 60, 10])  # Pillow only warns up to twice its limit
def test_a_decompression_bomb_is_refused_before_it_fills_the_memory(tmp_path, limit_pixels, user_error, limit):
    Image.new("RGB", (10, 10)).save(tmp_path / "bomb.png")
    limit_pixels(limit)
    message = user_error(open_image, tmp_path / "bomb.png")
    assert f"bomb.png: not a readable picture (it has more than images.max_pixels = {limit} pixels: raise that in params.yaml" in message


def test_a_picture_of_a_phone_with_108_megapixels_opens_once_the_limit_is_raised_without_a_warning(tmp_path, limit_pixels, recwarn):
    Image.new("L", (12000, 9000)).save(tmp_path / "phone.png")
    limit_pixels(120_000_000)
    assert open_image(tmp_path / "phone.png").size == (12000, 9000)
    assert [warning for warning in recwarn if "bomb" in str(warning.message)] == []


@pytest.mark.parametrize("suffix", sorted(images.SUFFIXES - {".pbm"}))
def test_every_kind_of_picture_that_is_looked_for_in_folders_opens_as_itself(tmp_path, suffix):
    Image.registered_extensions()
    kind = {".apng": "PNG", ".jfif": "JPEG"}.get(suffix, Image.EXTENSION[suffix])
    Image.new("RGB", (32, 24), (200, 40, 40)).save(tmp_path / f"a{suffix.upper()}", kind)
    assert list_images(tmp_path) == ([tmp_path / f"a{suffix.upper()}"], [])
    shown = np.asarray(open_image(tmp_path / f"a{suffix.upper()}"), np.int32)
    assert shown.shape == (24, 32, 3)
    assert np.abs(shown.mean((0, 1)) - (200, 40, 40)).max() < 6


def test_a_folders_pictures_are_listed_by_name_with_sub_folders_and_other_files_apart(tmp_path, user_error):
    (tmp_path / "b" / "folder.png").mkdir(parents=True)
    assert "no pictures in this folder" in user_error(list_images, tmp_path)
    for name in ("c.JPG", "b/a.png", "a.webp", "notes.txt", "._c.JPG", ".DS_Store", "b/Thumbs.db"):  # the last three a desktop's
        (tmp_path / name).touch()
    (tmp_path / "b" / "gone.png").symlink_to("nowhere")
    assert list_images(tmp_path) == ([tmp_path / "a.webp", tmp_path / "b" / "a.png", tmp_path / "c.JPG"],
                                     [tmp_path / "b" / "gone.png", tmp_path / "notes.txt"])
    assert list_images(tmp_path / "notes.txt") == ([tmp_path / "notes.txt"], [])


def drawn(count: int = 3, seed: int = 0) -> dict[str, Image.Image]:
    """Noise of different sizes, by key."""
    rng = np.random.default_rng(seed)
    return {f"{i:03d}": Image.fromarray(rng.integers(0, 255, (8 + i, 9, 3), dtype=np.uint8)) for i in range(count)}


def write_shard(tar: Path, pictures: dict[str, Image.Image]) -> None:
    write_pictures(tar, pictures, {key: f"caption {key} of a café" for key in pictures})


def test_pictures_in_a_tar_file_open_as_they_were_written(tmp_path):
    write_shard(tmp_path / "a.tar", drawn())
    for key, picture in drawn().items():
        np.testing.assert_array_equal(pixels(locate(tmp_path, f"a.tar!{key}.png")), np.asarray(picture))


def test_a_shard_is_a_webdataset_of_pictures_beside_their_captions(tmp_path):
    write_shard(tmp_path / "a.tar", drawn())
    with tarfile.open(tmp_path / "a.tar") as file:
        assert file.getnames() == [f"{key}.{suffix}" for key in drawn() for suffix in ("png", "txt")]
        assert file.extractfile("001.txt").read().decode() == "caption 001 of a café"
        np.testing.assert_array_equal(np.asarray(Image.open(file.extractfile("001.png"))), np.asarray(drawn()["001"]))


def test_the_same_pictures_have_the_same_bytes_twice_wherever_and_whenever_they_are_written(tmp_path, monkeypatch):
    write_shard(tmp_path / "a.tar", drawn())
    monkeypatch.setattr("time.time", lambda: 4e9)
    (tmp_path / "elsewhere").mkdir()
    write_shard(tmp_path / "elsewhere" / "b.tar", drawn())
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "elsewhere" / "b.tar").read_bytes()
    write_shard(tmp_path / "c.tar", drawn(seed=1))
    assert (tmp_path / "a.tar").read_bytes() != (tmp_path / "c.tar").read_bytes()


def test_other_peoples_tar_files_are_read_too_with_folders_and_long_names_inside(tmp_path):
    name = "train2014/" + "long/" * 40 + "photograph.jpg"
    content = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 0, 0)).save(content, "PNG")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
        file.add(tmp_path, "train2014", recursive=False)
        about = tarfile.TarInfo(name)
        about.size = len(content.getvalue())
        file.addfile(about, io.BytesIO(content.getvalue()))
    assert pixels(locate(tmp_path, f"a.tar!{name}"))[0, 0].tolist() == [200, 0, 0]


def test_a_picture_that_its_tar_file_lacks_is_named(tmp_path, user_error):
    write_shard(tmp_path / "a.tar", drawn())
    assert f"{tmp_path / 'a.tar'} holds no '009.png'" in user_error(locate, tmp_path, "a.tar!009.png")
    assert f"{tmp_path / 'b.tar'} is missing" in user_error(locate, tmp_path, "b.tar!000.png")


@pytest.mark.parametrize("content", [b"", b"this is no tar file" * 100])
def test_something_else_that_is_called_a_tar_file_is_named(tmp_path, user_error, content):
    (tmp_path / "a.tar").write_bytes(content)
    assert str(tmp_path / "a.tar") in user_error(locate, tmp_path, "a.tar!000.png")


def test_a_tar_file_that_was_cut_is_named_when_what_it_lacks_is_opened(tmp_path, user_error):
    write_shard(tmp_path / "a.tar", drawn())
    last = locate(tmp_path, "a.tar!002.png")
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[: last.offset + 20])

    def look() -> None:
        open_image(locate(tmp_path, "a.tar!002.png"))

    assert str(tmp_path / "a.tar") in user_error(look)


def test_a_broken_picture_in_a_tar_file_is_named_with_its_place(tmp_path, user_error):
    write_shard(tmp_path / "a.tar", drawn())
    place = locate(tmp_path, "a.tar!001.png")
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[place.offset + place.size // 2] ^= 255
    (tmp_path / "a.tar").write_bytes(content)
    assert f"{tmp_path / 'a.tar'}!001.png: not a readable picture" in user_error(open_image, locate(tmp_path, "a.tar!001.png"))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "../secret.tar!000.png", "a/../../secret.tar!000.png"])
def test_a_record_cannot_name_a_picture_outside_its_data_set(tmp_path, user_error, name):
    (tmp_path / "raw").mkdir()
    write_shard(tmp_path / "secret.tar", drawn())
    (tmp_path / "secret.png").touch()
    assert str(tmp_path / "raw") in user_error(locate, tmp_path / "raw", name)


def test_a_tar_file_that_was_exchanged_is_read_anew(tmp_path):
    write_shard(tmp_path / "a.tar", {"000": Image.new("L", (30, 30), 10), "001": Image.new("L", (8, 8), 20)})
    size = (tmp_path / "a.tar").stat().st_size
    assert pixels(locate(tmp_path, "a.tar!001.png"))[0, 0, 0] == 20
    # tar files are padded: the new one is as long, and its second picture lies elsewhere
    write_shard(tmp_path / "a.tar", {"000": drawn(23)["022"], "001": Image.new("L", (8, 8), 30)})
    assert (tmp_path / "a.tar").stat().st_size == size
    assert pixels(locate(tmp_path, "a.tar!001.png"))[0, 0, 0] == 30


def test_a_pipe_in_the_place_of_a_tar_file_is_not_waited_for(tmp_path, user_error):
    os.mkfifo(tmp_path / "a.tar")
    assert "a.tar is no regular file" in user_error(locate, tmp_path, "a.tar!000.png")


def test_a_picture_that_was_exchanged_has_another_stamp_in_a_folder_and_in_a_tar_file(tmp_path):
    photograph(tmp_path / "000.png")
    write_shard(tmp_path / "a.tar", drawn())
    before = [source_stamp(locate(tmp_path, name)) for name in ("000.png", *(f"a.tar!{key}.png" for key in drawn()))]
    assert len(set(before)) == 4
    assert source_stamp(locate(tmp_path, "a.tar!000.png")) == before[1]
    Image.new("RGB", (4, 4)).save(tmp_path / "000.png")
    write_shard(tmp_path / "a.tar", {**drawn(60), "000": Image.new("RGB", (8, 9))})
    assert source_stamp(locate(tmp_path, "000.png")) != before[0]
    assert source_stamp(locate(tmp_path, "a.tar!000.png")) != before[1]
    assert source_stamp(locate(tmp_path, "a.tar!001.png"))[:2] == before[2][:2]
    (tmp_path / "000.png").write_bytes((size := (tmp_path / "000.png").read_bytes())[:-1] + b"x")
    assert source_stamp(locate(tmp_path, "000.png"))[1] == len(size)


def test_a_name_without_a_tar_file_is_a_file_of_the_folder_linked_or_not(tmp_path):
    (tmp_path / "raw").mkdir()
    photograph(tmp_path / "cached.png")
    (tmp_path / "raw" / "link.png").symlink_to(tmp_path / "cached.png")
    assert locate(tmp_path / "raw", "link.png") == (tmp_path / "raw" / "link.png").parent.resolve() / "link.png"
    assert open_image(locate(tmp_path / "raw", "link.png")).size == (64, 64)
    assert not isinstance(locate(tmp_path / "raw", "link.png"), Member)


def test_a_photograph_with_an_exclamation_mark_in_its_name_is_a_file_of_the_folder(tmp_path):
    for name in ("surprise!.png", "a.tar!", "party.tar.gz!1.png"):
        photograph(tmp_path / "photograph.png")
        (tmp_path / "photograph.png").rename(tmp_path / name)
        assert open_image(locate(tmp_path, name)).size == (64, 64)
