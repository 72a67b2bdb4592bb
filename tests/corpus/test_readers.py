"""Every format gives the same plain records, and whatever is wrong with a file is one line that names it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.core.files import file_inside
from pipeline.corpus import sources, tables
from pipeline.corpus.readers import READERS, read_records
from pipeline.corpus.records import Caption, Image, Records, lines_of
from pipeline.corpus.sources import MAX_BYTES, Source
from pipeline.images import SUFFIXES
from tests.project import ROOT


def read_source(folder: Path, name: str, limit: int = MAX_BYTES) -> str:
    return Source(folder, name, limit).text()


def read(folder: Path, content: Any, format: str, split: str = "train") -> Records:
    """Write `content` (bytes, or a value for JSON) to a file of `folder` and read it back."""
    (folder / "source").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_records(folder, "source", format, split)


def refusal(folder: Path, content: Any, format: str, split: str = "train") -> str:
    """The one line a user sees for a source that is refused."""
    with pytest.raises(UserError) as caught:
        read(folder, content, format, split)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("source")
    return line


def karpathy_image(number: int, split: str, **changes: Any) -> dict[str, Any]:
    sentences = [{"raw": f"Picture {number} .", "sentid": 10 * number, "imgid": number, "tokens": []}]
    return {"imgid": number, "filename": f"{number}.jpg", "split": split, "sentences": sentences} | changes


def test_karpathy_images_keep_their_own_split(tmp_path: Path) -> None:
    images = [
        karpathy_image(1, "train"),
        karpathy_image(2, "restval"),
        karpathy_image(3, "val", cocoid=901, filepath="val2014"),
        karpathy_image(4, "test"),
        {"imgid": 5, "filename": "5.jpg", "split": "unlabelled"},
    ]
    records = read(tmp_path, {"images": images}, "karpathy")
    assert records.captions == [
        Caption("10", "1", "Picture 1 .", "train"),
        Caption("20", "2", "Picture 2 .", "restval"),
        Caption("30", "901", "Picture 3 .", "val"),
        Caption("40", "4", "Picture 4 .", "test"),
    ]
    assert records.images == [
        Image("1", "1.jpg", "train"), Image("2", "2.jpg", "restval"),
        Image("901", "val2014/3.jpg", "val"), Image("4", "4.jpg", "test"), Image("5", "5.jpg", "unlabelled"),
    ]


def test_a_training_image_of_karpathy_needs_no_file_name_and_is_then_no_picture(tmp_path: Path) -> None:
    image = karpathy_image(1, "train", filepath="train2014")
    del image["filename"]
    records = read(tmp_path, {"images": [image]}, "karpathy")
    assert len(records.captions) == 1
    assert records.images == []


@pytest.mark.parametrize("split", ["val", "test", "unlabelled"])
def test_an_image_that_is_looked_at_needs_a_file_name(tmp_path: Path, split: str) -> None:
    image = karpathy_image(1, split)
    del image["filename"]
    assert "no 'filename'" in refusal(tmp_path, {"images": [image]}, "karpathy")


def test_an_unlabelled_image_with_sentences_is_refused(tmp_path: Path) -> None:
    line = refusal(tmp_path, {"images": [karpathy_image(7, "unlabelled")]}, "karpathy")
    assert "images[0] (image 7)" in line
    assert "unlabelled" in line


def test_coco_annotations_become_captions_of_the_split_asked_for(tmp_path: Path) -> None:
    data = {"images": [{"id": 5, "file_name": "a/5.jpg"}], "annotations": [{"id": 8, "image_id": 5, "caption": "A cat."}]}
    test = read(tmp_path, data, "coco", split="test")
    assert test.captions == [Caption("8", "5", "A cat.", "test")]
    assert test.images == [Image("5", "a/5.jpg", "test")]
    assert read(tmp_path, data, "coco", split="train").images == [Image("5", "a/5.jpg", "train")]


def test_a_training_image_of_coco_needs_no_file_name_and_is_then_no_picture(tmp_path: Path) -> None:
    data = {"images": [{"id": 5}], "annotations": [{"id": 8, "image_id": 5, "caption": "A cat."}]}
    assert read(tmp_path, data, "coco", split="train").images == []
    assert "no 'file_name'" in refusal(tmp_path, data, "coco", split="test")


def test_a_coco_annotation_of_an_unknown_image_is_refused(tmp_path: Path) -> None:
    line = refusal(tmp_path, {"images": [{"id": 5}], "annotations": [{"id": 8, "image_id": 6, "caption": "A cat."}]}, "coco")
    assert "annotations[0]" in line
    assert "image 6" in line


def test_lines_are_numbered_as_an_editor_does_and_blank_ones_are_counted(tmp_path: Path) -> None:
    records = read(tmp_path, b"\xef\xbb\xbfA cat.\r\n\r\n \t\nA\xe2\x80\xa8dog.\n", "lines")
    assert records.captions == [Caption("1", None, "A cat.", "train"), Caption("4", None, "A\u2028dog.", "train")]
    assert records.blank == 2
    assert records.noun == "line"


@pytest.mark.parametrize("seed", range(40))
def test_lines_read_one_at_a_time_are_those_of_the_whole_text(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    text = "".join(chance.choice(["\n", "\r\n", "\r", "\u2028", "\x85", "\ufeff", " ", "a", "é", ""]) for _ in range(chance.randrange(30)))
    (tmp_path / "a.txt").write_bytes(text.encode(chance.choice(["utf-8", "utf-8-sig"])))
    source = Source(tmp_path, "a.txt")
    assert list(source.lines()) == lines_of(source.text())
    assert "".join(source.lines(ends=True)) == source.text()


def test_an_empty_text_file_holds_no_line(tmp_path: Path) -> None:
    assert read(tmp_path, b"", "lines") == Records([], [], noun="line", blank=0)


def test_a_json_list_of_strings_is_numbered_from_0(tmp_path: Path) -> None:
    assert read(tmp_path, ["A cat.", "A dog."], "json").captions == [
        Caption("0", None, "A cat.", "train"), Caption("1", None, "A dog.", "train"),
    ]
    assert "list[1] is 7" in refusal(tmp_path, ["A cat.", 7], "json")


def test_maccap_captions_get_ids_of_their_own(tmp_path: Path) -> None:
    records = read(tmp_path, [{"split": "val", "image_name": "x.jpg", "captions": ["A cat.", "A pet."]},
                              {"split": "train", "image_name": "y.jpg", "captions": ["A dog."]}], "maccap")
    assert records.captions == [Caption("x.jpg#0", "x.jpg", "A cat.", "val"), Caption("x.jpg#1", "x.jpg", "A pet.", "val"),
                                Caption("y.jpg#0", "y.jpg", "A dog.", "train")]
    assert records.images == [Image("x.jpg", "x.jpg", "val"), Image("y.jpg", "y.jpg", "train")]


def test_sources_in_archives_and_compressed_files_read_as_plain_ones(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"A cat.\n"))
    for name in ("a.zip", "b.jar"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("in/a.txt", "A cat.\n")
            archive.writestr("in/a.txt.gz", gzip.compress(b"A cat.\n"))
    for source in ("a.txt.gz", "a.zip!in/a.txt", "b.jar!in/a.txt", "a.zip!in/a.txt.gz"):
        assert read_source(tmp_path, source) == "A cat.\n", source


def test_a_source_inside_an_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "madeup_package").mkdir()
    (tmp_path / "madeup_package" / "__init__.py").write_text("raise SystemExit('reading data must not run the package')")
    with zipfile.ZipFile(tmp_path / "madeup_package" / "data.jar", "w") as archive:
        archive.writestr("a.txt", "A cat.")
    monkeypatch.syspath_prepend(tmp_path)
    assert read_source(tmp_path / "raw", "package:madeup_package/data.jar!a.txt") == "A cat."
    with pytest.raises(UserError, match="'absent_package', which is not installed"):
        read_source(tmp_path, "package:absent_package/a.txt")
    with pytest.raises(UserError, match="leaves its folder"):
        read_source(tmp_path, "package:madeup_package/../a.txt")


def test_a_misspelt_file_in_an_archive_is_answered_with_the_near_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("captions.json", "[]")
    with pytest.raises(UserError, match=r"did you mean 'captions\.json'"):
        read_source(tmp_path, "a.zip!caption.json")


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.json is missing"):
        read_source(tmp_path, "absent.json")
    (tmp_path / "broken.json.gz").write_bytes(gzip.compress(b"A cat." * 100)[:-12])
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    (tmp_path / "folder").mkdir()
    for source in ("broken.json.gz", "broken.zip!a.json", "folder"):
        with pytest.raises(UserError, match=f"{source.partition('!')[0]} cannot be read"):
            read_source(tmp_path, source)


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/hostname", "a/..", "", "a\0b", "a\nb"])
def test_a_file_name_that_leaves_the_folder_or_names_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="leaves its folder"):
        file_inside(tmp_path, name)


def test_files_linked_from_a_cache_elsewhere_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    cached = tmp_path / "cache/files/md5/0f" / ("1" * 30)
    cached.parent.mkdir(parents=True)
    cached.write_text("A cat.")
    (tmp_path / "raw" / "a.txt").symlink_to(cached)
    assert read_source(tmp_path / "raw", "a.txt") == "A cat."


def test_a_link_to_any_other_file_outside_is_refused(tmp_path: Path, user_error) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "secret.txt").write_text("mine")
    (tmp_path / "raw" / "a.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "raw" / "b.txt").symlink_to("a.txt")
    for name in ("a.txt", "b.txt"):
        assert "is a link that leaves" in user_error(read_source, tmp_path / "raw", name)


def test_a_source_elsewhere_is_refused_with_a_way_that_works(tmp_path: Path, user_error) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/a.txt").write_text("A cat.")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/texts").symlink_to(tmp_path / "disk")
    for name in ("texts/a.txt", "../disk/a.txt", str(tmp_path / "disk/a.txt")):
        assert f"have {tmp_path / 'raw'} itself be a link" in user_error(read_source, tmp_path / "raw", name)
    (tmp_path / "photos").symlink_to(tmp_path / "disk")
    assert read_source(tmp_path / "photos", "a.txt") == "A cat."


def test_a_pipe_is_not_waited_for(tmp_path: Path, user_error) -> None:
    os.mkfifo(tmp_path / "a.txt")
    assert "is no regular file" in user_error(read_source, tmp_path, "a.txt")


@pytest.mark.parametrize("name", ["bomb.gz", "bomb.zip!a.txt", "bomb.zip!a.txt.gz"])
def test_an_archive_that_unpacks_to_more_than_any_text_is_refused_before_it_fills_the_memory(tmp_path: Path, user_error, monkeypatch,
                                                                                             name: str) -> None:
    monkeypatch.setattr(sources, "_SMALL", 2**20)
    zeros = bytes(2**23)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(zeros))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", zeros)
        archive.writestr("a.txt.gz", gzip.compress(zeros))
    assert "which no text does" in user_error(read_source, tmp_path, name)


def test_a_text_over_the_limit_is_refused(tmp_path: Path, user_error) -> None:
    (tmp_path / "a.txt").write_text("A cat.")
    assert read_source(tmp_path, "a.txt", 6) == "A cat."
    assert "more than max_bytes = 5" in user_error(read_source, tmp_path, "a.txt", 5)


SENTENCES = (
    "A man riding a wave on top of a surfboard.", "Two dogs, a cat, and a man sit on a sofa.", "2 dogs run; a cat sleeps",
    'A street sign says "stop" in red', "A woman's hat", "People wait for the bus at 3:15", "a machine for $1,000",
)


def table(*columns: Any, separator: str = ",", quoting: Any = csv.QUOTE_MINIMAL, header: Sequence[str] = ()) -> str:
    """A table of SENTENCES, where a column is "caption", a value of all rows, or makes a row's value of its number."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator="\n")
    writer.writerows([header] if header else [])
    for i, sentence in enumerate(SENTENCES * 2):
        writer.writerow([sentence if column == "caption" else column(i) if callable(column) else column for column in columns])
    return out.getvalue()


