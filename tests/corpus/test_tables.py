"""Captions in rows: every published format gives its captions, pictures and splits, and what is wrong is one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from pipeline.core.params import check
from pipeline.corpus.extract import ExtractParams, extract
from pipeline.corpus.readers import read_records
from pipeline.corpus.records import Caption, Image, Records
from tests.corpus.folders import rows, touch
from tests.corpus.formats import EXAMPLES, SENTENCES, Example


def read(folder: Path, name: str, content: str | bytes, format: str, **options: Any) -> Records:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_records(folder, name, format, options.pop("split", "train"), **options)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_a_published_file_is_extracted_with_all_its_captions(tmp_path: Path, example: Example) -> None:
    example.write(tmp_path)
    params = check(ExtractParams, {"heldout": 0, **example.entry, "source": example.source}, "extract.mine")
    images = {Path(name).parent.as_posix() for name in example.pictures if "/" in name}
    if "images" not in example.entry and images and example.entry["format"] != "folder":
        params = check(ExtractParams, {"heldout": 0, **example.entry, "source": example.source, "images": images.pop()}, "extract.mine")
    report = extract(tmp_path, tmp_path / "out", params)
    tables = report["corpus"], report["references"]
    assert sum(table["kept"] for table in tables) == sum(table["read"] for table in tables) == example.captions
    texts = [text for table in ("corpus", "references") for text in pq.read_table(tmp_path / f"out/{table}.parquet")["text"].to_pylist()]
    assert not any("&" in text and ";" in text for text in texts)


def table(folder: Path, content: str | bytes, name: str = "captions.csv", split: str = "train") -> Records:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_records(folder, name, "table", split)


TABLE = '''video,caption,split
0001.mp4,a woman peels an orange,train
sub folder/0002.MOV,"a man stirs a pot, then tastes it",validation
0001.mp4,"she says ""enough""",train
sub folder/0002.MOV,someone cooks soup,val
0003.mp4,,unlabelled
0004.mp4,a kettle boils,test
'''


def test_a_folder_of_clips_and_a_table_are_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text(TABLE)
    touch(tmp_path / "clips", "sub folder/0002.MOV", "0003.mp4", "0004.mp4")
    report = extract(tmp_path, tmp_path / "out", ExtractParams("table", "captions.csv", "clips", heldout=0))
    corpus = [(row["caption_id"], row["image_id"], row["text"]) for row in rows(tmp_path / "out", "corpus")]
    assert corpus == [("0001.mp4#0", "0001.mp4", "a woman peels an orange"),
                      ("0001.mp4#1", "0001.mp4", 'she says "enough"')]
    assert [(row["caption_id"], row["split"]) for row in rows(tmp_path / "out", "references")] == [
        ("sub folder/0002.MOV#0", "val"), ("sub folder/0002.MOV#1", "val"), ("0004.mp4#0", "test")]
    assert [(row["path"], row["split"]) for row in rows(tmp_path / "out", "images")] == [
        ("clips/sub folder/0002.MOV", "val"), ("clips/0003.mp4", "unlabelled"), ("clips/0004.mp4", "test")]
    assert report["images"] == {"unlabelled": 1, "val": 1, "test": 1}


def test_a_table_written_by_windows_or_with_tabs_or_packed_is_the_same(tmp_path: Path) -> None:
    expected = table(tmp_path, TABLE)
    assert table(tmp_path, b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode()) == expected
    assert table(tmp_path, TABLE.replace("\n", "\r")) == expected
    tabs = TABLE.replace("pot, then", "pot; then").replace(",", "\t").replace("pot; then", "pot, then")
    for name in ("captions.tsv", "captions.TSV", "captions.txt"):
        assert table(tmp_path, tabs, name) == expected, name
    assert table(tmp_path, gzip.compress(tabs.encode()), "captions.tsv.gz") == expected


def test_a_table_without_splits_is_of_the_split_asked_for_whatever_else_it_holds(tmp_path: Path) -> None:
    text = " File_Name ,,TEXT,score\na.jpg,0,a cat,0.5\n\nb.jpg,1,,0.1\n"
    assert table(tmp_path, text, split="test") == Records(
        [Caption("a.jpg#0", "a.jpg", "a cat", "test"), Caption("b.jpg#0", "b.jpg", "", "test")],
        [Image("a.jpg", "a.jpg", "test"), Image("b.jpg", "b.jpg", "test")], blank=1)
    with pytest.raises(UserError, match=r"^captions\.csv, caption b\.jpg#0: the caption is empty"):
        extract(tmp_path, tmp_path / "out", ExtractParams("table", "captions.csv", split="test"))


def test_a_caption_of_several_lines_is_one_sentence(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "captions.csv").write_text('clip,description\na.mp4,"a cat,\r\n\non a mat"\n')
    extract(tmp_path, tmp_path / "out", ExtractParams("table", "captions.csv", split="test"))
    assert rows(tmp_path / "out", "references")[0]["text"] == "a cat, on a mat"


@pytest.mark.parametrize("column", ["video", "clip", "image", "file", "file_name", "filename", "path"])
@pytest.mark.parametrize("caption", ["caption", "text", "sentence", "description"])
def test_columns_are_found_by_the_names_people_give_them(tmp_path: Path, column: str, caption: str) -> None:
    records = table(tmp_path, f"{caption},{column.title()}\na cat,a.jpg\n")
    assert records.captions == [Caption("a.jpg#0", "a.jpg", "a cat", "train")]


@pytest.mark.parametrize(("text", "found"), [
    ("", "captions.csv is empty"),
    ("\n\n", "captions.csv is empty"),
    ("a.mp4,a cat\n", "no column of files; its header has 'a.mp4', 'a cat': name one video or clip"),
    ("video;caption\na.mp4;a cat\n", "no column of files; its header has 'video;caption'"),
    ("video,notes\na.mp4,a cat\n", "no column of captions; its header has 'video', 'notes'"),
    ("video,File,caption\na.mp4,a.mp4,a cat\n", "2 columns of files, 'video', 'File': rename all but one"),
    ("video,caption,caption\na.mp4,a,b\n", "2 columns of captions, 'caption', 'caption'"),
    ("video,caption,split,Split\na.mp4,a,val,val\n", "2 columns of splits"),
    (",".join(f"column {i}" for i in range(5000)) + "\n", "'column 19', ...: name one"),
    ("video,caption\na.mp4,a cat\nb.mp4,a cat, a dog\n", "line 3: the row has 3 columns, the header 2"),
    ('video,caption\na.mp4,"a\ncat"\n\nb.mp4\n', "line 5: the row has 1 columns, the header 2"),
    ('video,caption\na.mp4,a cat\nb.mp4,"a dog\nc.mp4,a cow\n', "line 3: the row that begins here cannot"),
    ('video,caption\na.mp4,"a" cat\n', "line 2: the row that begins here cannot be read"),
    (f"video,caption\na.mp4,{'cat ' * 99_999}\n", "line 2: the row that begins here cannot be read (field"),
    ("video,caption\n,a cat\n", "line 2: '' is no file's name"),
    ('video,caption\n"a\nb.mp4",a cat\n', r"line 2: 'a\nb.mp4' is no file's name"),
    ("video,caption,split\na.mp4,a cat,tset\n", "line 2: unknown split 'tset'; did you mean 'test'"),
    ("video,caption,split\na.mp4,a cat,\n", "line 2: unknown split ''; available: "),
    ("video,caption,split\na.mp4,a cat,train\na.mp4,a cat,test\n", "line 3: 'a.mp4' is test here and train"),
    ("video,caption,split\na.mp4,a cat,unlabelled\n", "line 2: 'a.mp4' is unlabelled and yet has a caption"),
])
def test_what_is_wrong_in_a_table_is_named_with_its_line(tmp_path: Path, user_error, text: str,
                                                         found: str) -> None:
    line = user_error(table, tmp_path, text)
    assert line.startswith("captions.csv")
    assert found in line


def test_a_file_that_is_missing_or_outside_is_refused(tmp_path: Path, user_error) -> None:
    params = ExtractParams("table", "captions.csv", split="test")
    for name, found in (("b.mp4", "b.mp4 is missing"), ("../b.mp4", "leaves its folder")):
        (tmp_path / "captions.csv").write_text(f"video,caption\n{name},a cat\n")
        assert found in user_error(extract, tmp_path, tmp_path / "out", params)


@pytest.mark.parametrize("other", ["./1.mp4", "x/../1.mp4"])
def test_one_file_under_two_names_is_never_of_two_splits(tmp_path: Path, user_error, other: str) -> None:
    touch(tmp_path, "1.mp4", "x/2.mp4")
    content = f"video,caption,split\n1.mp4,a dog,train\n{other},a cat,test\nx/2.mp4,a cow,train\n"
    (tmp_path / "captions.csv").write_text(content)
    params = ExtractParams("table", "captions.csv", paired=True)
    assert "1.mp4 is test as image" in user_error(extract, tmp_path, tmp_path / "out", params)


def test_flickrs_captions_belong_to_pictures_and_flickr8ks_lists_say_the_splits(tmp_path: Path) -> None:
    tokens = "1.jpg#0\tA child .\n1.jpg#1\tA girl .\n2.jpg#0\tA dog .\n3.jpg.1#0\tpeople\n"
    for split, name in (("train", "1.jpg"), ("dev", "2.jpg")):
        (tmp_path / f"Flickr_8k.{split}Images.txt").write_text(f"{name}\n")
    records = read(tmp_path, "Flickr8k.token.txt", tokens, "flickr",
                   lists=[("train", "Flickr_8k.trainImages.txt"), ("val", "Flickr_8k.devImages.txt")])
    assert records.captions == [Caption("1.jpg#0", "1.jpg", "A child .", "train"), Caption("1.jpg#1", "1.jpg", "A girl .", "train"),
                                Caption("2.jpg#0", "2.jpg", "A dog .", "val")]
    assert records.images == [Image("1.jpg", "1.jpg", "train"), Image("2.jpg", "2.jpg", "val")]
    assert records.unlisted == 1
    assert records.own_splits


def test_kaggles_results_are_read_with_the_one_line_that_lacks_a_divider(tmp_path: Path, user_error) -> None:
    text = "image_name| comment_number| comment\n1.jpg| 0| A man , a plan | and a bar .\n2199200615.jpg| 4   A dog runs .\n"
    captions = read(tmp_path, "results.csv", text, "flickr").captions
    assert [caption.text for caption in captions] == ["A man , a plan | and a bar .", "A dog runs ."]
    assert "line 2: 'A dog runs' is no picture's name" in user_error(read, tmp_path, "a.csv", "1.jpg#0\tA\nA dog runs\n", "flickr")


def test_conceptual_captions_need_no_header_and_their_quotation_marks_are_text(tmp_path: Path, user_error) -> None:
    text = 'a sign says " stop\thttp://a.org/1.jpg\n" a play " , says person\thttp://a.org/2.jpg\n'
    records = read(tmp_path, "Train_GCC-training.tsv", text, "table", columns={"caption": 1})
    assert records.captions == [Caption("1", None, 'a sign says " stop', "train"), Caption("2", None, '" a play " , says person', "train")]
    assert records.images == []
    assert "columns.caption is 3, and the table has 2 columns" in user_error(read, tmp_path, "a.tsv", text, "table", columns={"caption": 3})
    assert "numbers no column of captions" in user_error(read, tmp_path, "a.tsv", text, "table", columns={"file": 1})
    assert "columns.file is 'x'" in user_error(read, tmp_path, "a.tsv", text, "table", columns={"caption": 1, "file": "x"})


def test_columns_of_any_name_are_read_once_they_are_named(tmp_path: Path, user_error) -> None:
    text = "id,Bildunterschrift,datei,teil\n1,ein Hund,1.jpg,dev\n"
    records = read(tmp_path, "a.csv", text, "table", columns={"caption": "Bildunterschrift", "file": "datei", "split": "teil"})
    assert records.captions == [Caption("1.jpg#0", "1.jpg", "ein Hund", "val")]
    message = user_error(read, tmp_path, "a.csv", text, "table", columns={"caption": "Bildunterschritf"})
    assert "no column 'Bildunterschritf'; did you mean 'Bildunterschrift'?" in message


def test_json_lines_hold_one_caption_or_several_and_blank_lines_are_counted(tmp_path: Path) -> None:
    lines = [{"file_name": "1.jpg", "text": "a cat"}, None, {"file_name": "2.jpg", "text": ["a dog", None]},
             {"file_name": "1.jpg", "text": "it"}]
    text = "\ufeff" + "\r\n".join("" if line is None else json.dumps(line) for line in lines)
    records = read(tmp_path, "metadata.jsonl", text, "jsonl")
    assert records.captions == [Caption("1.jpg#0", "1.jpg", "a cat", "train"), Caption("2.jpg#0", "2.jpg", "a dog", "train"),
                                Caption("2.jpg#1", "2.jpg", None, "train"), Caption("1.jpg#1", "1.jpg", "it", "train")]
    assert records.blank == 1


@pytest.mark.parametrize(("text", "found"), [
    ('{"image": "1.jpg", "caption": "a"}\n{"image": "2.jpg"}\n', "line 2: no 'caption' in {'image': '2.jpg'}"),
    ('{"image": "1.jpg", "caption": "a"}\n["a"]\n', "line 2: no 'image' in ['a']"),
    ('{"image": "1.jpg", "caption": 7}\n', "line 1: the caption is 7, expected a text"),
    ('{"image": "1.jpg", "caption": "a"}\n{"image"\n', "line 2 is not valid JSON"),
    ('{"image": null, "caption": "a"}\n', "line 1: None is no file's name"),
    ('{"image": "1.jpg", "caption": "a", "split": ["val"]}\n', "line 1: unknown split ['val']"),
    ('{"caption": "a"}\n', "no column of files; its first record has 'caption': name one"),
    ("", "no column of files; its first record has none"),
])
def test_what_is_wrong_in_json_lines_is_named_with_its_line(tmp_path: Path, user_error, text: str, found: str) -> None:
    assert found in user_error(read, tmp_path, "a.jsonl", text, "jsonl")


def test_parquet_gives_the_captions_of_a_column_of_texts_or_of_lists(tmp_path: Path, user_error) -> None:
    written = pa.table({"image_id": [7, 8], "captions": [["a cat", "a pet"], ["a dog"]], "split": ["train", "restval"]})
    pq.write_table(written, tmp_path / "a.parquet")
    records = read_records(tmp_path, "a.parquet", "parquet", "train", columns={"file": "image_id", "caption": "captions", "split": "split"})
    assert [(caption.caption_id, caption.text, caption.split) for caption in records.captions] == [
        ("7#0", "a cat", "train"), ("7#1", "a pet", "train"), ("8#0", "a dog", "restval")]
    assert "more than max_bytes" in user_error(read_records, tmp_path, "a.parquet", "parquet", "train", 9, columns={"caption": "captions"})
    assert "cannot be read as Parquet" in user_error(read, tmp_path, "b.parquet", b"PAR1", "parquet")
    assert "is packed" in user_error(read, tmp_path, "b.parquet.gz", b"PAR1", "parquet")


def test_a_caption_that_is_null_is_listed_or_stops_extraction(tmp_path: Path, user_error) -> None:
    (tmp_path / "a.json").write_text(json.dumps(["a cat", None, "a dog"]))
    line = user_error(extract, tmp_path, tmp_path / "out", ExtractParams("json", "a.json"))
    assert "a.json, item 1: the caption is null: correct it" in line
    report = extract(tmp_path, tmp_path / "out", ExtractParams("json", "a.json", bad_captions="skip"))
    assert report["skipped"] == [{"source": "a.json", "record": "1", "reason": "the caption is null"}]
    for format, value in (
        ("coco", {"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1, "caption": None}]}),
        ("karpathy", {"images": [{"imgid": 1, "split": "train", "sentences": [{"raw": None, "sentid": 1}]}]}),
        ("maccap", [{"split": "train", "image_name": "1.jpg", "captions": [None]}]),
        ("msrvtt", {"videos": [{"video_id": "v", "split": "train"}], "sentences": [{"video_id": "v", "sen_id": 1, "caption": None}]}),
    ):
        assert read(tmp_path, "b.json", json.dumps(value), format).captions[0].text is None, format


def test_entities_of_html_are_written_out_and_counted_and_other_ampersands_stay(tmp_path: Path) -> None:
    lines = ["a man&#39;s car &amp; a dog", "&quot;Stop&quot; &amp;amp; go", "AT&T and R&D; &c", "a&nbsp;b", "no entity", *SENTENCES[:1]]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    report = extract(tmp_path, tmp_path / "out", ExtractParams("lines", "a.txt", heldout=0))
    assert pq.read_table(tmp_path / "out/corpus.parquet")["text"].to_pylist() == [
        "a man's car & a dog", '"Stop" & go', "AT&T and R&D; &c", "a b", "no entity", SENTENCES[0]]
    assert report["corpus"]["unescaped"] == 3
    (tmp_path / "a.txt").write_text("a cat\na dog")
    assert "unescaped" not in extract(tmp_path, tmp_path / "out", ExtractParams("lines", "a.txt", heldout=0))["corpus"]
