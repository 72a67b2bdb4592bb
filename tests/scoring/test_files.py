"""Captions and references in every shape: the same ones, whatever the format, the type of ids and their order."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.scoring.files import pair, read_captions, read_references
from tests.scoring.shapes import CAPTIONS, TEXTS, captions, name_of, references

SPLITS = {"karpathy.json": "test", "magic.json": "test"}
BY_FILE = ("magic.json", "folder.jsonl")  # captions of names of files, which references must know
WITHOUT_FILES = ("mapping.json", "lines.jsonl", "lists.jsonl", "table.csv", "table.tsv", "windows.csv")


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize("its", references())
@pytest.mark.parametrize("name", captions())
def test_every_format_of_captions_fits_every_one_of_references_that_has_its_ids(tmp_path: Path, name: str,
                                                                                its: str) -> None:
    file = written(tmp_path / "captions", name, captions()[name])
    of = written(tmp_path / "references", its, references()[its])
    if (name in BY_FILE and its in WITHOUT_FILES) or (its == "magic.json" and name not in BY_FILE):
        with pytest.raises(UserError, match="not of the same images"):
            pair(read_captions(file), read_references(of, SPLITS.get(its)))
        return
    found = pair(read_captions(file), read_references(of, SPLITS.get(its)))
    named = name_of if its == "magic.json" else str
    assert found.hypotheses == {named(image_id): text for image_id, text in CAPTIONS.items()}
    assert found.texts == {named(image_id): texts for image_id, texts in TEXTS.items()}


def test_magics_results_carry_their_references(tmp_path: Path) -> None:
    own = read_captions(written(tmp_path, "magic.json", captions()["magic.json"])).own
    assert own is not None
    assert [item.texts for item in own.items] == [tuple(texts) for texts in TEXTS.values()]
    assert read_captions(written(tmp_path, "coco.json", captions()["coco.json"])).own is None


def test_no_order_of_the_files_shows_in_what_is_scored(tmp_path: Path) -> None:
    generator, ids = random.Random(0), list(CAPTIONS)
    found = []
    for turn in range(6):
        generator.shuffle(ids)
        ours = read_captions(written(tmp_path, f"{turn}.json", captions(ids)["coco.json"]))
        generator.shuffle(ids)
        theirs = read_references(written(tmp_path, f"{turn}-references.json", references(ids)["coco.json"]))
        both = pair(ours, theirs)
        found.append([list(both.hypotheses.items()), list(both.texts.items())])
    assert found == found[:1] * 6


def test_a_packed_file_and_a_single_record_are_read(tmp_path: Path) -> None:
    packed = gzip.compress(references()["coco.json"].encode())
    assert len(read_references(written(tmp_path, "references.json.gz", packed)).items) == 3
    for name in ("one.json", "one.jsonl"):
        assert read_captions(written(tmp_path, name, '{"image_id": 7, "caption": "a cat"}')).texts == {"7": "a cat"}


def test_a_split_is_chosen_and_what_it_leaves_out_is_counted(tmp_path: Path) -> None:
    file = written(tmp_path, "karpathy.json", references()["karpathy.json"])
    found = read_references(file, "test")
    assert (len(found.items), found.others) == (3, 1)
    with pytest.raises(UserError,
                       match=r"has several splits, val \(1 images\), test \(3 images\): choose one by --split"):
        read_references(file)
    with pytest.raises(UserError, match="no split 'tset'; did you mean 'test'"):
        read_references(file, "tset")
    with pytest.raises(UserError, match="no split 'test'"):
        read_references(written(tmp_path, "coco.json", references()["coco.json"]), "test")


BROKEN_CAPTIONS = {
    "nothing": (b"", "is empty"),
    "blanks": (b" \n\n", "is empty"),
    "no record": (b"[]", "empty list"),
    "cut off": (b'[{"image_id": 1, "caption": "a', "not valid JSON"),
    "cut off mapping": (b'{"1": "a cat", "2', "not valid JSON"),
    "a broken line": (b'{"image_id": 1, "caption": "a"}\n{"image_id": 2', "line 2 is not valid JSON"),
    "deep": (b"[" * 100_000, "not valid JSON"),
    "Latin-1": ('[{"image_id": 1,\n"caption": "a café"}]'.encode("latin-1"),
                "line 2: byte 0xe9 at offset 34 is not UTF-8"),
    "UTF-16": ("image_id,caption\n1,a cat\n".encode("utf-16"), "is not UTF-8"),
    "a list of texts": (b'["a cat", "a dog"]', r"list\[0\] is 'a cat', expected an object"),
    "sentences alone": (b"a cat sits\na dog runs\n", "no id in line 2, which has 'a cat sits'"),
    "no id": (b'[{"caption": "a cat"}]', "no id in list"),
    "no caption": (b'[{"image_id": 1, "score": 2}]', "no caption in list"),
    "two columns of captions": (b"image_id,caption,text\n1,a,b\n", "line 2 has 'caption' and 'text'"),
    "two columns of a name": (b"image_id,caption,Caption\n1,a,b\n", "a column occurs twice"),
    "a header alone": (b"image_id,caption\n", "a header and rows"),
    "an id twice": (b'[{"image_id": 1, "caption": "a"}, {"image_id": "1", "caption": "a"}]',
                    r"image '1' has two captions, in list\[0\] and list\[1\]"),
    "a key twice": (b'{"1": "a cat", "1": "a dog"}', "'1' occurs twice in one object"),
    "two captions in a list": (b'{"1": ["a cat", "a dog"]}',
                               r"the caption of '1' is \['a cat', 'a dog'\], expected a string"),
    "null": (b'[{"image_id": 1, "caption": null}]', "'caption' is None, expected a string"),
    "an id of null": (b'[{"image_id": null, "caption": "a"}]', "'image_id' is None, expected a whole number or a name"),
    "an id of a fraction": (b'[{"image_id": 1.5, "caption": "a"}]', "'image_id' is 1.5"),
    "an id of control characters": (b'[{"image_id": "a\\u0007", "caption": "a"}]', "'image_id' is"),
    "a later row without id": (b'[{"image_id": 1, "caption": "a"}, {"caption": "b"}]',
                               r"list\[1\]: 'image_id' is None"),
    "an unquoted comma": (b"image_id,caption\n1,a cat, a dog\n", "line 2: the row has 3 columns, the header 2"),
    "an open quotation mark": (b'image_id,caption\n1,"a cat\n', "line 2: the row that begins here cannot be read"),
    "COCO annotations": (b'{"images": [{"id": 1}], "annotations": []}',
                         "references of COCO or of Karpathy's data sets, no captions"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN_CAPTIONS.values(), ids=BROKEN_CAPTIONS)
def test_captions_that_cannot_be_scored_are_one_line_which_says_where(tmp_path: Path, content: bytes,
                                                                      said: str) -> None:
    file = written(tmp_path, "captions", content)
    with pytest.raises(UserError, match=said) as error:
        read_captions(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


BROKEN_REFERENCES = {
    "no list": ({"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": ["a"]}]}, "expected a string"),
    "an unknown image": ({"images": [{"id": 1}], "annotations": [{"image_id": 2, "caption": "a"}]},
                         "image '2', which `images` does not list"),
    "an image twice": ({"images": [{"id": 1}, {"id": 1}], "annotations": []}, "twice in 'images'"),
    "an annotation that is no object": ({"images": [], "annotations": [7]}, "'image_id' is None"),
    "no sentences": ({"images": [{"filename": "a", "split": "test"}]}, "'sentences' is None"),
    "no images": ({"images": []}, "there are no references in it"),
    "videos": ({"videos": [{"video_id": "a"}], "sentences": [{}]}, r"'videos'\[0\] is \{'video_id': 'a'\}"),
    "numbers": ({"info": 7}, "the value of 'info' is 7, expected a list of references"),
    "a text in a list of lists": ([{"image_id": 1, "captions": "a"}], "expected a list of references"),
    "two splits of an image": ([{"image_id": 1, "caption": "a", "split": "val"},
                                {"image_id": 1, "caption": "b", "split": "test"}],
                               "'1' is test here and val before"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN_REFERENCES.values(), ids=BROKEN_REFERENCES)
def test_references_that_cannot_be_scored_against_are_one_line(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        read_references(written(tmp_path, "references.json", json.dumps(content)))
    assert "references.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("ours", "theirs", "said"), [
    ({"1": "a", "2": "b"}, {"1": ["a"], "3": ["c"], "4": ["d"]},
     "1 image has a caption and no references, such as '2' and 2 images have references and no caption, such as '3'"),
    ({"1": "a"}, {"1": []}, "image '1' has no reference"),
    ({"01": "a"}, {"1": ["a"]}, "such as '01'"),
])
def test_captions_and_references_that_do_not_belong_together_are_one_line(tmp_path: Path, ours: dict, theirs: dict,
                                                                          said: str) -> None:
    found = read_captions(written(tmp_path, "a.json", json.dumps(ours)))
    with pytest.raises(UserError, match=said) as error:
        pair(found, read_references(written(tmp_path, "b.json", json.dumps(theirs))))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    for file, said in ((tmp_path / "none.json", "is missing"), (tmp_path, "cannot be read")):
        with pytest.raises(UserError, match=said):
            read_captions(file)