def lines(form: str) -> str:
    """SENTENCES, each written in this form."""
    return "\n".join(form.format(i=i, sentence=sentence) for i, sentence in enumerate(SENTENCES * 2, 1))


BESIDE: dict[str, Callable[[int], str]] = {
    "file": "images/{:04d}.jpg".format, "spaced file": "my photo {}.PNG".format, "video": "v{}.mp4".format,
    "URL": "http://dogs.org/{}".format, "number": str, "file with number": "1000092795{}.jpg#0".format, "MSVD": "mv89psg6zh4_33_{}".format,
    "COCO": "COCO_val2014_{:012d}".format, "MSR-VTT": "video{}".format, "decimal": "0.{}".format, "negative": "-{}".format,
    "padded": "{:06d}".format, "hash": "{:03x}9fab".format,
}


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["few quotes", "quotes"])
@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE.keys())
def test_a_table_is_not_taken_for_sentences_wherever_its_captions_stand(tmp_path: Path, user_error, beside: Callable[[int], str],
                                                                        separator: str, quoting: Any) -> None:
    for columns in [(beside, "caption"), ("caption", beside), (beside, str, "caption"), ("train", "caption", beside),
                    ("caption", beside, "caption")]:
        for header in [(), ("image", "caption", "comment")[: len(columns)]]:
            (tmp_path / "a.txt").write_text(table(*columns, separator=separator, quoting=quoting, header=header))
            message = user_error(read_records, tmp_path, "a.txt", "lines", "train")
            assert re.search(r"a\.txt is read as lines, but looks like a table .*: keep the column of captions", message)
            assert repr(separator) in message or quoting == csv.QUOTE_ALL


