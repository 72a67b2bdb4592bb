"""Pictures that are broken, missing or alone are said at extraction, and left out on request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.corpus.extract import ExtractParams, extract
from stages.extract import extract_dataset
from tests.corpus.folders import picture, rows


def write_captioned(folder: Path, **contents: bytes) -> None:
    """A table with a caption for each test picture, and one whose caption is of a train picture."""
    (folder / "a.csv").write_text("image,caption,split\n0.jpg,a train sentence,train\n" + "".join(
        f"{name}.jpg,a caption of {name},test\n" for name in contents))
    for name, content in contents.items():
        if content != b"gone":
            (folder / f"{name}.jpg").write_bytes(content)


BROKEN_PICTURES = {"good": picture("JPEG"), "html": b"<html>404</html>", "empty": b"", "fine": picture("JPEG"),
                   "cut": picture("JPEG")[:-90]}


def test_all_broken_pictures_are_named_at_once_with_what_leaves_them_out(tmp_path: Path, user_error) -> None:
    write_captioned(tmp_path, **BROKEN_PICTURES)
    line = user_error(extract, tmp_path, tmp_path / "out", ExtractParams("table", "a.csv"))
    assert line.startswith("a.csv: 3 of its 5 pictures cannot be read: ")
    assert all(f"{name}.jpg: not a readable picture" in line for name in ("html", "empty", "cut"))
    assert "set bad_images to 'skip'" in line
    assert not (tmp_path / "out").exists()


def test_broken_and_missing_pictures_are_left_out_with_their_captions_and_listed(tmp_path: Path) -> None:
    write_captioned(tmp_path, **BROKEN_PICTURES, lost=b"gone")
    report = extract(tmp_path, tmp_path / "out", ExtractParams("table", "a.csv", bad_images="skip", heldout=0))
    assert [row["path"] for row in rows(tmp_path / "out", "images")] == ["good.jpg", "fine.jpg"]
    assert [row["image_id"] for row in rows(tmp_path / "out", "references")] == ["good.jpg", "fine.jpg"]
    assert [(each["image"], each["path"]) for each in report["skipped_images"]] == [
        (f"{name}.jpg", f"{name}.jpg") for name in ("html", "empty", "cut", "lost")]
    assert report["skipped_images"][-1]["reason"].endswith("lost.jpg is missing")
    references = report["references"]
    assert (references["read"], references["kept"], references["skipped"]) == (6, 2, 4)
    assert report["images"]["test"] == 2
    assert json.loads((tmp_path / "out/report.json").read_text()) == report


def test_a_paired_corpus_loses_the_captions_of_its_broken_pictures_and_another_corpus_keeps_them(tmp_path: Path) -> None:
    write_captioned(tmp_path, **BROKEN_PICTURES)
    table = (tmp_path / "a.csv").read_text().replace("0.jpg,a train sentence,train\n", "")
    (tmp_path / "a.csv").write_text(table.replace(",test", ",train"))
    assert extract(tmp_path, tmp_path / "out", ExtractParams("table", "a.csv"))["corpus"]["kept"] == 5
    report = extract(tmp_path, tmp_path / "out", ExtractParams("table", "a.csv", paired=True, bad_images="skip"))
    assert (report["corpus"]["kept"], report["corpus"]["skipped"], len(report["skipped_images"])) == (2, 3, 3)


def test_where_every_test_picture_is_missing_the_line_says_so(tmp_path: Path, user_error) -> None:
    write_captioned(tmp_path, a=b"gone", b=b"gone")
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text().replace("0.jpg,a train sentence,train\n", ""))
    line = user_error(extract, tmp_path, tmp_path / "out", ExtractParams("table", "a.csv", bad_images="skip"))
    assert "all 2 val and test captions are left out, the first (a.jpg#0) because its picture is left out" in line


def test_one_test_picture_is_said_at_extraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    raw = tmp_path / "data/raw/mine"
    raw.mkdir(parents=True)
    write_captioned(raw, good=picture("JPEG"))
    (tmp_path / "params.yaml").write_text("extract: {mine: {format: table, source: a.csv}}\n")
    monkeypatch.chdir(tmp_path)
    extract_dataset("mine")
    assert "warning: mine has one test picture" in capsys.readouterr().err
