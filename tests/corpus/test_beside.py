"""Pictures with texts beside them, in a folder or in tar files, are a data set."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.corpus.extract import ExtractParams, extract
from pipeline.corpus.readers import read_records
from pipeline.corpus.records import Caption, Image
from pipeline.images import locate, open_image
from tests.corpus.folders import picture
from tests.corpus.formats import EXAMPLES


def put(folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_a_text_beside_a_picture_holds_a_caption_a_line(tmp_path: Path) -> None:
    put(tmp_path, a_jpg=picture(), a_txt="\ufeffa cat\r\n\r\nun café\r\n".encode(), b__c_MP4=b"x", b__c_json=b'{"caption": "a film"}',
        d_png=picture(), e_webp=picture(), e_json=b'{"caption": ["one", null]}', stats_json=b'{"count": 5}', notes_md=b"x")
    records = read_records(tmp_path, ".", "folder", "test")
    assert records.captions == [
        Caption("a.jpg#0", "a.jpg", "a cat", "test"), Caption("a.jpg#1", "a.jpg", "un café", "test"),
        Caption("b/c.MP4#0", "b/c.MP4", "a film", "test"), Caption("e.webp#0", "e.webp", "one", "test"),
        Caption("e.webp#1", "e.webp", None, "test")]
    assert records.images == [Image("a.jpg", "a.jpg", "test"), Image("b/c.MP4", "b/c.MP4", "test"), Image("d.png", "d.png", "unlabelled"),
                              Image("e.webp", "e.webp", "test")]


def test_pictures_in_webdatasets_tar_files_are_found_again_by_what_opens_them(tmp_path: Path) -> None:
    EXAMPLES["tar"].write(tmp_path / "shards")
    (tmp_path / "shards/00001.tar").write_bytes((tmp_path / "shards/00000.tar").read_bytes())
    report = extract(tmp_path, tmp_path / "out", ExtractParams("folder", "shards", split="test"))
    paths = pq.read_table(tmp_path / "out/images.parquet")["path"].to_pylist()
    assert paths[0] == "shards/00000.tar!000000000.jpg"
    assert len(paths) == report["references"]["kept"] == 10
    assert all(open_image(locate(tmp_path, path)).size == (8, 8) for path in paths)


def test_a_text_of_a_webdataset_counts_more_than_its_json_whichever_comes_first(tmp_path: Path) -> None:
    for order in ("txt json jpg", "jpg json txt"):
        contents = {"txt": b"of the text", "json": json.dumps({"caption": "of the json"}).encode(), "jpg": picture()}
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for suffix in order.split():
                member = tarfile.TarInfo(f"1.{suffix}")
                member.size = len(contents[suffix])
                tar.addfile(member, io.BytesIO(contents[suffix]))
        assert [caption.text for caption in read_records(tmp_path, "a.tar", "folder", "train").captions] == ["of the text"], order


def test_what_cannot_be_matched_or_read_is_one_line(tmp_path: Path, user_error) -> None:
    put(tmp_path / "lone", a_jpg=picture(), b_txt=b"a dog")
    put(tmp_path / "twice", a_jpg=picture(), a_png=picture(), a_txt=b"a dog")
    put(tmp_path / "latin", a_jpg=picture(), a_txt=b"caf\xe9")
    put(tmp_path / "broken", a_tar=b"no tar file" * 99)
    put(tmp_path / "wrong", a_jpg=picture(), a_json=b'{"caption": 7}')
    for name, found in (
        ("lone", "lone/b.txt has no picture beside it"), ("twice", "would share one text"),
        ("latin", "latin/a.txt: byte 0xe9 is not UTF-8"), ("broken", "broken/a.tar is no readable tar file"),
        ("wrong", "wrong/a.json: top level: 'caption' is 7"), ("absent", "absent is missing"),
        ("../elsewhere", "leaves its folder"),
    ):
        assert found in user_error(read_records, tmp_path, name, "folder", "train")
