"""Extraction keeps the pools apart, accounts for every caption, and writes the same bytes each time."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture

from pipeline.core.artefacts import seal
from pipeline.core.errors import UserError
from pipeline.core.params import check
from pipeline.corpus.cleaning import draw, hold_out
from pipeline.corpus.extract import ExtractParams, extract
from pipeline.corpus.records import Caption
from pipeline.images import locate, open_image, write_pictures
from tests.corpus.folders import picture, rows


def from_lines(folder: Path, text: str, **changes: Any) -> dict[str, Any]:
    """Extract a text file of one sentence a line into folder/out."""
    (folder / "captions.txt").write_text(text, encoding="utf-8", newline="")
    return extract(folder, folder / "out", ExtractParams(**{"format": "lines", "source": "captions.txt", **changes}))


def write_karpathy(folder: Path, splits: str = "train train restval val test unlabelled") -> None:
    """One image a split, with two sentences each unless it is unlabelled; files only for images that are looked at."""
    images: list[dict[str, Any]] = []
    for i, split in enumerate(splits.split()):
        image: dict[str, Any] = {"imgid": i, "filename": f"{i}.jpg", "filepath": split, "split": split}
        if split != "unlabelled":
            image["sentences"] = [{"raw": f"{split} sentence {k} of {i}", "sentid": 10 * i + k} for k in range(2)]
        if split not in ("train", "restval"):
            (folder / "pictures" / split).mkdir(parents=True, exist_ok=True)
            (folder / "pictures" / split / f"{i}.jpg").write_bytes(picture())
        images.append(image)
    (folder / "dataset.json").write_text(json.dumps({"images": images}))


KARPATHY = ExtractParams(format="karpathy", source="dataset.json", images="pictures", heldout=0)


def test_the_three_pools_never_mix(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    report = extract(tmp_path, tmp_path / "out", KARPATHY)
    corpus, references, images = (rows(tmp_path / "out", table) for table in ("corpus", "references", "images"))
    assert [(row["caption_id"], row["image_id"], row["split"]) for row in corpus] == [
        ("0", "0", "train"), ("1", "0", "train"), ("10", "1", "train"), ("11", "1", "train"),
        ("20", "2", "train"), ("21", "2", "train"),
    ]
    assert [(row["text"], row["image_id"], row["split"]) for row in references] == [
        ("val sentence 0 of 3", "3", "val"), ("val sentence 1 of 3", "3", "val"),
        ("test sentence 0 of 4", "4", "test"), ("test sentence 1 of 4", "4", "test"),
    ]
    assert images == [
        {"image_id": "3", "path": "pictures/val/3.jpg", "split": "val"},
        {"image_id": "4", "path": "pictures/test/4.jpg", "split": "test"},
        {"image_id": "5", "path": "pictures/unlabelled/5.jpg", "split": "unlabelled"},
    ]
    assert report["images"] == {"unlabelled": 1, "val": 1, "test": 1}
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report


def test_the_corpus_holds_no_path_of_any_image(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    extract(tmp_path, tmp_path / "out", KARPATHY)
    assert pq.read_schema(tmp_path / "out" / "corpus.parquet").names == ["caption_id", "image_id", "text", "split"]
    assert ".jpg" not in str(rows(tmp_path / "out", "corpus"))


PAIRED = replace(KARPATHY, paired=True)


def write_pictures_of_the_corpus(folder: Path) -> None:
    for i, split in enumerate(("train", "train", "restval")):
        (folder / "pictures" / split).mkdir(exist_ok=True)
        (folder / "pictures" / split / f"{i}.jpg").write_bytes(picture())


def test_pictures_of_the_corpus_are_listed_only_where_pairs_are_asked_for(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    write_pictures_of_the_corpus(tmp_path)
    extract(tmp_path, tmp_path / "out", KARPATHY)
    assert {row["split"] for row in rows(tmp_path / "out", "images")} == {"val", "test", "unlabelled"}
    report = extract(tmp_path, tmp_path / "paired", PAIRED)
    assert [(row["image_id"], row["path"], row["split"]) for row in rows(tmp_path / "paired", "images")][:3] == [
        ("0", "pictures/train/0.jpg", "train"), ("1", "pictures/train/1.jpg", "train"), ("2", "pictures/restval/2.jpg", "restval")]
    assert rows(tmp_path / "paired", "images")[3:] == rows(tmp_path / "out", "images")
    assert report["images"] == {"unlabelled": 1, "val": 1, "test": 1, "train": 2, "restval": 1}
    for table in ("corpus", "references"):
        assert rows(tmp_path / "paired", table) == rows(tmp_path / "out", table)


def test_pictures_of_train_splits_that_are_not_asked_for_stay_out(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    write_pictures_of_the_corpus(tmp_path)
    extract(tmp_path, tmp_path / "out", replace(PAIRED, train_splits=("train",)))
    assert "restval" not in {row["split"] for row in rows(tmp_path / "out", "images")}


def test_a_caption_of_a_paired_corpus_without_its_picture_is_named(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    write_pictures_of_the_corpus(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    del data["images"][1]["filename"]
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"^dataset\.json: caption 10 has no picture: add it, or set paired to false$"):
        extract(tmp_path, tmp_path / "out", PAIRED)
    (tmp_path / "captions.txt").write_text("A cat.\n")
    with pytest.raises(UserError, match="caption 1 has no picture"):
        extract(tmp_path, tmp_path / "out", ExtractParams("lines", "captions.txt", paired=True))
    assert not (tmp_path / "out").exists()


def test_a_missing_picture_of_a_paired_corpus_is_named(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    write_pictures_of_the_corpus(tmp_path)
    (tmp_path / "pictures/restval/2.jpg").unlink()
    extract(tmp_path, tmp_path / "out", KARPATHY)
    with pytest.raises(UserError, match=r"restval/2\.jpg is missing"):
        extract(tmp_path, tmp_path / "out", PAIRED)


def name_in_tar(folder: Path, member: str) -> None:
    """The val picture of the data set lies in a tar file, under this name there."""
    data = json.loads((folder / "dataset.json").read_text())
    data["images"][3].update(filepath="", filename=f"shards/val.tar!{member}")
    (folder / "dataset.json").write_text(json.dumps(data))


def test_pictures_may_lie_in_tar_files(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    (tmp_path / "pictures/shards").mkdir()
    write_pictures(tmp_path / "pictures/shards/val.tar", {"3": Picture.new("RGB", (8, 8))}, {"3": "a text"})
    name_in_tar(tmp_path, "3.png")
    extract(tmp_path, tmp_path / "out", KARPATHY)
    (path,) = [row["path"] for row in rows(tmp_path / "out", "images") if row["split"] == "val"]
    assert path == "pictures/shards/val.tar!3.png"
    assert open_image(locate(tmp_path, path)).size == (8, 8)
    name_in_tar(tmp_path, "4.png")
    with pytest.raises(UserError, match=r"val\.tar holds no '4\.png'"):
        extract(tmp_path, tmp_path / "out", KARPATHY)


def test_a_photograph_with_an_exclamation_mark_in_its_name_is_extracted(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    data["images"][3]["filename"] = "surprise!.jpg"
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    (tmp_path / "pictures/val/3.jpg").rename(tmp_path / "pictures/val/surprise!.jpg")
    extract(tmp_path, tmp_path / "out", KARPATHY)
    assert "pictures/val/surprise!.jpg" in [row["path"] for row in rows(tmp_path / "out", "images")]


def test_sentences_of_splits_that_are_not_asked_for_stay_out_and_are_counted(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    report = extract(tmp_path, tmp_path / "out", ExtractParams("karpathy", "dataset.json", "pictures", train_splits=("train",)))
    assert report["corpus"]["read"] == 4
    assert report["other_splits"] == 2
    assert not any("restval" in row["text"] for row in rows(tmp_path / "out", "corpus"))


def test_whitespace_of_every_kind_becomes_one_space_and_is_counted(tmp_path: Path) -> None:
    sentences = ["A\ncat.", " A  cat. ", "A\u2028\u2029cat.", "A\v\f\x85cat.", "A\u00a0\t\r\ncat.", "A cat."]
    (tmp_path / "a.json").write_text(json.dumps(sentences))
    report = extract(tmp_path, tmp_path / "out", ExtractParams("json", "a.json", heldout=0))
    assert [row["text"] for row in rows(tmp_path / "out", "corpus")] == ["A cat."] * 6
    assert report["corpus"]["normalised"] == 5
    assert (report["corpus"]["mean_words"], report["corpus"]["max_words"]) == (2.0, 2)


BAD = {
    "empty": " \n ", "long": "x" * 401, "NUL": "a\0b", "bell": "a\x07b", "C1": "a\x80b", "replacement": "caf\ufffd",
    "surrogate": "\ud83d",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_a_bad_caption_stops_extraction_or_is_listed_with_its_reason(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(["A cat.", text, "A dog."]))
    with pytest.raises(UserError, match=r"^a\.json, item 1: the caption [^\n]*: correct it, or set bad_captions to [^\n]*$"):
        extract(tmp_path, tmp_path / "out", ExtractParams("json", "a.json"))
    assert not (tmp_path / "out").exists()
    report = extract(tmp_path, tmp_path / "out", ExtractParams("json", "a.json", bad_captions="skip"))
    assert [row["text"] for row in rows(tmp_path / "out", "corpus")] == ["A cat.", "A dog."]
    [skipped] = report["skipped"]
    assert (skipped["source"], skipped["record"]) == ("a.json", "1")
    assert skipped["reason"].startswith("the caption ")


def test_a_caption_of_exactly_the_longest_length_is_kept(tmp_path: Path) -> None:
    assert from_lines(tmp_path, "x" * 30, max_characters=30)["corpus"]["kept"] == 1


@pytest.mark.parametrize("limit", [None, 1, 7, 1000])
def test_every_caption_read_is_kept_skipped_or_beyond_the_limit(tmp_path: Path, limit: int | None) -> None:
    lines = [f"sentence {i}" if i % 10 else f"bad \a {i}" for i in range(100)]
    report = from_lines(tmp_path, "\n\n".join(lines), limit=limit, bad_captions="skip", heldout=0.2)
    corpus = report["corpus"]
    assert corpus["read"] == 100
    assert corpus["skipped"] == len(report["skipped"]) == 10
    assert corpus["read"] == corpus["kept"] + corpus["skipped"] + corpus["beyond_limit"]
    written = rows(tmp_path / "out", "corpus")
    assert len(written) == corpus["kept"] == min(limit or 90, 90) == corpus["train"] + corpus["heldout"]
    assert [row["caption_id"] for row in written] == sorted((row["caption_id"] for row in written), key=int)
    assert report["blank_lines"] == 99


def test_a_limit_draws_with_the_seed_and_a_smaller_draw_is_part_of_a_larger_one() -> None:
    captions = [Caption(str(i), None, f"sentence {i}", "train") for i in range(1000)]
    small, large = draw(captions, 50, 0), draw(captions, 200, 0)
    assert len(small) == 50
    assert len(large) == 200
    assert set(small) < set(large)
    assert large == [caption for caption in captions if caption in set(large)]
    assert large != draw(captions, 200, 1)
    assert large != captions[:200]


def test_captions_of_one_image_are_held_out_together() -> None:
    captions = [Caption(f"{i}.{k}", str(i), f"{i} {k}", "train") for i in range(200) for k in range(5)]
    random.Random(0).shuffle(captions)
    held = hold_out(captions, 0.1, 0)
    assert [caption.caption_id for caption in held] == [caption.caption_id for caption in captions]
    sides = {image: {caption.split for caption in held if caption.image_id == image} for image in {c.image_id for c in held}}
    assert all(len(side) == 1 for side in sides.values())
    assert sum(caption.split == "heldout" for caption in held) == 100
    assert held != hold_out(captions, 0.1, 1)
    assert held == hold_out(captions, 0.1, 0)


def test_a_sentence_is_never_both_trained_on_and_held_out() -> None:
    held = hold_out([Caption(str(i), None, f"sentence {i % 50}", "train") for i in range(500)], 0.2, 0)
    train, heldout = ({caption.text for caption in held if caption.split == split} for split in ("train", "heldout"))
    assert len(train) == 40
    assert len(heldout) == 10
    assert not train & heldout


def test_a_sealed_data_set_that_was_changed_is_refused_and_another_manifest_is_none_of_ours(tmp_path: Path, user_error) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/captions.txt").write_text("A cat.\nA dog.\n")
    (tmp_path / "raw/manifest.json").write_text("{}")
    extract(tmp_path / "raw", tmp_path / "out", ExtractParams("lines", "captions.txt"))
    seal(tmp_path / "raw")
    (tmp_path / "raw/captions.txt").write_text("A cat.\nA dig.\n")
    message = user_error(extract, tmp_path / "raw", tmp_path / "out", ExtractParams("lines", "captions.txt"))
    assert "captions.txt is not as it was made" in message


def test_a_corpus_of_one_sentence_is_refused_with_advice_that_helps(tmp_path: Path, user_error) -> None:
    message = user_error(from_lines, tmp_path, "A cat.\n" * 60)
    assert "all 60 train captions are the same sentence" in message
    assert from_lines(tmp_path, "A cat.\n" * 60 + "A dog.\n")["corpus"]["heldout"] > 0
    assert from_lines(tmp_path, "A cat.\n" * 60, heldout=0)["corpus"]["train"] == 60


def test_captions_without_spaces_between_words_are_counted(tmp_path: Path) -> None:
    lines = ["一只猫坐在红色的桌子上", "แมวนั่งอยู่บนโต๊ะสีแดง", "赤いテーブルの上に猫が座っている", "一只 猫 坐在 红色 的 桌子 上",
             "A cat (猫) sits.", "Un chat est assis."]
    assert from_lines(tmp_path, "\n".join(lines))["unspaced"] == 3


@pytest.mark.parametrize(("share", "size", "expected"), [(0.02, 2, 1), (0.99, 3, 2), (0, 9, 0), (0.5, 1, 0)])
def test_a_small_corpus_is_still_split_and_never_held_out_as_a_whole(share: float, size: int, expected: int) -> None:
    held = hold_out([Caption(str(i), None, str(i), "train") for i in range(size)], share, 0)
    assert sum(caption.split == "heldout" for caption in held) == expected


def test_extracting_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    for name in ("a", "b"):
        extract(tmp_path, tmp_path / name, KARPATHY)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["corpus.parquet", "images.parquet", "references.parquet", "report.json", "unpaired-manifest.json"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_a_data_set_without_train_splits_has_an_empty_corpus_of_the_same_columns(tmp_path: Path) -> None:
    write_karpathy(tmp_path, "val test")
    report = extract(tmp_path, tmp_path / "out", KARPATHY)
    assert report["corpus"]["read"] == 0
    assert report["references"]["kept"] == 4
    table = pq.read_table(tmp_path / "out" / "corpus.parquet")
    assert table.num_rows == 0
    assert {str(field.type) for field in table.schema} == {"string"}


def test_sentences_without_images_can_be_references(tmp_path: Path) -> None:
    assert from_lines(tmp_path, "A cat.\n", split="test")["references"]["test"] == 1
    assert rows(tmp_path / "out", "references") == [{"caption_id": "1", "image_id": None, "text": "A cat.", "split": "test"}]


def test_an_empty_corpus_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no captions found"):
        from_lines(tmp_path, "\n\n")
    with pytest.raises(UserError, match=r"all 2 train captions are bad, the first \(1\) because"):
        from_lines(tmp_path, "\a\n\a\n", bad_captions="skip")
    write_karpathy(tmp_path, "restval val")
    params = ExtractParams("karpathy", "dataset.json", "pictures", train_splits=("train",))
    with pytest.raises(UserError, match="train captions are of restval: add one of these to train_splits"):
        extract(tmp_path, tmp_path / "out", params)
    write_karpathy(tmp_path, "unlabelled")
    with pytest.raises(UserError, match="no captions found"):
        extract(tmp_path, tmp_path / "out", KARPATHY)


@pytest.mark.parametrize("sentences", [[], [{"raw": "\a", "sentid": 99}]], ids=["none", "only bad ones"])
def test_an_evaluation_image_without_sentences_is_refused(tmp_path: Path, sentences: list[Any]) -> None:
    write_karpathy(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    data["images"][3]["sentences"] = sentences
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"dataset\.json: val image 3 has no sentences"):
        extract(tmp_path, tmp_path / "out", ExtractParams("karpathy", "dataset.json", "pictures", bad_captions="skip"))


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    write_karpathy(tmp_path)
    (tmp_path / "pictures/test/4.jpg").unlink()
    (tmp_path / "pictures/unlabelled/5.jpg").unlink()
    with pytest.raises(UserError, match=r"test/4\.jpg is missing, and 2 of the 3 images of dataset\.json"):
        extract(tmp_path, tmp_path / "out", KARPATHY)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../secret.jpg", "/secret.jpg", "val/../../../secret.jpg"])
def test_a_file_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_karpathy(raw, "train val")
    (raw / "secret.jpg").write_bytes(picture())
    data = json.loads((raw / "dataset.json").read_text())
    data["images"][1].update(filepath=None, filename=name)
    (raw / "dataset.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"dataset\.json: image 1: file name .* leaves its folder"):
        extract(raw, tmp_path / "out", KARPATHY)


@pytest.mark.parametrize("images", ["..", "../disk", "pictures/../../disk", "/disk", "a\0b"])
def test_a_folder_of_images_that_leaves_the_raw_folder_by_its_name_is_refused_with_a_way_that_works(tmp_path: Path, user_error,
                                                                                                   images: str) -> None:
    write_karpathy(tmp_path)
    line = user_error(extract, tmp_path, tmp_path / "out", replace(KARPATHY, images=images))
    assert line.startswith(f"extract: images: file name {images!r} leaves its folder {tmp_path}")
    assert f"`cp -rs /path/to/folder {tmp_path}` links the files" in line


def put_on_another_disk(folder: Path, name: str) -> None:
    """What `name` is in the raw folder lies elsewhere now, and a link to it is there."""
    (folder / "disk and more").mkdir(exist_ok=True)
    (folder / "raw" / name).rename(folder / "disk and more" / Path(name).name)
    (folder / "raw" / name).symlink_to(folder / "disk and more" / Path(name).name)


def shown(raw: Path, out: Path) -> list[tuple[int, int]]:
    """The sizes of all pictures of a data set, opened as the stages after `extract` do."""
    return [open_image(locate(raw, row["path"])).size for row in rows(out, "images")]


def write_photographs(raw: Path) -> None:
    raw.mkdir()
    write_karpathy(raw)
    for path in (raw / "pictures").glob("*/*.jpg"):
        Picture.new("RGB", (8, 8)).save(path)


@pytest.mark.parametrize("images", ["pictures", "."])
@pytest.mark.parametrize("linked", ["pictures", "pictures/val"])
def test_a_linked_folder_of_pictures_is_refused_with_a_command_after_which_all_works(tmp_path: Path, user_error, linked: str,
                                                                                     images: str) -> None:
    write_photographs(tmp_path / "raw")
    data = json.loads((tmp_path / "raw/dataset.json").read_text())
    if images == ".":
        for image in data["images"]:
            image["filepath"] = f"pictures/{image['filepath']}"
        (tmp_path / "raw/dataset.json").write_text(json.dumps(data))
    put_on_another_disk(tmp_path, linked)
    line = user_error(extract, tmp_path / "raw", tmp_path / "out", replace(KARPATHY, images=images))
    assert f"by the link {tmp_path / 'raw' / linked} to another folder, where DVC would see no change" in line
    subprocess.run(re.search("`(.+)`", line)[1], shell=True, check=True)
    extract(tmp_path / "raw", tmp_path / "out", replace(KARPATHY, images=images))
    assert shown(tmp_path / "raw", tmp_path / "out") == [(8, 8)] * 3


def test_a_data_set_may_be_a_link_to_a_folder_elsewhere_and_each_picture_one_to_a_file(tmp_path: Path) -> None:
    write_photographs(tmp_path / "raw")
    put_on_another_disk(tmp_path, "pictures/val/3.jpg")
    (tmp_path / "raw").rename(tmp_path / "other disk")
    (tmp_path / "raw").symlink_to(tmp_path / "other disk")
    extract(tmp_path / "raw", tmp_path / "out", KARPATHY)
    assert shown(tmp_path / "raw", tmp_path / "out") == [(8, 8)] * 3


def test_a_record_cannot_leave_a_data_set_that_is_a_link(tmp_path: Path) -> None:
    write_photographs(tmp_path / "other")
    (tmp_path / "raw").symlink_to(tmp_path / "other")
    (tmp_path / "secret.jpg").touch()
    data = json.loads((tmp_path / "raw/dataset.json").read_text())
    for name in ("../../secret.jpg", str(tmp_path / "secret.jpg"), "loop/secret.jpg"):
        data["images"][3].update(filepath=None, filename=name)
        (tmp_path / "raw/dataset.json").write_text(json.dumps(data))
        (tmp_path / "raw/pictures/loop").unlink(missing_ok=True)
        (tmp_path / "raw/pictures/loop").symlink_to(tmp_path if name.startswith("loop") else "loop")
        with pytest.raises(UserError, match=r"dataset\.json: image 3: file name .* leaves its folder"):
            extract(tmp_path / "raw", tmp_path / "out", KARPATHY)


def test_a_link_to_itself_is_a_missing_picture(tmp_path: Path, user_error) -> None:
    write_photographs(tmp_path / "raw")
    shutil.rmtree(tmp_path / "raw/pictures")
    (tmp_path / "raw/pictures").symlink_to("pictures")
    assert "is missing" in user_error(extract, tmp_path / "raw", tmp_path / "out", KARPATHY)


def test_a_failed_extraction_leaves_the_former_output_alone(tmp_path: Path) -> None:
    from_lines(tmp_path, "A cat.\n")
    with pytest.raises(UserError):
        from_lines(tmp_path, "\a\n")
    assert [row["text"] for row in rows(tmp_path / "out", "corpus")] == ["A cat."]


@pytest.mark.parametrize(("changes", "line"), [
    ({"format": "karpaty"}, "format is 'karpaty'; did you mean 'karpathy'"),
    ({"split": "tset"}, "split is 'tset'; did you mean 'test'"),
    ({"bad_captions": "skipp"}, "did you mean 'skip'"),
    ({"train_splits": ["train", "val"]}, "train_splits.1 is 'val'; did you mean"),
    ({"limit": 0}, "limit is 0"),
    ({"max_characters": 1.5}, "max_characters is 1.5"),
    ({"heldout": 1}, "heldout is 1"),
    ({"heldout": float("nan")}, "heldout is nan"),
    ({"seed": "a"}, "seed is 'a'"),
])
def test_a_parameter_that_is_not_allowed_is_refused_at_once(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        check(ExtractParams, {"format": "lines", "source": "a.txt", **changes}, "extract.mine")


def test_a_test_picture_without_captions_is_left_out_on_request(tmp_path: Path, user_error) -> None:
    write_karpathy(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    data["images"][4]["sentences"] = []
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    assert "set bad_images to 'skip'" in user_error(extract, tmp_path, tmp_path / "out", KARPATHY)
    report = extract(tmp_path, tmp_path / "out", replace(KARPATHY, bad_images="skip"))
    assert report["images"] == {"unlabelled": 1, "val": 1, "test": 0}
    assert "has no sentences" in report["skipped_images"][0]["reason"]
