"""Data sets of clips are read as published; what is wrong is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.core.params import check
from pipeline.corpus.extract import ExtractParams, extract
from pipeline.corpus.readers import read_records
from pipeline.corpus.records import Caption, Image
from tests.corpus.folders import rows, touch

# MSR-VTT


def video(number: int, split: str, **changes: Any) -> dict[str, Any]:
    published = {"category": 3, "url": f"https://www.youtube.com/watch?v=made-up-{number}", "id": number,
                 "split": split, "video_id": f"video{number}", "start time": 137.72, "end time": 149.44}
    return published | changes


def sentence(number: int, of: int, caption: str) -> dict[str, Any]:
    return {"caption": caption, "video_id": f"video{of}", "sen_id": number}


def msrvtt(videos: list[Any], sentences: list[Any]) -> str:
    return json.dumps({"info": {"year": "2016"}, "videos": videos, "sentences": sentences})


TRAIN_VAL = msrvtt(
    [video(0, "train"), video(1, "train"), video(2, "validate"), video(3, "train")],
    [sentence(5, 2, "a goat climbs a wall"), sentence(0, 0, "a tram turns"),
     sentence(1, 0, "  a tram in the rain \n"), sentence(2, 1, "a boy ties his shoe"),
     sentence(6, 2, "a goat on a wall")])


def test_msr_vtt_is_read_as_published(tmp_path: Path) -> None:
    (tmp_path / "train_val_videodatainfo.json").write_text(TRAIN_VAL)
    records = read_records(tmp_path, "train_val_videodatainfo.json", "msrvtt", "train")
    assert records.captions[:2] == [Caption("5", "video2", "a goat climbs a wall", "val"),
                                    Caption("0", "video0", "a tram turns", "train")]
    assert records.images == [Image("video0", "video0.mp4", "train"), Image("video1", "video1.mp4", "train"),
                              Image("video2", "video2.mp4", "val"), Image("video3", "video3.mp4", "train")]


def test_msr_vtt_needs_no_clips_for_training_on_text_and_lists_them_for_pairs(tmp_path: Path) -> None:
    (tmp_path / "train_val_videodatainfo.json").write_text(TRAIN_VAL)
    touch(tmp_path / "clips", "video2.mp4")
    params = {"format": "msrvtt", "source": "train_val_videodatainfo.json", "images": "clips", "heldout": 0}
    report = extract(tmp_path, tmp_path / "out", ExtractParams(**params))
    texts = [row["text"] for row in rows(tmp_path / "out", "corpus")]
    assert texts == ["a tram turns", "a tram in the rain", "a boy ties his shoe"]
    images = rows(tmp_path / "out", "images")
    assert images == [{"image_id": "video2", "path": "clips/video2.mp4", "split": "val"}]
    assert (report["references"]["val"], report["corpus"]["normalised"]) == (2, 1)
    assert "unlisted" not in report
    paired = ExtractParams(**params, paired=True)
    with pytest.raises(UserError, match=r"video0\.mp4 is missing, and 3 of the 4 images"):
        extract(tmp_path, tmp_path / "paired", paired)
    touch(tmp_path / "clips", "video0.mp4", "video1.mp4", "video3.mp4")
    assert extract(tmp_path, tmp_path / "paired", paired)["images"]["train"] == 3


def test_the_test_file_of_msr_vtt_gives_references_alone_and_clips_of_any_suffix(tmp_path: Path) -> None:
    text = msrvtt([video(7, "test")], [sentence(0, 7, "two people dance")])
    (tmp_path / "test_videodatainfo.json").write_text(text)
    touch(tmp_path, "video7.webm")
    extract(tmp_path, tmp_path / "out", ExtractParams("msrvtt", "test_videodatainfo.json", suffix=".webm"))
    assert rows(tmp_path / "out", "corpus") == []
    images = rows(tmp_path / "out", "images")
    assert images == [{"image_id": "video7", "path": "video7.webm", "split": "test"}]


def test_an_empty_caption_of_msr_vtt_is_named_or_left_out_and_counted(tmp_path: Path) -> None:
    text = msrvtt([video(0, "train")], [sentence(3, 0, " "), sentence(4, 0, "a tram turns")])
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"^a\.json, caption 3: the caption is empty"):
        extract(tmp_path, tmp_path / "out", ExtractParams("msrvtt", "a.json", heldout=0))
    skipping = ExtractParams("msrvtt", "a.json", heldout=0, bad_captions="skip")
    report = extract(tmp_path, tmp_path / "out", skipping)
    assert (report["corpus"]["kept"], report["corpus"]["skipped"]) == (1, 1)


@pytest.mark.parametrize(("videos", "sentences", "found"), [
    ([video(0, "train")], [sentence(0, 9, "a tram")], "sentences[0] is of video video9, which"),
    ([video(0, "valid")], [], "videos[0]: unknown split 'valid'; did you mean 'validate'"),
    ([video(0, "train"), video(0, "test")], [], "video id 'video0' occurs twice"),
    ([video(0, "train")], [sentence(1, 0, "a"), sentence(1, 0, "b")], "caption id '1' occurs twice"),
    ([video(0, "train", video_id=None)], [], "videos[0]: 'video_id' is None"),
    (["video0"], [], "videos[0]: no 'video_id' in 'video0'"),
    ([video(0, "train")], [{"caption": "a tram", "video_id": "video0"}], "sentences[0]: no 'sen_id'"),
    ([video(0, "train")], [{"caption": [], "video_id": "video0", "sen_id": 1}], "[0]: 'caption' is []"),
])
def test_what_is_wrong_in_msr_vtt_is_named_with_its_record(tmp_path: Path, user_error, videos: list[Any],
                                                           sentences: list[Any], found: str) -> None:
    (tmp_path / "a.json").write_text(msrvtt(videos, sentences))
    line = user_error(read_records, tmp_path, "a.json", "msrvtt", "train")
    assert line.startswith("a.json")
    assert found in line


def test_a_clip_to_test_on_without_captions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(msrvtt([video(0, "test"), video(1, "test")], [sentence(0, 0, "a tram")]))
    with pytest.raises(UserError, match=r"^a\.json: test image video1 has no sentences"):
        extract(tmp_path, tmp_path / "out", ExtractParams("msrvtt", "a.json"))


# MSVD

A, B, C, D = "-4wsuPCjDBc_5_15", "_0nX-El-ySo_83_93", "a_b_c-12_3-_0_7", "mv89psg6zh4_33_46"
DESCRIPTIONS = f"""# Descriptions of clips that nobody has made.
# <clip> <caption>

