"""Pictures as people have them: each opens as RGB, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.features.images import list_images, open_image


@pytest.fixture
def ramp() -> np.ndarray:
    """(16, 24) values from 0 to 250, different in each row and column."""
    return (np.arange(16)[:, None] * 10 + np.arange(24)[None] * 4).clip(0, 250).astype(np.uint8)


def pixels(path: Path) -> np.ndarray:
    image = open_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_a_grey_picture_becomes_rgb_with_its_values(tmp_path, ramp):
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels(tmp_path / "grey.png"), np.stack([ramp] * 3, -1))


def test_a_16_bit_picture_keeps_its_shades_instead_of_turning_white(tmp_path, ramp):
    deep = ramp.astype(np.uint16) * 257
    deep[0, 0], deep[0, 1] = 0, 65535
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        # one step of 255 for rounding down instead of to the nearest
        np.testing.assert_allclose(pixels(tmp_path / name)[..., 1], deep / 65535 * 255, atol=1)


def test_a_picture_of_real_numbers_keeps_its_shades(tmp_path, ramp):
    Image.fromarray(ramp.astype(np.float32) * 4).save(tmp_path / "float.tif")
    np.testing.assert_allclose(pixels(tmp_path / "float.tif")[..., 0], ramp * (255 / ramp.max()), atol=1)


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


@pytest.mark.parametrize("limit", [80, 60, 10])  # Pillow only warns up to twice its limit
def test_a_decompression_bomb_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, user_error, limit):
    Image.new("RGB", (10, 10)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert "bomb.png: not a readable picture" in user_error(open_image, tmp_path / "bomb.png")


def test_a_folders_pictures_are_listed_by_name_with_sub_folders_and_without_other_files(tmp_path, user_error):
    (tmp_path / "b" / "folder.png").mkdir(parents=True)
    assert "no pictures in this folder" in user_error(list_images, tmp_path)
    for name in ("c.JPG", "b/a.png", "a.webp", "notes.txt"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path / "a.webp", tmp_path / "b" / "a.png", tmp_path / "c.JPG"]
    assert list_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
