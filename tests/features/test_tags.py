"""Object tags in a CLIP's space: whose objects, in which order, how many, and refused where they belong to something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.core import paths
from pipeline.core.files import digest_file, digest_tree, read_json
from pipeline.core.params import check
from pipeline.features.tagging import Detection
from pipeline.features.tags import TagParams, embed_tags, encode_labels
from pipeline.needs.base import models_of, read
from pipeline.needs.images import Images
from pipeline.needs.tags import Found, Objects
from tests.artefacts import (
    CLIP,
    CLIP_DIGEST,
    DETECTOR,
    DETECTOR_DIGEST,
    LABELS,
    PROMPT,
    StubClip,
    edit_table,
    seal_again,
    write_corpus,
    write_found,
    write_pair_store,
    write_pairs,
)

FOUND = [[("cat", 0.7), ("dog", 0.9), ("cat", 0.95), ("cat", 0.6)], [], [("sun", 0.5)],
         [("tree", 0.3), ("dog", 0.6), ("cat", 0.4), ("sun", 0.35)]]
TAGGED = paths.tagged(CLIP, DETECTOR, paths.drawn("scenes"))
IDS = [f"scenes-{row}" for row in (1, 4, 5, 9)]


def detections(found: Sequence[Sequence[tuple[str, float]]]) -> list[list[Detection]]:
    return [[Detection(label, score, (0.0, 0.0, 1.0, 1.0)) for label, score in of_picture] for of_picture in found]


@pytest.fixture
def pictures(unit_rows, tmp_path, monkeypatch) -> str:
    """Four drawn pictures in which something was found, and what was found in a CLIP's space."""
    monkeypatch.chdir(tmp_path)
    write_corpus("scenes", [f"caption {row}" for row in range(12)])
    write_pairs("scenes", [1, 4, 5, 9], unit_rows(4, 8, 3), detections(FOUND))
    return paths.drawn("scenes")


def load(dataset: str, limit: int = 10) -> Found:
    return read((Objects(DETECTOR, limit),), CLIP, dataset).of(Objects)


def named(objects: Found) -> list[list[str]]:
    return [[LABELS[i] for i in row if i >= 0] for row in objects.ids.tolist()]


def test_a_pictures_objects_are_distinct_and_the_surest_come_first(pictures):
    # of three cats the surest counts
    assert named(load(pictures)) == [["cat", "dog"], [], ["sun"], ["dog", "cat", "sun", "tree"]]


def test_a_class_is_the_feature_of_its_name_in_the_prompt(pictures):
    class Reader(StubClip):
        def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
            assert texts == [PROMPT.format(label) for label in LABELS]
            return 3 * super().encode_texts(texts)

    embed_tags(CLIP, Reader(), DETECTOR, pictures, PROMPT)
    assert torch.equal(load(pictures).labels, torch.eye(8)[:4])


@pytest.mark.parametrize(("limit", "ids"), [(1, [[0], [-1], [3], [1]]), (2, [[0, 1], [-1, -1], [3, -1], [1, 0]])])
def test_no_more_objects_are_read_than_asked(pictures, limit, ids):
    assert load(pictures, limit=limit).ids.tolist() == ids


def test_tags_in_another_clips_space_than_the_features_are_refused(pictures, unit_rows, user_error):
    write_pair_store("scenes", "drawn", unit_rows(4, 8, 3), clip_digest="e" * 64)
    assert f"another CLIP {CLIP} than" in user_error(models_of, (Images(), Objects(DETECTOR, 10)), CLIP, pictures)


def test_tags_of_other_pictures_than_the_table_names_are_refused(pictures, user_error):
    edit_table(paths.image_table(pictures), pq.read_table(paths.image_table(pictures)).take([3, 2, 1, 0]))
    assert "was made from other images" in user_error(load, pictures)


def test_tags_of_other_pictures_than_the_features_are_refused(pictures, user_error):
    edit_table(paths.image_table(pictures), pq.read_table(paths.image_table(pictures)).slice(1))
    write_pair_store("scenes", "drawn", np.eye(3, 8, dtype=np.float32))
    before = digest_tree(TAGGED)
    assert "was made from other pictures" in user_error(embed_tags, CLIP, StubClip(), DETECTOR, pictures, PROMPT)
    assert digest_tree(TAGGED) == before
    write_found(pictures, detections(FOUND)[1:])
    assert named(load(pictures)) == [[], ["sun"], ["dog", "cat", "sun", "tree"]]


def test_what_was_found_says_by_whom_in_what_and_for_whom(pictures):
    about = read_json(TAGGED / "tagged.json")
    assert about == {"labels": LABELS, "prompt": PROMPT, "clip_digest": CLIP_DIGEST, "detector_digest": DETECTOR_DIGEST,
                     "source_digest": digest_file(paths.image_table(pictures)),
                     "features_digest": digest_tree(paths.image_features(CLIP, pictures))}
    table = pq.read_table(TAGGED / "objects.parquet")
    assert table["image_id"].to_pylist() == IDS
    assert table["objects"].to_pylist() == [[0, 1], [], [3], [1, 0, 3, 2]]


def test_the_same_tags_have_the_same_bytes_twice_and_change_with_the_features_beside_them(pictures, unit_rows):
    before = digest_tree(TAGGED)
    embed_tags(CLIP, StubClip(), DETECTOR, pictures, PROMPT)
    assert digest_tree(TAGGED) == before
    write_pair_store("scenes", "drawn", unit_rows(4, 8, 9))
    embed_tags(CLIP, StubClip(), DETECTOR, pictures, PROMPT)
    assert digest_tree(TAGGED) != before


@pytest.mark.parametrize("name", ["tagged.json", "objects.parquet", "labels.safetensors"])
def test_a_missing_part_is_named(pictures, user_error, name):
    file = TAGGED / name
    file.unlink()
    seal_again(file)
    assert str(file) in user_error(load, pictures)


@pytest.mark.parametrize("name", ["tagged.json", "objects.parquet", "labels.safetensors"])
def test_a_cut_part_is_named(pictures, user_error, name):
    file = TAGGED / name
    file.write_bytes(file.read_bytes()[:40])
    seal_again(file)
    assert str(file) in user_error(load, pictures)


def test_pictures_without_any_object_can_be_tagged(pictures):
    write_found(pictures, [[]] * 4)
    assert load(pictures).ids.tolist() == [[-1]] * 4
    assert pq.read_schema(TAGGED / "objects.parquet").field("objects").type == pa.list_(pa.int32())


def test_a_class_is_told_as_the_unit_text_feature_of_its_sentence(tiny_clip):
    found = encode_labels(tiny_clip, ["car", "dog"], "a photo of a {}")
    for label, feature in zip(("car", "dog"), found, strict=True):
        raw = torch.from_numpy(tiny_clip.encode_texts([f"a photo of a {label}"])[0])
        torch.testing.assert_close(feature, raw / raw.norm(), atol=1e-5, rtol=0)
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("prompt", ["a photo", "a {} and a {}", "a {0}", "a {name}", "{{}}", "a } {"])
def test_a_prompt_without_exactly_one_place_for_the_name_is_refused(user_error, prompt):
    given = {"detectors": ["detector"], "datasets": ["scenes"], "clips": ["tiny"], "prompt": prompt}
    assert "prompt must hold one {}" in user_error(check, TagParams, given, "tag")
