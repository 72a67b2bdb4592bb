"""The micro-world's detector: a DETR of transformers' own classes, its backbone first trained to name what covers each cell."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetBackbone, ResNetConfig

from ..core.files import digest_of, locked, write_json
from ..core.resume import finished_folder
from ..features.tagging import Detection, Detector, DetectorParams
from ..optimisation import Schedule
from ..world.scenes import IMAGE_SIZE, Thing
from ..world.sprites import CLASSES, COLOURS
from .loop import optimise
from .pool import FIRST_STYLES, Pool, coverage, draw_pool

CELLS = 8  # the backbone's stride is 8 pixels
_WIDTHS = (64, 128)
_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SCENES = 1000
_SEED = 90  # of scenes that no data set of the default holds


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the detector's weights."""

    name: str = "detector"
    seed: int = 3
    scenes: int = 40_000
    backbone: Schedule = field(default_factory=lambda: Schedule(steps=1_200, batch=32, learning_rate=2e-3, weight_decay=1e-3))
    detr: Schedule = field(default_factory=lambda: Schedule(steps=3_600, batch=32, learning_rate=6e-4, warmup=200, weight_decay=1e-4))
    width: int = 96
    queries: int = 12


class DenseClassifier(nn.Module):
    """A ResNet backbone and a linear head for the class and the colour that cover each cell; its features also judge reconstructions."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone: Any = ResNetBackbone(backbone_config())
        self.head = nn.Conv2d(_WIDTHS[-1], len(CLASSES) + len(COLOURS), 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 38, 8, 8) logits of (B, 3, 64, 64) pixels from -1 to 1."""
        logits: Tensor = self.head(self.backbone(pixels).feature_maps[-1])
        return logits


def backbone_config() -> ResNetConfig:
    """Two stages above the stem: strides 4 and 8."""
    options: Any = {"out_features": ["stage1", "stage2"]}
    return ResNetConfig(embedding_size=32, hidden_sizes=list(_WIDTHS), depths=[1, 2], layer_type="basic", downsample_in_first_stage=False,
                        **options)


def train_dense(recipe: Recipe, pool: Pool, work: Path) -> DenseClassifier:
    """The backbone with its dense head, trained; DETR replaces batch norm by a frozen one, so it must be learnt before."""
    torch.manual_seed(recipe.seed)
    model = DenseClassifier().train()

    def loss_of(step: int, rows: NDArray[np.int64]) -> Tensor:
        target = coverage([pool.things[row] for row in rows], CELLS)
        return nn.functional.binary_cross_entropy_with_logits(model(pool.pixels(rows)), target) * 38

    optimise("train the backbone", model, loss_of, recipe.backbone, len(pool.images), work / "backbone.pt", digest_of(asdict(recipe)))
    return model.eval()


def train(recipe: Recipe, out: Path) -> None:
    """Train the detector into folder `out`; an interrupted run goes on from its last snapshot, in `<out>.work`."""
    work = out.with_name(out.name + ".work")
    with locked(work):
        pool = draw_pool("foundation", recipe.seed, recipe.scenes)
        dense = train_dense(recipe, pool, work)
        config = DetrConfig(
            backbone_config=ResNetConfig.from_dict({**backbone_config().to_dict(), "out_features": ["stage2"], "out_indices": [2]}),
            num_queries=recipe.queries, d_model=recipe.width, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=3 * recipe.width, decoder_ffn_dim=3 * recipe.width, dropout=0.0, auxiliary_loss=True,
            id2label=dict(enumerate(CLASSES)), label2id={name: number for number, name in enumerate(CLASSES)},
        )
        torch.manual_seed(recipe.seed)
        model = DetrForObjectDetection(config)
        backbone = model.model.backbone.model
        backbone.load_state_dict(dense.backbone.state_dict())
        backbone.requires_grad_(True)  # the library freezes all of it
        model.train()

        def loss_of(step: int, rows: NDArray[np.int64]) -> Tensor:
            labels = [_labels(pool, int(row)) for row in rows]
            loss: Tensor = model(pixel_values=pool.pixels(rows), labels=labels).loss
            return loss

        _, losses = optimise("train detector", model, loss_of, recipe.detr, recipe.scenes, work / "detr.pt", digest_of(asdict(recipe)))
        processor = DetrImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        with finished_folder(out) as folder:
            model.half().save_pretrained(folder)
            processor.save_pretrained(folder)
            write_json(folder / "provenance.json", {
                "command": f"unpaired foundation {recipe.name}", "recipe": asdict(recipe), "losses": losses,
                "parameters": sum(p.numel() for p in model.parameters()),
                "versions": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
            })
    shutil.rmtree(work)


