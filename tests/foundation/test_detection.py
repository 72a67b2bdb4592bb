"""The micro-world's detector: what it is taught and measured by, and a training that survives a kill."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, read_json
from pipeline.features.tagging import Detection, Detector, DetectorParams
from pipeline.foundation import detection, loop, pool
from pipeline.foundation.detection import Recipe, mean_average_precision, tag_scores, train
from pipeline.foundation.pool import coverage, draw_block
from pipeline.optimisation import Schedule
from pipeline.world.scenes import Thing
from pipeline.world.sprites import CLASSES, COLOURS
from tests.interruption import Interrupted, interrupt_at

PLAN = Schedule(steps=3, batch=4, learning_rate=1e-3, warmup=1)
TINY = Recipe(name="tiny", seed=0, scenes=12, backbone=PLAN, detr=PLAN, width=16, queries=4)
CAT, DOG, SUN = (Thing("cat", "black", "large", 0.3, 0.9, 0.5, False), Thing("dog", "brown", "small", 0.7, 0.8, 0.3, False),
                 Thing("sun", "yellow", "medium", 0.8, 0.25, 0.2, False))


def found(*things: Thing, score: float = 0.9) -> list[Detection]:
    return [Detection(thing.name, score, thing.box) for thing in things]


def naive_coverage(scene: Sequence[Thing], cells: int, points: int) -> np.ndarray:
    """The share of points within each cell that lie in a box, the fullest box counting."""
    maps = np.zeros((len(CLASSES) + len(COLOURS), cells, cells))
    for thing in scene:
        left, top, right, bottom = thing.box
        share = np.zeros((cells, cells))
        for row, column in np.ndindex(cells * points, cells * points):
            x, y = (column + 0.5) / cells / points, (row + 0.5) / cells / points
            share[row // points, column // points] += (left <= x < right and top <= y < bottom) / points**2
        for channel in (CLASSES.index(thing.name), len(CLASSES) + list(COLOURS).index(thing.colour)):
            maps[channel] = np.maximum(maps[channel], share)
    return maps


def test_coverage_equals_a_count_of_points_in_the_boxes():
    scenes = [(), *draw_block("val", 3, 0, 4)[3], (CAT, Thing("cat", "white", "small", 0.4, 0.95, 0.3, False))]
    maps = coverage(scenes, 4).numpy()
    assert maps.shape == (6, 38, 4, 4)
    for scene, found_maps in zip(scenes, maps, strict=True):
        # a box's edge may miss a row and a column of points
        np.testing.assert_allclose(found_maps, naive_coverage(scene, 4, 20), atol=2 / 20)
    assert maps[1:].sum() > 1
    assert not maps[0].any()


def test_a_box_that_fills_whole_cells_covers_them_and_no_others():
    thing = Thing("ball", "red", "large", 0.5, 0.75, 0.5, False)
    left, _, right, _ = thing.box
    (maps,) = coverage([(thing,)], 4)
    assert maps.amax(0)[[0, 3]].sum() == 0
    assert maps[CLASSES.index("ball"), 1].sum().item() == pytest.approx((right - left) * 4)
    assert torch.equal(maps[CLASSES.index("ball")], maps[len(CLASSES) + list(COLOURS).index("red")])
    assert maps.sum() == 2 * maps[CLASSES.index("ball")].sum()


def test_tags_are_scored_as_sets_over_all_pictures():
    truth = [(CAT, DOG), (SUN,), (), (CAT, CAT)]
    seen = [[*found(CAT), *found(SUN, score=0.7), *found(DOG, score=0.4)], [], found(DOG), found(CAT, CAT)]
    # at 0.5: cat hit, sun wrong, dog missed; sun missed; dog wrong; cat hit
    assert tag_scores(seen, truth, 0.5) == pytest.approx({"F1": 2 * 2 / (2 * 2 + 2 + 2), "precision": 2 / 4, "recall": 2 / 4})
    # at 0.4 the first dog is a hit
    assert tag_scores(seen, truth, 0.4) == pytest.approx({"F1": 2 * 3 / (2 * 3 + 2 + 1), "precision": 3 / 5, "recall": 3 / 4})
    assert tag_scores(seen, truth, 0.95) == {"F1": 0, "precision": 0, "recall": 0}


SCENES = [(CAT, DOG), (SUN,), (DOG, SUN, CAT)]


def test_perfect_boxes_have_an_average_precision_of_one():
    assert mean_average_precision([found(*scene) for scene in SCENES], SCENES) == pytest.approx(1.0)


def test_boxes_of_wrong_classes_or_in_wrong_places_have_an_average_precision_of_zero():
    nowhere = (0.0, 0.0, 0.02, 0.02)
    assert mean_average_precision([found(SUN), found(CAT), []], SCENES) == 0
    assert mean_average_precision([[Detection(thing.name, 0.9, nowhere) for thing in scene] for scene in SCENES], SCENES) == 0


def test_nothing_found_at_all_has_an_average_precision_of_zero():
    assert mean_average_precision([[], [], []], SCENES) == 0


def test_half_of_one_class_found_has_the_average_precision_of_half_the_recall():
    # 51 of the 101 recall steps from 0 to 1 are reached, at precision 1; the two other classes are perfect
    seen = [found(CAT, DOG), found(SUN), found(DOG, SUN)]
    assert mean_average_precision(seen, SCENES) == pytest.approx((1 + 1 + 51 / 101) / 3)


def test_a_box_counts_from_an_overlap_of_one_half():
    left, top, right, bottom = CAT.box
    for share, expected in ((0.55, 1.0), (0.45, 0.0)):
        cut = Detection("cat", 0.9, (left, top, left + (right - left) * share, bottom))
        assert mean_average_precision([[cut]], [(CAT,)]) == pytest.approx(expected)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Scenes drawn in this process, and a snapshot every two steps."""
    monkeypatch.setattr(pool, "workers", lambda: ThreadPoolExecutor(2))
    monkeypatch.setattr(detection, "optimise", partial(loop.optimise, every=2))
    return monkeypatch