OTHER_FORMATS = {
    "JSON": '[\n "A cat.",\n "A dog."\n]', "JSON in a line": '["A cat.", "A dog."]', "COCO": '{"images": []}',
    "COCO, indented": json.dumps({"annotations": [{"id": i, "caption": text} for i, text in enumerate(SENTENCES)]}, indent=2),
    "JSON Lines": "\n".join(json.dumps({"caption": text}) for text in SENTENCES),
    "lists of words": "\n".join(json.dumps(text.split()) for text in SENTENCES),
    "lists of Python": "\n".join(repr(text.split()) for text in SENTENCES),
    "tuples of Python": "\n".join(repr((text, 1)) for text in SENTENCES), "Flickr8k": lines("10{i}_693b.jpg#0\t{sentence}"),
    "Flickr30k": "image_name| comment_number| comment\n" + lines("10{i}.jpg| 0| {sentence}"), "one line of Flickr30k": "10.jpg| 0| A child",
    "file, space": lines("10{i}.jpg {sentence}"), "space, file": lines("{sentence} 10{i}.jpg"),
    "file, colon": lines("10{i}.jpg: {sentence}"), "id, space": lines("mv89psg6zh4_33_{i} {sentence}"),
    "number, comma and space": lines("{i}, {sentence}"), "file, comma and space": lines("10{i}.jpg, {sentence}"),
    "a header and a row": "id,caption\n0,A dog", "a label": "label,caption\n" + lines("dog,{sentence}"),
    "a quoted caption": 'dog,"A dog"\ncat,"A cat"\n', "a header left over": "caption\nA dog\nA cat", "quotes": lines('"{sentence}"'),
    "single quotes": "'A dog'\n'A cat'\n'A cow'", "quotes where commas are": table("caption"),
    "Markdown": "| image | caption |\n|---|---|\n" + lines("| dog | {sentence} |"), "Moses": lines("{i} ||| {sentence}"),
    "no spaces": "dog|A dog\ncat|A cat",
    "SubRip": "\n\n".join(f"{i}\n00:00:0{i},000 --> 00:00:0{i},900\n{text}\nand more" for i, text in enumerate(SENTENCES)),
    "WebVTT": "WEBVTT\n\n" + lines("0{i}:00.000 --> 0{i}:01.000\n{sentence}\n"),
    "SubViewer": lines("0:00:01.000,0:00:02.000\n{sentence}\n"), "XML": lines('<caption id="{i}">{sentence}</caption>'),
    "HTML": f"<ul>\n{lines('  <li>{sentence}')}\n</ul>", "YAML": lines("- image: {i}.jpg\n  caption: {sentence}"),
    "fields": lines("caption: {sentence}"),
    **{form: lines(form + " {sentence}")
       for form in ("{i}", "{i}.", "{i})", "({i})", "[{i}]", "{i}:", "#{i}", "{i} -", "{i}  ", "Image {i}:", "-", "*", "•")},
}


