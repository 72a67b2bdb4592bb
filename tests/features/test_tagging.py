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
from pipeline.core.artefacts import seal
from pipeline.core.files import digest_file, digest_tree, read_json
from pipeline.core.params import check
from pipeline.features.tagging import SCHEMA, Detection, Detector, DetectorParams, tag_images
from pipeline.images import write_pictures
from tests.artefacts import ToldDetector

CPU = torch.device("cpu")
LABELS = ["cat", "dog", "tree"]
# one batch and another add in another order
SUM_ORDER = 1e-5


class Killed(BaseException):
    """Stands for a kill: no code of ours may catch it."""


def small(**backbone: object) -> DetrConfig:
    return DetrConfig(
        **backbone, num_queries=12, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, init_std=0.6, id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained DETR of twelve queries and three classes, with weights so large that its answers differ."""
    folder = tmp_path_factory.mktemp("foundation") / "detector"
    torch.manual_seed(0)
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", downsample_in_first_stage=False,
                            out_features=["stage2"])
    model = DetrForObjectDetection(small(backbone_config=backbone))
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
    return Detector(folder, DetectorParams(**{"threshold": 0.0, "limit": 100, "batch": 3, **params}), CPU)


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
    assert f"{damaged} holds no detector that can be loaded" in user_error(load, damaged)


@pytest.mark.parametrize("keep", [0, 5, 300, -100])
def test_cut_off_weights_are_named(damaged, user_error, keep):
    (damaged / "model.safetensors").write_bytes((damaged / "model.safetensors").read_bytes()[:keep])
    assert f"{damaged} holds no detector that can be loaded" in user_error(load, damaged)


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


def save_with(config: DetrConfig, folder: Path, **told: object) -> DetrForObjectDetection:
    """A random DETR, in whose config.json `told` stands for the backbone's configuration."""
    torch.manual_seed(0)
    model = DetrForObjectDetection(config).eval()
    model.save_pretrained(folder)
    DetrImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    saved = read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({**saved, "backbone_config": None, "use_pretrained_backbone": True, **told}))
    return model


TIMM = {"backbone": "test_resnet", "use_timm_backbone": True}
KEPT = {"out_indices": [1, 2, 3, 4], "in_chans": 3}