@pytest.mark.parametrize("call", [2, 5])
def test_an_interrupted_training_resumes_to_the_same_weights_and_leaves_no_scratch(tmp_path: Path, quick, call) -> None:
    train(TINY, tmp_path / "whole")
    with quick.context() as patch:
        interrupt_at(patch, call)  # counted over backbone and detector
        with pytest.raises(Interrupted):
            train(TINY, tmp_path / "resumed")
    assert not (tmp_path / "resumed").exists()
    steps = interrupt_at(quick, None)
    train(TINY, tmp_path / "resumed")
    # the last step of the backbone and all of the detector; the last step of the detector
    assert steps == {2: [2, 0, 1, 2], 5: [2]}[call]
    for name in ("model.safetensors", "config.json", "preprocessor_config.json", "provenance.json"):
        assert digest_file(tmp_path / "whole" / name) == digest_file(tmp_path / "resumed" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed", "whole"]


def test_what_is_trained_is_a_detector_of_the_micro_worlds_classes(tmp_path: Path, quick) -> None:
    train(TINY, tmp_path / "tiny")
    detector = Detector(tmp_path / "tiny", DetectorParams(threshold=0.0, limit=4), torch.device("cpu"))
    assert detector.labels == list(CLASSES)
    provenance = read_json(tmp_path / "tiny" / "provenance.json")
    assert len(provenance["losses"]) == 2
    assert provenance["recipe"]["queries"] == 4
    quick.setattr(detection, "_SCENES", 3)
    figures = detection.measure(tmp_path / "tiny")
    assert set(figures) == {"threshold", "scenes", "album"}
    assert all(0 <= value <= 1 for style in ("scenes", "album") for value in figures[style].values())


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_the_detector_starts_from_the_trained_backbone_and_goes_on_training_it(tmp_path: Path, quick, rate) -> None:
    recipe = replace(TINY, detr=replace(PLAN, learning_rate=rate))
    train(recipe, tmp_path / "tiny")
    (tmp_path / "work").mkdir()
    dense = detection.train_dense(recipe, pool.draw_pool("foundation", recipe.seed, recipe.scenes), tmp_path / "work")
    found = Detector(tmp_path / "tiny", DetectorParams(), torch.device("cpu")).model.model.backbone.model.state_dict()
    weights = {name: value for name, value in dense.backbone.state_dict().items() if value.is_floating_point()}
    same = [torch.equal(found[name], value.half().float()) for name, value in weights.items()]
    assert all(same) == (rate == 0)


def test_a_snapshot_of_another_recipe_is_not_resumed(tmp_path: Path, quick) -> None:
    with quick.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises(Interrupted):
            train(TINY, tmp_path / "model")
    with pytest.raises(UserError, match="another recipe"):
        train(replace(TINY, queries=5), tmp_path / "model")


def test_boxes_are_taught_by_their_middle_and_size(quick) -> None:
    drawn = pool.draw_pool("val", 3, 4)
    for row, things in enumerate(drawn.things):
        labels = detection._labels(drawn, row)
        assert labels["class_labels"].tolist() == [CLASSES.index(thing.name) for thing in things]
        for (x, y, width, height), thing in zip(labels["boxes"].tolist(), things, strict=True):
            assert (x - width / 2, y - height / 2, x + width / 2, y + height / 2) == pytest.approx(thing.box, abs=1e-6)
