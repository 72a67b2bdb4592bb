"""Object tags: a DETR of transformers names what stands in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection
from transformers.utils import logging as transformers_logging

from ..core import paths
from ..core.artefacts import whole_if_sealed
from ..core.device import Precision, precisely, resolved
from ..core.errors import UserError, loading
from ..core.files import digest_file, digest_model, read_json, write_json
from ..core.params import Count, Share, StrictParams, section
from ..core.resume import resumable
from ..core.tables import read_table
from ..images import locate, open_image, source_stamp

SCHEMA = pa.schema([("id", pa.string()), ("label", pa.string()), ("score", pa.float32()), ("box", pa.list_(pa.float32(), 4))])


@dataclass(frozen=True)
class DetectorParams(StrictParams):
    """One entry of `detectors`; SynTIC does not name the threshold, 0.9 is ours.

    The model is the folder of that name in `data/foundation`, in transformers' layout. threshold: lowest score of an object that is kept.
    limit: at most so many objects a picture, the best first (100 is all that DETR finds). batch: pictures at once, in memory and through
    the model. precision: see `Precision`.
    """

    threshold: Share = 0.9
    limit: Count = 100
    batch: Count = 64
    precision: Precision = "auto"


@dataclass(frozen=True)
class Detection:
    """One object. box: left, top, right, bottom in fractions of the picture."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class Detector:
    """A frozen object detector."""

    def __init__(self, folder: Path, params: DetectorParams, device: torch.device) -> None:
        """Load a DETR and its image processor from a folder; `UserError` when they are missing or damaged."""
        self.folder, self.params, self.device = folder, params, device
        self.precision = resolved(params.precision, device)
        if not (folder / "config.json").exists():
            raise UserError(f"{folder} holds no detector (no config.json): restore it with `git checkout`, or bring a DETR with "
                            "`unpaired model add detector`")
        whole_if_sealed(folder)
        transformers_logging.disable_progress_bar()  # of loading weights: quick
        with loading(folder, "detector", "restore it with `git checkout`, or save a DETR there with `save_pretrained`"):
            config = _configuration(folder)
            self.processor: Any = AutoImageProcessor.from_pretrained(folder, config=config, local_files_only=True)
            model, about = AutoModelForObjectDetection.from_pretrained(folder, config=config, local_files_only=True, dtype=torch.float32,
                                                                       use_safetensors=True, output_loading_info=True,
                                                                       ignore_mismatched_sizes=True)
            others = {key for key, *_ in about["mismatched_keys"]} | {key for key in about["unexpected_keys"] if "backbone" in key}
            if others:
                hint = ": is `backbone_config` missing there?" if "backbone" in min(others) else ""
                raise ValueError(f"its config.json describes other weights than its {min(others)}{hint}")
            if about["missing_keys"]:
                raise ValueError(f"its weights lack {min(about['missing_keys'])}")
            self.model: Any = model.eval().requires_grad_(False).to(device)
            if not self._outputs([Image.new("RGB", (64, 64))]).logits.isfinite().all():  # also fails where sizes do not fit
                raise ValueError("it answers with what is no number")

    @property
    def labels(self) -> list[str]:
        """Every class that the detector can name, by number."""
        return [name for _, name in sorted(self.model.config.id2label.items())]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its weights and configuration, in hex."""
        return digest_model(self.folder)

    @torch.inference_mode()
    def _outputs(self, images: Sequence[Image.Image]) -> Any:
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        with precisely(self.precision, self.device):
            return self.model(**inputs)

    @torch.inference_mode()
    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """What stands in each RGB picture, the surest first."""
        found: list[list[Detection]] = []
        for start in range(0, len(images), self.params.batch):
            outputs = self._outputs(images[start : start + self.params.batch])
            for result in self.processor.post_process_object_detection(outputs, threshold=self.params.threshold):
                rows = zip(result["scores"].tolist(), result["labels"].tolist(), result["boxes"].clamp(0, 1).tolist(), strict=True)
                every = [Detection(self.model.config.id2label[label], score, tuple(box)) for score, label, box in rows]
                found.append(sorted(every, key=lambda d: -d.score)[: self.params.limit])
        return found


def _configuration(folder: Path) -> Any:
    """The model's configuration, its backbone spelled out: transformers asks the hub about one that is only named.

    A repository of the hub (`microsoft/resnet-50`) is taken for the default backbone of such a detector, which the weights must then fit;
    any other name is one of timm's.
    """
    told = read_json(folder / "config.json")
    name, options = told.get("backbone"), told.pop("backbone_kwargs", None) or {}
    if name and not told.get("backbone_config"):
        if "/" in name:
            told |= {"backbone": None, "use_timm_backbone": False}
        elif options or not told.get("use_timm_backbone", True):  # else it is complete
            channels = options.pop("in_chans", 3)  # timm's name for it
            told["backbone_config"] = {"model_type": "timm_backbone", "backbone": name, "num_channels": channels, **options}
    return AutoConfig.for_model(**told)


def load_detector(name: str, params: dict[str, Any], device: torch.device) -> Detector:
    """The detector that params.yaml calls `name`."""
    return Detector(paths.foundation(name), section(DetectorParams, params, f"detectors.{name}"), device)


def tag_images(name: str, detector: Detector, dataset: str) -> None:
    """Write the tags of a data set's pictures: `tags.parquet`, a row per object, and `tags.json`."""
    folder, table = whole_if_sealed(paths.raw(dataset)), paths.image_table(dataset)
    rows = read_table(table, ["image_id", "path"])
    files = [locate(folder, path) for path in rows["path"]]
    size, source = detector.params.batch, digest_file(table)
    with resumable(paths.tags(name, dataset), __name__, images=source, files=[source_stamp(file) for file in files],
                   detector=detector.digest, params=asdict(detector.params), precision=detector.precision, device=detector.device.type,
                   threads=torch.get_num_threads()) as work:
        for start, stop in work.shards(len(files), size, f"tag {dataset}", "images"):
            found = detector.detect([open_image(file) for file in files[start:stop]])
            _write_tags(work.folder / f"{start}.parquet", rows["image_id"][start:stop], found)
            work.record(str(start), files=[work.folder / f"{start}.parquet"])
        shards = [pq.read_table(work.folder / f"{start}.parquet", schema=SCHEMA) for start in range(0, len(files), size)]
        whole = pa.concat_tables(shards) if shards else SCHEMA.empty_table()
        pq.write_table(whole, work.output / "tags.parquet")
        write_json(work.output / "tags.json", {
            "images": len(files), "without_object": len(files) - len(whole["id"].unique()), "objects": len(whole),
            "labels": detector.labels, "detector_digest": detector.digest, "source_digest": source, **asdict(detector.params),
            "precision": detector.precision,
        })


def _write_tags(path: Path, ids: Sequence[str], found: Sequence[Sequence[Detection]]) -> None:
    """A table with a row per object."""
    objects = [{"id": key, **asdict(detection)} for key, detections in zip(ids, found, strict=True) for detection in detections]
    pq.write_table(pa.Table.from_pylist(objects, schema=SCHEMA), path)
