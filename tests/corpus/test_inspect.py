"""`unpaired inspect` says what a file holds, and what it prints for params.yaml reads just that."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.params import check
from pipeline.corpus.extract import ExtractParams, extract
from pipeline.corpus.inspect import inspect
from tests.corpus.formats import EXAMPLES, SENTENCES, Example


@pytest.mark.parametrize("whole", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_what_is_printed_can_be_pasted_and_extracts_what_was_said(tmp_path: Path, example: Example, whole: bool) -> None:
    raw = tmp_path / "data/raw/mine"
    place = example.write(raw)
    printed = CliRunner().invoke(app, ["inspect", str(raw if whole else place)], catch_exceptions=False).stdout
    said = json.loads(CliRunner().invoke(app, ["inspect", str(raw if whole else place), "--json"], catch_exceptions=False).stdout)
    pasted = YAML(typ="safe").load(printed)
    assert pasted == {"extract": said["extract"]}
    assert pasted["extract"]["mine"]["format"] == example.entry["format"]
    report = extract(raw, tmp_path / "out", check(ExtractParams, pasted["extract"]["mine"], "extract.mine"))
    assert report["corpus"]["kept"] + report["references"]["kept"] == said["captions"] == example.captions
    assert sum(report["images"].values()) == said["pictures"]


def test_what_is_odd_is_said_with_numbers(tmp_path: Path) -> None:
    rows = ["image,caption,split", "1.jpg,a cat,val", "1.jpg,a cat,val", "2.jpg,a man&#39;s dog,train", "3.jpg,un café,train",
            "4.jpg,,train", "5.jpg,一只猫坐在红色的桌子上,train", "", "6.jpg,gone,test", "7.jpg,a boat,test"]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    EXAMPLES["csv"].write(tmp_path / "elsewhere")
    for number, name in ((1, "1.jpg"), (5, "7.jpg")):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes((tmp_path / f"elsewhere/images/{number}.jpg").read_bytes())
    found = inspect(tmp_path / "a.csv")
    assert found.odd == [
        "captions that repeat an earlier one: 1", "captions with HTML's entities, which are written out: 1",
        "captions with words that no space divides, which metrics take for one word: 1", "captions with characters beyond ASCII (33.3%): 2",
        "blank lines: 1", "captions left out because the caption is empty: 1", "captions left out because its picture is left out: 1",
        "pictures left out, missing: 1", "only one val picture: scores need two", "only one test picture: scores need two"]
    assert found.entry == {"format": "table", "source": "a.csv", "images": "pictures", "bad_captions": "skip", "bad_images": "skip"}
    (tmp_path / "a.csv").write_text("\n".join(rows).replace("4.jpg,,", "4.jpg,a cup,"))
    assert "bad_captions" not in inspect(tmp_path / "a.csv").entry
    assert found.captions_per_picture == {"min": 1, "max": 2, "mean": 1.2}


def test_captions_in_an_archive_are_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "annotations.zip", "w") as archive:
        archive.writestr("annotations/readme.md", "x" * 9999)
        archive.writestr("annotations/captions.json", json.dumps(SENTENCES))
    assert inspect(tmp_path / "annotations.zip").entry == {"format": "json", "source": "annotations.zip!annotations/captions.json"}


def test_a_place_below_data_raw_is_read_from_there_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    EXAMPLES["csv"].write(tmp_path / "data/raw/mine/sub")
    (tmp_path / "data/raw/mine/sub/LICENSE.txt").write_text("You may read this.\n" * 999)
    for here, place in ((".", "data/raw/mine/sub"), ("data/raw/mine", "."), ("data/raw/mine/sub", "captions.csv")):
        monkeypatch.chdir(tmp_path / here)
        found = inspect(Path(place))
        assert (found.name, found.raw) == ("mine", tmp_path / "data/raw/mine")
        assert found.entry == {"format": "table", "source": "sub/captions.csv", "images": "sub/images"}


@pytest.mark.parametrize(("name", "content", "found"), [
    ("a.json", '{"questions": []}', "questions and their annotations go into `questions`"),
    ("a.json", '{"annotations": [{"category_id": 1}]}', "instances into `instances`"),
    ("a.json", '{"annotations": 1}', "'annotations' is 1"), ("a.json", "{}", "no 'images' in {}"),
    ("a.json", "{", "is not valid JSON"),
    ("a.txt", "", "holds no captions"),
    ("a.md", "", "holds no captions"),
])
def test_what_holds_no_captions_is_one_line(tmp_path: Path, user_error, name: str, content: str, found: str) -> None:
    (tmp_path / name).write_text(content)
    assert found in user_error(inspect, tmp_path / name)


def test_a_place_that_is_not_there_or_empty_is_one_line(tmp_path: Path, user_error) -> None:
    assert "no such file" in user_error(inspect, tmp_path / "nowhere")
    assert "holds no captions" in user_error(inspect, tmp_path) or "no captions" in user_error(inspect, tmp_path)
