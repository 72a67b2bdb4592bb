"""Records of what pictures show, in COCO's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.core.files import read_json
from pipeline.core.params import check
from pipeline.corpus.extract import ExtractParams, extract
from tests.corpus.folders import picture

# as published with CHAIR: COCO's own names first, then what else people say
SYNONYMS = "person, girl, boy, man, woman, people\ndog, puppy,  pup\ndining table, table, desk\ncar, automobile\n, train track\n"
INSTANCES: dict[str, Any] = {
    "info": {"year": 2014}, "licenses": [],
    "images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg", "width": 640, "height": 480},
               {"id": 73, "file_name": "COCO_val2014_000000000073.jpg", "width": 640, "height": 480},
               {"id": 99, "file_name": "COCO_val2014_000000000099.jpg", "width": 640, "height": 480}],
    "annotations": [
        {"id": 1, "image_id": 42, "category_id": 18, "bbox": [1.0, 2.0, 3.0, 4.0], "area": 12.0, "iscrowd": 0, "segmentation": [[1, 2]]},
        {"id": 2, "image_id": 42, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "area": 12.0, "iscrowd": 1, "segmentation": {}},
        {"id": 3, "image_id": 99, "category_id": 67, "bbox": [1.0, 2.0, 3.0, 4.0], "area": 12.0, "iscrowd": 0, "segmentation": [[1, 2]]}],
    "categories": [{"supercategory": "person", "id": 1, "name": "person"}, {"supercategory": "animal", "id": 18, "name": "dog"},
                   {"supercategory": "furniture", "id": 67, "name": "dining table"}],
}
CAPTIONS = {"images": [
    {"cocoid": 42, "filepath": "", "filename": "a.jpg", "split": "val", "sentences": [{"sentid": 1, "raw": "A dog."}]},
    {"cocoid": 73, "filename": "b.jpg", "split": "test", "sentences": [{"sentid": 2, "raw": "Nothing."}]},
    {"cocoid": 5, "split": "train", "sentences": [{"sentid": 3, "raw": "A car."}]}, {"cocoid": 6, "split": "train", "sentences": [
        {"sentid": 4, "raw": "A bus."}]}]}
PARAMS = {"format": "karpathy", "source": "dataset.json", "instances": "instances.json", "synonyms": "synonyms.txt"}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(picture())
    write(folder)
    (folder / "dataset.json").write_text(json.dumps(CAPTIONS))
    return folder


def write(folder: Path, synonyms: str = SYNONYMS, **changes: Any) -> None:
    (folder / "instances.json").write_text(json.dumps({**INSTANCES, **changes}))
    (folder / "synonyms.txt").write_text(synonyms)


def run(raw: Path, **changes: Any) -> Path:
    extract(raw, raw.parent / "out", check(ExtractParams, {**PARAMS, **changes}, "extract.mine"))
    return raw.parent / "out"


def test_cocos_instances_and_the_published_synonyms_are_read_as_they_are(raw):
    out = run(raw)
    assert pq.read_table(out / "objects.parquet").to_pylist() == [
        {"image_id": "42", "object": "dog", "colour": None, "crowd": False},
        {"image_id": "42", "object": "person", "colour": None, "crowd": True}]
    vocabulary = read_json(out / "vocabulary.json")
    assert vocabulary["objects"]["dog"] == ["dog", "puppy", "pup"]
    assert vocabulary["objects"]["dining table"] == ["dining table", "table", "desk"]
    assert (vocabulary["nothing"], vocabulary["colours"]) == (["train track"], {})
    assert read_json(out / "report.json")["objects"] == 2


def test_images_are_found_by_file_name_where_ids_are_others(raw):
    captions = [{"split": "test", "image_name": name, "captions": ["A dog."]} for name in ("a.jpg", "b.jpg")]
    (raw / "captions.json").write_text(json.dumps(captions))
    write(raw, images=[{"id": 42, "file_name": "val/a.jpg"}, {"id": 73, "file_name": "s.tar!b.jpg"}])
    out = run(raw, format="maccap", source="captions.json", train_splits=[], heldout=0)
    assert [row["image_id"] for row in pq.read_table(out / "objects.parquet").to_pylist()] == ["a.jpg", "a.jpg"]


def test_colours_are_read_where_there_are_any(raw):
    (raw / "colours.txt").write_text("red, crimson\nblue\n")
    annotation = {"id": 1, "image_id": 42, "category_id": 18}
    write(raw, annotations=[{**annotation, "colour": "red"}, annotation])
    out = run(raw, colours="colours.txt")
    assert [row["colour"] for row in pq.read_table(out / "objects.parquet").to_pylist()] == ["red", None]
    assert read_json(out / "vocabulary.json")["colours"] == {"red": ["red", "crimson"], "blue": ["blue"]}


def test_without_a_record_nothing_of_it_is_written(raw):
    out = run(raw, instances="", synonyms="")
    assert not (out / "objects.parquet").exists()
    assert not (out / "vocabulary.json").exists()


@pytest.mark.parametrize(("changes", "message"), [
    ({"images": INSTANCES["images"][:1]}, "image 73 (b.jpg) is not listed in `images`"),
    ({"categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dogs"}]}, "the synonyms list no 'dogs'; did you mean 'dog'"),
    ({"annotations": [{"image_id": 42, "category_id": 2}]}, "is of category 2, which `categories` does not list"),
    ({"annotations": [{"category_id": 18}]}, "no 'image_id' in"),
    ({"annotations": {}}, "'annotations' is {}, expected a list"),
    ({"synonyms": "\n , at home\n"}, "synonyms.txt lists nothing"),
])
def test_a_wrong_record_is_named(raw, user_error, changes, message):
    write(raw, **changes)
    assert message in user_error(run, raw)


@pytest.mark.parametrize(("colour", "message"), [("green", "the colours list no 'green'"), ([255, 0, 0], "'colour' is [255, 0, 0]")])
def test_a_wrong_colour_is_named(raw, user_error, colour, message):
    (raw / "colours.txt").write_text("red, crimson\n")
    write(raw, annotations=[{"image_id": 42, "category_id": 18, "colour": colour}])
    assert message in user_error(run, raw, colours="colours.txt")
    run(raw)  # without a list of colours none is read


def test_a_file_name_counts_more_than_an_id_that_happens_to_be_alike(raw):
    write(raw, images=[{"id": 73, "file_name": "a.jpg"}, {"id": 42, "file_name": "b.jpg"}],
          annotations=[{"image_id": 73, "category_id": 18}])
    assert pq.read_table(run(raw) / "objects.parquet").to_pylist()[0]["image_id"] == "42"


def test_file_names_that_several_folders_have_are_told_apart_by_id_or_refused(raw, user_error):
    twice = [{"id": 42, "file_name": "k/a.jpg"}, {"id": 7, "file_name": "g/a.jpg"}, {"id": 73, "file_name": "b.jpg"}]
    write(raw, images=twice)
    assert pq.read_table(run(raw) / "objects.parquet").num_rows == 2
    write(raw, images=[{**twice[0], "id": 8}, *twice[1:]], annotations=[])
    assert "image 42 (a.jpg) is not listed in `images` by its id, and several have its file name" in user_error(run, raw)


def test_two_pictures_never_share_a_record(raw, user_error):
    captions = {"images": [{**record, "filename": "a.jpg", "split": "test"} if "filename" in record else record
                           for record in CAPTIONS["images"]]}
    (raw / "dataset.json").write_text(json.dumps(captions))
    write(raw, images=[{"id": 1, "file_name": "a.jpg"}], annotations=[])
    assert "images 42 and 73 are both the record of a.jpg" in user_error(run, raw)


def test_instances_and_synonyms_go_together(raw, user_error):
    for changes in ({"instances": ""}, {"synonyms": ""}, {"instances": "", "synonyms": "", "colours": "colours.txt"}):
        assert "instances and synonyms go together" in user_error(run, raw, **changes)
