"""Object tags: a DETR's answers against its own tensors, folders that hold none, and tagging that survives a kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

from pipeline.core import paths
from pipeline.core.files import digest_tree, read_json
from pipeline.core.params import check
from pipeline.features.tagging import SCHEMA, Detection, Detector, DetectorParams, tag_dataset, write_tag_set, write_tags
from pipeline.synthetic.pairs import read_objects

CPU = torch.device("cpu")
LABELS = ["cat", "dog", "tree"]
# one batch and another add in another order
SUM_ORDER = 1e-5


class Killed(BaseException):
    """Stands for a kill: no code of ours may catch it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained DETR of twelve queries and three classes, with weights so large that its answers differ."""
    folder = tmp_path_factory.mktemp("foundation") / "detector"
    torch.manual_seed(0)
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", downsample_in_first_stage=False,
                            out_features=["stage2"])
    config = DetrConfig(
        backbone_config=backbone, num_queries=12, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, init_std=0.6, id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
    )
    model = DetrForObjectDetection(config)
    # queries that look elsewhere, classes that differ, boxes that leave the picture
    model.model.query_position_embeddings.weight.data *= 5
    model.class_labels_classifier.weight.data *= 4
    model.bbox_predictor.layers[-1].weight.data *= 4
    model.save_pretrained(folder)
    DetrImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Seven pictures of several sizes, from plain to noisy."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256 // (i + 1), (30 + 9 * i, 40, 3), dtype=np.uint8)) for i in range(7)]


def load(folder: Path, **params: object) -> Detector:
    return Detector(folder, DetectorParams(**{"model": "detector", "threshold": 0.0, "limit": 100, "batch": 3, **params}), CPU)


@torch.inference_mode()
def naive_detections(detector: Detector, image: Image.Image) -> list[Detection]:
    """Every query's best class and box, one picture at a time, the surest first. The picture has the detector's own size."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1
    outputs = detector.model(pixel_values=pixels[None])
    found = []
    for logits, (x, y, width, height) in zip(outputs.logits[0], outputs.pred_boxes[0].tolist(), strict=True):
        shares = torch.exp(logits) / torch.exp(logits).sum()
        number = int(shares[:-1].argmax())  # the last class is "nothing"
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        found.append(Detection(LABELS[number], float(shares[number]), tuple(min(max(value, 0.0), 1.0) for value in corners)))
    return sorted(found, key=lambda detection: -detection.score)


def same(one: list[Detection], other: list[Detection], tolerance: float) -> bool:
    return [d.label for d in one] == [d.label for d in other] and all(
        [a.score, *a.box] == pytest.approx([b.score, *b.box], abs=tolerance) for a, b in zip(one, other, strict=True))


def test_detections_are_the_queries_own_answers_the_surest_first(folder, images):
    detector, small = load(folder), [image.resize((32, 32)) for image in images]
    found = detector.detect(small)
    for image, detections in zip(small, found, strict=True):
        assert len(detections) == 12
        assert same(detections, naive_detections(detector, image), SUM_ORDER)
        assert all(earlier.score >= later.score for earlier, later in pairwise(detections))
    assert len({d.label for detections in found for d in detections}) > 1
    assert not same(found[0], found[-1], SUM_ORDER)


def test_boxes_lie_within_the_picture(folder, images):
    detector = load(folder)
    boxes = [d.box for detections in detector.detect(images) for d in detections]
    assert all(0 <= left <= right <= 1 and 0 <= top <= bottom <= 1 for left, top, right, bottom in boxes)
    assert any(0.0 in box for box in boxes)  # and some would have left it


def test_objects_of_a_picture_do_not_depend_on_the_pictures_beside_it(folder, images):
    together = load(folder, batch=7).detect(images)
    for batch in (1, 3):
        assert all(same(a, b, SUM_ORDER) for a, b in zip(load(folder, batch=batch).detect(images), together, strict=True))


