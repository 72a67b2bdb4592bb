"""The sheet that raters get: blind, balanced, the same again, and text as text whatever it holds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.files import read_json, write_json
from pipeline.human import sheet
from pipeline.human.sheet import export, render
from tests.artefacts import seal_again
from tests.human.sheets import PIXEL, SHEET, pairs
from tests.tiny_systems import params

IMAGES = 10


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    """Two systems that caption ten pictures, three of them alike but for case and spaces."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sheet, "load", lambda: params({"frames": {"count": 5}}))
    ids = [str(i) for i in range(IMAGES)]
    paths.raw("scenes").mkdir(parents=True)
    for i in range(IMAGES):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(paths.raw("scenes") / f"{i}.png")
    paths.corpus("scenes").mkdir(parents=True)
    pq.write_table(pa.table({"image_id": ids, "path": [f"{i}.png" for i in ids], "split": ["test"] * IMAGES}),
                   paths.image_table("scenes"))
    seal(paths.corpus("scenes"))
    for system in ("decap", "clipre"):
        texts = ["A  cat" if system == "decap" else "a cat" if i < 3 else "" for i in range(3)]
        texts += [f"{'first' if system == 'decap' else 'second'} {i}" for i in range(3, IMAGES)]
        write_json(paths.captions_file(system, "in-domain"),
                   [{"image_id": i, "caption": text} for i, text in zip(ids, texts, strict=True)])
        seal(paths.captions(system))


def exported(number: int = 100, seed: int = 0, folder: str = "out") -> tuple[dict, str]:
    said = export(("decap", "clipre"), None, number, seed, Path(folder))
    assert "\n" not in said
    return read_json(Path(folder) / "key.json"), (Path(folder) / "sheet.html").read_text()


def test_the_key_tells_whose_captions_are_on_which_side_and_the_page_does_not():
    key, page = exported()
    shown = re.findall(r"<li><b>A</b>(.*?)</li>\s*<li><b>B</b>(.*?)</li>", page)
    assert len(shown) == len(key["items"]) == 7
    for (a, b), item in zip(shown, key["items"], strict=True):
        first, second = ("first", "second") if item["a"] == "decap" else ("second", "first")
        assert (a, b) == (f"{first} {item['image_id']}", f"{second} {item['image_id']}")
    assert "decap" not in page
    assert "clipre" not in page


def test_both_systems_stand_on_either_side_as_often():
    key, _ = exported(6)
    assert sorted(item["a"] for item in key["items"]) == ["clipre"] * 3 + ["decap"] * 3


def test_pictures_of_which_both_say_the_same_are_left_out_and_counted():
    said = export(("decap", "clipre"), "in-domain", 100, 0, Path("out"))
    assert "as on 7 of 10" in said
    assert {item["image_id"] for item in read_json(Path("out/key.json"))["items"]} == set(map(str, range(3, 10)))


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_sheet():
    first, again, other = exported(5), exported(5, folder="again"), exported(5, seed=1, folder="other")
    assert first == again
    assert first[0]["sheet"] != other[0]["sheet"]
    assert [item["image_id"] for item in first[0]["items"]] != [item["image_id"] for item in other[0]["items"]]


def test_captions_are_text_whatever_they_hold():
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    page = render([replace(pairs(1)[0], a=evil)], SHEET)
    assert evil not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page


def test_the_page_needs_nothing_else():
    page = render(pairs(2), SHEET)
    assert PIXEL.source in page
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", page)
    assert not re.search(r"https?://", page)


def test_a_key_is_never_overwritten(user_error):
    exported()
    before = Path("out/key.json").read_bytes()
    assert "out/key.json is there already" in user_error(export, ("decap", "clipre"), None, 3, 1, Path("out"))
    assert Path("out/key.json").read_bytes() == before


@pytest.mark.parametrize(("arguments", "said"), [
    ((("decap", "decap"), None, 5, 0), "against itself"),
    ((("decap", "nobody"), None, 5, 0), "there is no system 'nobody'"),
    ((("decap", "clipre"), "in-domian", 5, 0), "did you mean 'in-domain'"),
    ((("decap", "clipre"), None, 0, 0), "ask for 1 or more"),
])
def test_what_cannot_be_compared_is_said_in_one_line(user_error, arguments, said):
    assert said in user_error(export, *arguments, Path("out"))
    assert not Path("out").exists()


def test_systems_that_say_the_same_of_everything_have_no_sheet(user_error):
    write_json(paths.captions_file("clipre", "in-domain"), read_json(paths.captions_file("decap", "in-domain")))
    seal_again(paths.captions("clipre"))
    assert "say the same of every picture" in user_error(export, ("decap", "clipre"), None, 5, 0, Path("out"))
