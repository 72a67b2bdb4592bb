"""CHAIR of captions in anybody's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.scoring.evaluate import as_json, evaluate, load_pair
from pipeline.scoring.truth import Record
from tests.scoring.test_files import written

INSTANCES = {"images": [{"id": 7, "file_name": "seven.jpg"}, {"id": 9, "file_name": "nine.jpg"}],
             "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "person"}],
             "annotations": [{"image_id": 7, "category_id": 1, "iscrowd": 0}, {"image_id": 9, "category_id": 2, "iscrowd": 0},
                             {"image_id": 9, "category_id": 3, "iscrowd": 1}]}
SYNONYMS = "person, man, woman\ndog, puppy\ncat, kitten\nbird\n"
REFERENCES = {"images": INSTANCES["images"], "annotations": [
    {"id": 1, "image_id": 7, "caption": "a puppy runs"}, {"id": 2, "image_id": 7, "caption": "a dog under a bird"},
    {"id": 3, "image_id": 9, "caption": "a kitten sleeps"}]}


def scored(folder: Path, captions: object, record: tuple[str, str] = (json.dumps(INSTANCES), SYNONYMS)) -> dict:
    files = [written(folder, name, text) for name, text in (
        ("captions.json", json.dumps(captions)), ("references.json", json.dumps(REFERENCES)), ("instances.json", record[0]),
        ("synonyms.txt", record[1]))]
    return as_json(evaluate(load_pair(files[0], files[1], None), record=Record.of(files[2], files[3])))


@pytest.mark.parametrize("ids", [(7, 9), ("seven.jpg", "nine.jpg")])
def test_what_neither_instances_nor_references_show_is_counted(tmp_path: Path, ids: tuple) -> None:
    found = scored(tmp_path, [{"image_id": ids[0], "caption": "a dog and a bird"}, {"image_id": ids[1], "caption": "two men and a puppy"}])
    assert [found["per_image"][image]["CHAIRs"] for image in ("7", "9")] == [0, 1]
    assert found["scores"]["CHAIRs"] == 0.5
    assert found["scores"]["CHAIRi"] == 0.25  # a puppy, of a dog, a bird, men and a puppy
    assert found["scores"]["ObjectRecall"] == 0.75  # dog and bird of the first, person of the second, which has a cat too


def test_an_image_without_a_record_and_an_object_without_words_are_named(tmp_path: Path) -> None:
    captions = [{"image_id": 7, "caption": "a dog"}, {"image_id": 9, "caption": "a cat"}]
    lacking = json.dumps({**INSTANCES, "images": INSTANCES["images"][:1]})
    with pytest.raises(UserError, match=r"image 9 .* is not listed"):
        scored(tmp_path, captions, (lacking, SYNONYMS))
    with pytest.raises(UserError, match="the synonyms list no 'cat'"):
        scored(tmp_path, captions, (json.dumps(INSTANCES), "person\ndog\n"))


def test_one_of_the_two_files_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="go together"):
        Record.of(tmp_path, None)