@pytest.mark.parametrize("text", OTHER_FORMATS.values(), ids=OTHER_FORMATS.keys())
def test_another_format_read_as_lines_is_said(tmp_path: Path, user_error, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert "is read as lines, but looks like" in user_error(read_records, tmp_path, "a.txt", "lines", "train")


REAL = {
    "as people write them": SENTENCES, "brackets": ("A cat.", "[laughs] A dog.", "A boat."),
    "one comma": ("A dog, running", "A man, a plan") * 9, "one semicolon": ("A dog; a cat", "A man; his dog") * 9,
    "numbers": ("2 dogs run", "3 men sit", "10 people wait", "4 cats, 2 dogs", "2, 3 or 4 cows"),
    "years": ("1984, a woman in Berlin", "1923, two men on a horse"), "years last": ("A street in Berlin, 1984", "Paris, 1923"),
    "years and dashes": ("1984 - Berlin", "1985: Paris", "1986. A street in Rome"),
    "ages": ("Jane Doe, 42, walks", "Ann, 5, plays", "John, 31"), "thousands": ("12,000 people march", "3,500 runners", "1,200,000 bees"),
    "prices": ("A shirt for $1,000", "A car that costs $3,000", "$5, please"), "decimals": ("Il coûte 3,50 euros", "0,5 litres de bière"),
    "times": ("3:15 on a clock", "12:30, a train leaves", "9:00 in the morning"),
    "dialogue": ('"Stop," he said.', '"Go," she said, "now."', '"No!" he cried.', '"Go away!"'),
    "titles": ('A poster of "Jaws"', '"Jaws" is on it'), "apostrophes": ("'Tis the season", "It's a dog's bowl", "The dogs' park"),
    "no space after commas": ("a dog,a cat", "a man;2 kids,and a cow"), "bars": ("a sign that says stop | go", "open | closed"),
    "types": ("F-16, ready", "A380 landing", "On the runway, an A380", "wearing masks of covid19"),
    "some with files": ("A picture named 1.jpg, of a cat.", "IMG_001.jpg shows a dog", "A cat", "A dog"),
    "one with a file": ("A picture named 1.jpg, of a cat.",), "one with a number": ("1. Platz, ein Hund",), "one in quotes": ('"Stop"',),
    "one with an address": ("www.dogs.org is on a sign",), "one with a year": ("1984, Berlin",),
    "words of headers": ("Image of a dog, text and title", "Text on a sign", "Caption this"), "hearts": ("<3 this dog", "A"),
    "a colon": ("A dog: brown", "Sign: stop"), "ordinals": ("1st place, a dog", "2nd dog, brown"),
    "Chinese": ("2016年,两只狗", "一只狗,2只猫", "一群人在2008,北京"), "spaces at both ends": ("\tA dog ", " A cat\t"),
    "long": ("A dog runs, " * 99, "一只猫" * 999, "1_" * 999, "a" * 9999),
}


@pytest.mark.parametrize("text", ["\n".join(sentences) for sentences in REAL.values()], ids=REAL.keys())
def test_sentences_with_numbers_commas_quotes_and_file_names_are_lines_all_the_same(tmp_path: Path, text: str) -> None:
    assert len(read(tmp_path, text.encode(), "lines").captions) == len(text.splitlines())
    for line in text.splitlines():
        assert len(read(tmp_path, line.encode(), "lines").captions) == 1


def test_bytes_that_are_not_utf_8_are_located(tmp_path: Path) -> None:
    line = refusal(tmp_path, "A cat.\nA caf\xe9.\n".encode("latin-1"), "lines")
    assert "line 2" in line
    assert "0xe9 at offset 12" in line
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbfA cat.\r\nA caf\xe9.\r\n")
    for read_all in (Source(tmp_path, "marked.txt").text, lambda: list(Source(tmp_path, "marked.txt").lines())):
        with pytest.raises(UserError, match="line 2: byte 0xe9 at offset 16 is not UTF-8"):
            read_all()


@pytest.mark.parametrize("content", ["{'images'", "[" * 100_000, "1" * 5000], ids=["quotes", "too deep", "too long a number"])
def test_what_is_not_json_is_said_in_one_line(tmp_path: Path, content: str) -> None:
    assert "is not valid JSON" in refusal(tmp_path, content.encode(), "json")


@pytest.mark.parametrize(("format", "content", "place"), [
    ("karpathy", [], "no 'images' in []"),
    ("karpathy", {"images": ["a.jpg"]}, "images[0]: no 'split'"),
    ("karpathy", {"images": [{"split": "val", "filename": "1.jpg", "sentences": []}]}, "images[0]: no 'imgid'"),
    ("karpathy", {"images": [karpathy_image(1, "val", filename=None)]}, "images[0]: 'filename' is None"),
    ("karpathy", {"images": [karpathy_image(1, "val", sentences=[{"raw": "A cat."}])]}, "images[0].sentences[0]: no 'sentid'"),
    ("karpathy", {"images": [{"imgid": 1, "split": "train"}]}, "images[0]: no 'sentences'"),
    ("coco", {"images": [{"id": 1}]}, "no 'annotations'"),
    ("coco", {"images": [{"id": 1}], "annotations": [{"id": 2, "image_id": 1}]}, "annotations[0]: no 'caption'"),
    ("coco", {"images": [{"id": True}], "annotations": []}, "images[0]: 'id' is True"),
    ("maccap", [{"split": "val", "captions": []}], "list[0]: no 'image_name'"),
    ("maccap", {"images": []}, "expected a list"),
])
def test_a_missing_field_is_named_with_its_record(tmp_path: Path, format: str, content: Any, place: str) -> None:
    assert place in refusal(tmp_path, content, format)


def test_every_listed_format_of_records_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    for format in sorted(set(READERS) - {"lines", "folder"}):
        refusal(tmp_path, {"unknown": 1}, format)


def test_the_docs_name_every_format_every_usual_column_and_every_kind_of_picture() -> None:
    text = (ROOT / "docs/data.md").read_text()
    columns = [name for names in tables._COLUMNS.values() for name in names]
    assert [name for name in (*READERS, *columns) if f"`{name}`" not in text] == []
    assert [suffix for suffix in SUFFIXES if suffix not in text and not suffix.startswith(".j")] == []


@pytest.mark.parametrize(("format", "content", "id"), [
    ("karpathy", {"images": [karpathy_image(1, "train"), karpathy_image(1, "val", sentences=[])]}, "image id '1'"),
    ("karpathy", {"images": [karpathy_image(1, "train", sentences=[{"raw": "A", "sentid": 4}, {"raw": "B", "sentid": "4"}])]},
     "caption id '4'"),
    ("coco", {"images": [{"id": 3}, {"id": "3"}], "annotations": []}, "image id '3'"),
    ("maccap", [{"split": "val", "image_name": "x", "captions": []}] * 2, "image id 'x'"),
])
def test_an_id_that_occurs_twice_is_named(tmp_path: Path, format: str, content: Any, id: str) -> None:
    assert f"{id} occurs twice" in refusal(tmp_path, content, format)


def test_an_unknown_split_is_answered_with_the_near_one(tmp_path: Path) -> None:
    line = refusal(tmp_path, {"images": [karpathy_image(1, "trian")]}, "karpathy")
    assert "images[0]: unknown split 'trian'; did you mean 'train'?" in line
    assert "only the karpathy format" in refusal(tmp_path, [{"split": "unlabelled", "image_name": "x", "captions": []}], "maccap")