{A} a squirrel eats a nut
{B} A man plays a drum.
{A} the squirrel is eating

{C} a #1 runner wins
{D} a bird bathes
{D} a bird in a sink
"""


def write_msvd(folder: Path, text: str = DESCRIPTIONS, train: str = f"{A}\n", val: str = f"{B}\n",
               test: str = f"{C}\n") -> None:
    (folder / "AllVideoDescriptions.txt").write_text(text, newline="")
    for split, names in (("train", train), ("val", val), ("test", test)):
        (folder / f"{split}_list.txt").write_text(names, newline="")


MSVD = ExtractParams("msvd", "AllVideoDescriptions.txt", "YouTubeClips", heldout=0)


def test_msvd_is_read_as_published_with_its_lists_and_counts_what_they_leave_out(tmp_path: Path) -> None:
    write_msvd(tmp_path)
    touch(tmp_path / "YouTubeClips", f"{B}.avi", f"{C}.avi")
    report = extract(tmp_path, tmp_path / "out", MSVD)
    corpus, references = rows(tmp_path / "out", "corpus"), rows(tmp_path / "out", "references")
    assert [(row["caption_id"], row["image_id"], row["text"]) for row in corpus] == [
        (f"{A}#0", A, "a squirrel eats a nut"), (f"{A}#1", A, "the squirrel is eating")]
    assert [(row["caption_id"], row["text"], row["split"]) for row in references] == [
        (f"{B}#0", "A man plays a drum.", "val"), (f"{C}#0", "a #1 runner wins", "test")]
    paths = [row["path"] for row in rows(tmp_path / "out", "images")]
    assert paths == [f"YouTubeClips/{B}.avi", f"YouTubeClips/{C}.avi"]
    assert (report["unlisted"], report["blank_lines"]) == (2, 2)


def test_msvd_with_windows_line_ends_other_lists_and_other_files_is_the_same(tmp_path: Path) -> None:
    write_msvd(tmp_path, DESCRIPTIONS.replace("\n", "\r\n"))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/mine.txt").write_bytes(f"\ufeff{B} \r\n\r\n{D}\r\n".encode())
    touch(tmp_path, f"{B}.mp4", f"{D}.mp4")
    params = ExtractParams("msvd", MSVD.source, suffix=".mp4", lists={"test": "lists/mine.txt"})
    report = extract(tmp_path, tmp_path / "out", params)
    images = [(row["path"], row["split"]) for row in rows(tmp_path / "out", "images")]
    assert images == [(f"{B}.mp4", "test"), (f"{D}.mp4", "test")]
    assert (report["references"]["test"], report["unlisted"]) == (3, 3)


def test_only_the_train_splits_asked_for_make_the_corpus_of_clips(tmp_path: Path) -> None:
    write_msvd(tmp_path)
    touch(tmp_path / "YouTubeClips", f"{B}.avi", f"{C}.avi")
    params = ExtractParams("msvd", "AllVideoDescriptions.txt", "YouTubeClips", train_splits=())
    report = extract(tmp_path, tmp_path / "out", params)
    assert (report["corpus"]["read"], report["other_splits"]) == (0, 2)


@pytest.mark.parametrize(("changes", "found"), [
    ({"val": f"{B}\n{A}\n"}, f"val_list.txt, line 2: {A} is already listed for train: keep one"),
    ({"test": f"{C}\n\n{C}\n"}, f"test_list.txt, line 3: {C} is already listed for test"),
    ({"train": f"{A}.avi\n"}, f"train_list.txt, line 1: '{A}.avi' is no clip's name such as"),
    ({"train": f"{A} vid1\n"}, f"train_list.txt, line 1: '{A} vid1' is no clip's name such as"),
    ({"text": f"{A} a nut\nA man plays.\n"}, "AllVideoDescriptions.txt, line 2: 'A' is no clip's name"),
    ({"text": f"{A},a nut\n"}, f"AllVideoDescriptions.txt, line 1: '{A},a' is no clip's name such as"),
    ({"text": f"{D} a bird\n"}, f"none of its clips, such as {D}, is in train_list.txt, val_list.txt, test"),
    ({"text": f"{A} a nut\n{B}\n{C} a bird\n"}, f"Descriptions.txt, caption {B}#0: the caption is empty"),
    ({"text": f"{A} a nut\n{B} a drum\n"}, f"AllVideoDescriptions.txt: test image {C} has no sentences"),
    ({"text": "# nothing yet\n"}, "AllVideoDescriptions.txt: no captions found in format 'msvd'"),
])
def test_what_is_wrong_in_msvd_is_named_with_its_line(tmp_path: Path, user_error, changes: dict[str, str],
                                                      found: str) -> None:
    write_msvd(tmp_path, **changes)
    assert found in user_error(extract, tmp_path, tmp_path / "out", MSVD)


def test_a_list_that_is_missing_or_elsewhere_is_named(tmp_path: Path, user_error) -> None:
    (tmp_path / "raw").mkdir()
    write_msvd(tmp_path / "raw")
    (tmp_path / "mine.txt").write_text(f"{B}\n")
    (tmp_path / "raw/val_list.txt").unlink()
    assert "val_list.txt is missing" in user_error(extract, tmp_path / "raw", tmp_path / "out", MSVD)
    params = ExtractParams("msvd", "AllVideoDescriptions.txt", lists={"test": "../mine.txt"})
    line = user_error(extract, tmp_path / "raw", tmp_path / "out", params)
    assert line.startswith("lists: test: source '../mine.txt' names no file")


# Parameters


@pytest.mark.parametrize(("changes", "found"), [
    ({"format": "msrvt"}, "format is 'msrvt'; did you mean 'msrvtt'"),
    ({"format": "msvd", "suffix": "avi"}, "suffix is 'avi', expected a dot, letters and digits, such as"),
    ({"format": "msvd", "suffix": "/../x.avi"}, "suffix is '/../x.avi', expected"),
    ({"format": "msvd", "suffix": ".mp4\n"}, "expected a dot"),
    ({"format": "table", "suffix": ".avi"}, "suffix goes with the formats msrvtt and msvd, not with table"),
    ({"format": "msrvtt", "lists": {"val": "v.txt"}}, "lists goes with the formats msvd, flickr and those of tables, not with msrvtt"),
    ({"format": "lines", "columns": {"caption": "a"}}, "columns goes with the formats table, jsonl, parquet, json, not with lines"),
    ({"format": "jsonl", "columns": {"caption": 1}}, "columns are numbers in the format table alone"),
    ({"format": "table", "columns": {"captions": "a"}}, "columns.captions"),
    ({"format": "folder", "images": "photos"}, "images goes not with the format folder"),
    ({"format": "msvd", "lists": {"valid": "v.txt"}}, "did you mean 'val'"),
])
def test_a_parameter_that_does_not_fit_the_format_is_refused_at_once(user_error, changes: dict[str, Any],
                                                                     found: str) -> None:
    assert found in user_error(check, ExtractParams, {"source": "a", **changes}, "extract.mine")


def test_suffix_and_lists_can_be_given_in_the_parameters() -> None:
    given = {"format": "msvd", "source": "a", "suffix": ".mp4", "lists": {"test": "t.txt"}}
    params = check(ExtractParams, given, "extract.mine")
    assert (params.suffix, params.lists) == (".mp4", {"test": "t.txt"})