@pytest.mark.parametrize("told", [
    TIMM, {**TIMM, "backbone_kwargs": None}, {**TIMM, "backbone_kwargs": {}}, {**TIMM, "backbone_kwargs": KEPT, "dilation": False},
    {**TIMM, "backbone_kwargs": {**KEPT, "features_only": True}}, {"backbone": "test_resnet", "backbone_kwargs": KEPT},
    {"backbone": "test_resnet", "use_timm_backbone": False},
    {"backbone_config": {"model_type": "timm_backbone", "backbone": "test_resnet", "out_indices": [1, 2, 3, 4],
                         "use_pretrained_backbone": True}},
])
def test_a_detector_whose_backbone_is_named_takes_all_its_weights_from_the_folder(told, images, tmp_path, asked):
    model = save_with(small(**TIMM, use_pretrained_backbone=False), tmp_path, **told)
    detector = load(tmp_path)
    pixels = detector.processor(images=images, return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(detector._outputs(images).logits, model(**pixels).logits)
    assert not asked


def test_a_backbone_that_is_a_repository_of_the_hub_is_not_asked_for(images, tmp_path, asked, user_error):
    told = {"backbone": "microsoft/resnet-50", "use_timm_backbone": False, "backbone_kwargs": {"out_features": ["stage4"]}}
    model = save_with(small(use_timm_backbone=False), tmp_path / "fifty", **told)
    detector = load(tmp_path / "fifty")
    pixels = detector.processor(images=images, return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(detector._outputs(images).logits, model(**pixels).logits)
    deeper = ResNetConfig(depths=[3, 4, 7, 3], out_features=["stage4"])
    save_with(small(use_timm_backbone=False, backbone_config=deeper), tmp_path / "deeper", **told)
    assert "is `backbone_config` missing there?" in user_error(load, tmp_path / "deeper")
    assert not asked


@pytest.mark.parametrize("told", [{"backbone": "none"}, {"backbone": "hf-hub:timm/none"}, {"backbone": "nobody/none"},
                                  {"backbone_config": {"model_type": "timm_backbone", "backbone": "hf-hub:timm/none"}},
                                  {"model_type": "none"}])
@pytest.mark.parametrize("lacks", [None, "preprocessor_config.json"])
def test_no_detector_asks_the_network_for_what_it_lacks(damaged, asked, user_error, told, lacks):
    saved = read_json(damaged / "config.json")
    (damaged / "config.json").write_text(json.dumps({**saved, "backbone_config": None, **told}))
    if lacks:
        (damaged / lacks).unlink()
    assert f"{damaged} holds no detector that can be loaded" in user_error(load, damaged)
    assert not asked


@pytest.mark.parametrize(("changes", "named"), [({"threshold": 1.5}, "threshold"), ({"limit": 0}, "limit"), ({"batch": 0}, "batch")])
def test_values_out_of_range_are_refused(user_error, changes, named):
    assert named in user_error(check, DetectorParams, changes, "detectors.detector")


@pytest.fixture
def pictures(images, tmp_path, monkeypatch) -> str:
    """A data set of seven pictures, tagged in shards of three, the detector's batch."""
    monkeypatch.chdir(tmp_path)
    paths.raw("scenes").mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(paths.raw("scenes") / f"{number}.png")
    write_table("scenes", {f"i{number}": f"{number}.png" for number in range(7)})
    return "scenes"


def write_table(dataset: str, path_of: dict[str, str]) -> None:
    paths.corpus(dataset).mkdir(parents=True, exist_ok=True)
    columns = {"image_id": pa.array(path_of, pa.string()), "path": pa.array(path_of.values(), pa.string())}
    pq.write_table(pa.table(columns), paths.image_table(dataset))
    seal(paths.corpus(dataset))


def tags_of(dataset: str) -> Path:
    return paths.tags("detector", dataset)


def tag(dataset: str, detector: Detector) -> None:
    tag_images("detector", detector, dataset)


def test_tags_are_a_row_per_object_and_a_report_of_who_found_them_in_what(pictures):
    whole, lower = (0.0, 0.0, 1.0, 1.0), (0.5, 0.5, 1.0, 1.0)
    found = [[Detection("dog", 0.9, (0.0, 0.25, 0.5, 1.0)), Detection("cat", 0.5, lower)], [], [Detection("tree", 0.75, whole)]] + [[]] * 4
    detector = ToldDetector(found)
    detector.params = DetectorParams(threshold=0.5, batch=2)
    tag(pictures, detector)
    table = pq.read_table(tags_of(pictures) / "tags.parquet")
    assert table.schema == SCHEMA
    # scores and boxes are kept in single precision
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("i0", "dog", pytest.approx(0.9), [0.0, 0.25, 0.5, 1.0]), ("i0", "cat", 0.5, [0.5, 0.5, 1.0, 1.0]),
        ("i2", "tree", 0.75, [0.0, 0.0, 1.0, 1.0])]
    report = read_json(tags_of(pictures) / "tags.json")
    assert (report["images"], report["objects"], report["without_object"]) == (7, 3, 5)
    assert report["labels"] == detector.labels
    assert report["detector_digest"] == detector.digest
    assert report["source_digest"] == digest_file(paths.image_table(pictures))
    assert {**asdict(detector.params), "precision": "float32"}.items() <= report.items()


def test_no_pictures_give_an_empty_table_of_the_same_columns(folder, pictures):
    write_table(pictures, {})
    tag(pictures, load(folder))
    assert pq.read_table(tags_of(pictures) / "tags.parquet").equals(SCHEMA.empty_table())
    assert read_json(tags_of(pictures) / "tags.json")["images"] == 0


def test_a_data_sets_tags_are_those_of_its_pictures(folder, pictures, images):
    detector = load(folder, limit=4)
    tag(pictures, detector)
    table = pq.read_table(tags_of(pictures) / "tags.parquet").to_pylist()
    for number, detections in enumerate(detector.detect(images)):
        rows = [row for row in table if row["id"] == f"i{number}"]
        assert same([Detection(row["label"], row["score"], tuple(row["box"])) for row in rows], detections, SUM_ORDER)
    assert json.loads((tags_of(pictures) / "tags.json").read_text())["images"] == 7


def test_drawn_pictures_are_tagged_as_real_ones_and_apart_from_them(folder, pictures, images):
    drawn = paths.drawn(pictures)
    paths.raw(drawn).mkdir(parents=True)
    write_pictures(paths.raw(drawn) / "pictures-000000.tar", {str(number): image for number, image in enumerate(images)},
                   {str(number): "a caption" for number in range(7)})
    write_table(drawn, {f"i{number}": f"pictures-000000.tar!{number}.png" for number in range(7)})
    for each in (pictures, drawn):
        tag(each, load(folder))
    assert tags_of(drawn) != tags_of(pictures)
    assert digest_file(tags_of(drawn) / "tags.parquet") == digest_file(tags_of(pictures) / "tags.parquet")


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


def test_an_interrupted_tagging_looks_only_at_what_is_missing_and_ends_in_the_same_bytes(folder, pictures, killed_once):
    with pytest.raises(Killed):
        tag(pictures, load(folder))
    assert not tags_of(pictures).exists()
    tag(pictures, load(folder))
    assert killed_once == [3, 0, 3, 1]
    resumed = digest_tree(tags_of(pictures))
    shutil.rmtree(paths.WORK)
    tag(pictures, load(folder))
    assert killed_once[4:] == [3, 3, 1]
    assert digest_tree(tags_of(pictures)) == resumed


def test_a_picture_exchanged_after_a_kill_is_looked_at_again(folder, pictures, killed_once):
    with pytest.raises(Killed):
        tag(pictures, load(folder))
    Image.new("RGB", (50, 40), "red").save(paths.raw(pictures) / "0.png")
    tag(pictures, load(folder))
    assert killed_once == [3, 0, 3, 3, 1]


def test_a_broken_picture_is_named(folder, pictures, user_error):
    (paths.raw(pictures) / "4.png").write_bytes(b"no picture")
    assert "4.png: not a readable picture" in user_error(tag, pictures, load(folder))