def test_at_most_so_many_objects_are_kept_the_surest_ones(folder, images):
    assert load(folder, limit=2).detect(images) == [detections[:2] for detections in load(folder).detect(images)]


def test_objects_below_the_threshold_are_dropped_and_no_picture_with_them(folder, images):
    every = load(folder).detect(images)
    middle = sorted(d.score for detections in every for d in detections)[42] - 1e-9
    kept = load(folder, threshold=middle).detect(images)
    assert kept == [[d for d in detections if d.score > middle] for detections in every]
    assert 0 < sum(map(len, kept)) < sum(map(len, every))
    assert load(folder, threshold=1.0).detect(images) == [[]] * 7
    assert load(folder).detect([]) == []


def test_its_labels_are_its_classes_by_number(folder):
    assert load(folder).labels == LABELS


def test_two_detectors_are_told_apart_by_their_digest_and_not_by_what_is_said_about_them(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "provenance.json").write_text("{}")
    assert load(tmp_path / "other").digest == load(folder).digest
    weights = load_file(folder / "model.safetensors")
    weights["class_labels_classifier.bias"][0] += 1
    save_file(weights, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    assert load(tmp_path / "other").digest != load(folder).digest


@pytest.fixture
def damaged(folder, tmp_path) -> Path:
    """A copy of the detector, to damage."""
    shutil.copytree(folder, tmp_path / "detector")
    return tmp_path / "detector"


def test_a_folder_without_a_detector_is_named(tmp_path, user_error):
    assert f"{tmp_path} holds no detector" in user_error(load, tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessor_config.json"])
def test_a_detector_that_lacks_a_file_is_named(damaged, user_error, name):
    (damaged / name).unlink()
    assert f"{damaged} is no detector that transformers can load" in user_error(load, damaged)


@pytest.mark.parametrize("keep", [0, 5, 300, -100])
def test_cut_off_weights_are_named(damaged, user_error, keep):
    (damaged / "model.safetensors").write_bytes((damaged / "model.safetensors").read_bytes()[:keep])
    assert f"{damaged} is no detector that transformers can load" in user_error(load, damaged)


def test_weights_that_lack_a_tensor_are_named_and_never_replaced_by_random_ones(damaged, user_error):
    weights = load_file(damaged / "model.safetensors")
    del weights["class_labels_classifier.weight"]
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    assert str(damaged) in user_error(load, damaged)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_configuration_is_named(damaged, user_error, name, content):
    (damaged / name).write_text(content)
    assert str(damaged) in user_error(load, damaged)


@pytest.mark.parametrize(("changes", "named"), [({"threshold": 1.5}, "threshold"), ({"limit": 0}, "limit"), ({"batch": 0}, "batch")])
def test_values_out_of_range_are_refused(user_error, changes, named):
    assert named in user_error(check, DetectorParams, {"model": "detector", **changes}, "detector")


FOUND = [[Detection("dog", 0.9, (0.0, 0.25, 0.5, 1.0)), Detection("cat", 0.5, (0.5, 0.5, 1.0, 1.0))], [],
         [Detection("tree", 0.75, (0.0, 0.0, 1.0, 1.0))]]


def test_tags_are_written_and_read_picture_by_picture(folder, tmp_path):
    write_tags(tmp_path / "0.parquet", ["a", "b"], FOUND[:2])
    write_tags(tmp_path / "1.parquet", ["c"], FOUND[2:])
    write_tags(tmp_path / "2.parquet", ["d"], [[]])
    (tmp_path / "tags").mkdir()
    detector = load(folder, threshold=0.5)
    write_tag_set(tmp_path / "tags", [tmp_path / f"{number}.parquet" for number in range(3)], detector, 4, "s" * 64)
    table = pq.read_table(tmp_path / "tags/tags.parquet")
    assert table.schema == SCHEMA
    # scores and boxes are kept in single precision
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("a", "dog", pytest.approx(0.9), [0.0, 0.25, 0.5, 1.0]), ("a", "cat", 0.5, [0.5, 0.5, 1.0, 1.0]),
        ("c", "tree", 0.75, [0.0, 0.0, 1.0, 1.0])]
    report = read_json(tmp_path / "tags/tags.json")
    assert (report["images"], report["objects"], report["without_object"]) == (4, 3, 2)
    assert report["detector_digest"] == detector.digest
    assert asdict(detector.params).items() <= report.items()
    objects = read_objects(tmp_path / "tags", ["c", "d", "a"], 10, CPU, lambda labels: torch.eye(len(labels)))
    assert objects.ids.tolist() == [[2, -1], [-1, -1], [1, 0]]


def test_no_pictures_give_an_empty_table_that_can_be_read(folder, tmp_path):
    write_tag_set(tmp_path, [], load(folder), 0, "s" * 64)
    assert read_objects(tmp_path, ["a"], 10, CPU, lambda labels: torch.eye(len(labels))).ids.tolist() == [[-1]]


@pytest.fixture
def dataset(images, tmp_path, monkeypatch) -> str:
    """A data set of seven pictures, tagged in shards of three, the detector's batch."""
    monkeypatch.chdir(tmp_path)
    paths.raw("scenes").mkdir(parents=True)
    paths.corpus("scenes").mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(paths.raw("scenes") / f"{number}.png")
    table = pa.table({"image_id": [f"i{n}" for n in range(7)], "path": [f"{n}.png" for n in range(7)]})
    pq.write_table(table, paths.images_table("scenes"))
    return "scenes"


def test_a_data_sets_tags_are_those_of_its_pictures(folder, dataset, images):
    detector = load(folder, limit=4)
    tag_dataset(dataset, detector)
    table = pq.read_table(paths.tags(dataset) / "tags.parquet").to_pylist()
    for number, detections in enumerate(detector.detect(images)):
        rows = [row for row in table if row["id"] == f"i{number}"]
        assert same([Detection(row["label"], row["score"], tuple(row["box"])) for row in rows], detections, SUM_ORDER)
    assert json.loads((paths.tags(dataset) / "tags.json").read_text())["images"] == 7


@pytest.fixture
def killed_once(monkeypatch) -> list[int]:
    """The detector dies at its second batch; the list holds the sizes of the batches it saw, 0 for its death."""
    real, seen = Detector.detect, []

    def detect(detector: Detector, batch: list[Image.Image]) -> list[list[Detection]]:
        if len(seen) == 1:
            seen.append(0)
            raise Killed
        seen.append(len(batch))
        return real(detector, batch)

    monkeypatch.setattr(Detector, "detect", detect)
    return seen


def test_an_interrupted_tagging_looks_only_at_what_is_missing_and_ends_in_the_same_bytes(folder, dataset, killed_once):
    with pytest.raises(Killed):
        tag_dataset(dataset, load(folder))
    assert not paths.tags(dataset).exists()
    tag_dataset(dataset, load(folder))
    assert killed_once == [3, 0, 3, 1]
    resumed = digest_tree(paths.tags(dataset))
    tag_dataset(dataset, load(folder))
    assert killed_once[4:] == [3, 3, 1]
    assert digest_tree(paths.tags(dataset)) == resumed


def test_a_picture_exchanged_after_a_kill_is_looked_at_again(folder, dataset, killed_once):
    with pytest.raises(Killed):
        tag_dataset(dataset, load(folder))
    Image.new("RGB", (50, 40), "red").save(paths.raw(dataset) / "0.png")
    tag_dataset(dataset, load(folder))
    assert killed_once == [3, 0, 3, 3, 1]


def test_a_broken_picture_is_named(folder, dataset, user_error):
    (paths.raw(dataset) / "4.png").write_bytes(b"no picture")
    assert "4.png: not a readable picture" in user_error(tag_dataset, dataset, load(folder))
