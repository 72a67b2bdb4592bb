"""Pictures as people have them: each opens as RGB, or is refused in one line."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.features.images import Member, Source, list_images, locate, open_image, source_stamp, write_pictures


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


def test_a_folders_pictures_are_listed_by_name_with_sub_folders_and_other_files_apart(tmp_path, user_error):
    (tmp_path / "b" / "folder.png").mkdir(parents=True)
    assert "no pictures in this folder" in user_error(list_images, tmp_path)
    for name in ("c.JPG", "b/a.png", "a.webp", "notes.txt"):
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