def measure(folder: Path) -> dict[str, Any]:
    """On 1,000 held-out scenes of each style: F1, precision and recall of the tags as sets, and mAP at an overlap of one half.

    The threshold is the best of `_THRESHOLDS` on validation scenes.
    """
    detector = Detector(folder, DetectorParams(threshold=0.01, limit=100), torch.device("cpu"))
    chosen = draw_pool("val", _SEED, _SCENES)
    found = detector.detect([Image.fromarray(image) for image in chosen.images])
    threshold = max(_THRESHOLDS, key=lambda value: tag_scores(found, chosen.things, value)["F1"])
    figures: dict[str, Any] = {"threshold": threshold}
    pool = draw_pool("test", _SEED, _SCENES * len(FIRST_STYLES))
    found = detector.detect([Image.fromarray(image) for image in pool.images])
    for number, style in enumerate(FIRST_STYLES):
        of_style = slice(number, None, len(FIRST_STYLES))
        scores = {**tag_scores(found[of_style], pool.things[of_style], threshold),
                  "mAP50": mean_average_precision(found[of_style], pool.things[of_style])}
        figures[style] = {key: round(value, 4) for key, value in scores.items()}
    return figures


def tag_scores(found: Sequence[Sequence[Detection]], things: Sequence[Sequence[Thing]], threshold: float) -> dict[str, float]:
    """F1, precision and recall of the classes found in each picture, as sets, over all pictures."""
    hits = wrong = missed = 0
    for detections, truth in zip(found, things, strict=True):
        tags, names = {d.label for d in detections if d.score >= threshold}, {thing.name for thing in truth}
        hits, wrong, missed = hits + len(tags & names), wrong + len(tags - names), missed + len(names - tags)
    return {"F1": 2 * hits / max(2 * hits + wrong + missed, 1), "precision": hits / max(hits + wrong, 1),
            "recall": hits / max(hits + missed, 1)}


def mean_average_precision(found: Sequence[Sequence[Detection]], things: Sequence[Sequence[Thing]]) -> float:
    """COCO's average precision at an overlap of 0.5, averaged over the classes (pycocotools)."""
    def box(corners: tuple[float, float, float, float]) -> list[float]:
        left, top, right, bottom = (value * IMAGE_SIZE for value in corners)
        return [left, top, right - left, bottom - top]

    truth, results = COCO(), []
    annotations = [{"image_id": image, "category_id": CLASSES.index(thing.name), "bbox": box(thing.box), "iscrowd": 0,
                    "area": thing.area * IMAGE_SIZE**2} for image, scene in enumerate(things) for thing in scene]
    truth.dataset = {"info": {}, "images": [{"id": image} for image in range(len(things))],
                     "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
                     "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, 1)]}
    for image, detections in enumerate(found):
        results += [{"image_id": image, "category_id": CLASSES.index(d.label), "bbox": box(d.box), "score": d.score} for d in detections]
    if not results:
        return 0.0
    with redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # recall steps, classes; every size, most detections
    return float(precision[precision > -1].mean())


def _labels(pool: Pool, row: int) -> dict[str, Tensor]:
    """Classes and boxes (middle x, middle y, width, height; 0 to 1) of one scene."""
    boxes = torch.tensor([thing.box for thing in pool.things[row]]).reshape(-1, 4)
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return {"class_labels": torch.tensor([CLASSES.index(thing.name) for thing in pool.things[row]], dtype=torch.long),
            "boxes": torch.cat([middle, size], dim=1)}
