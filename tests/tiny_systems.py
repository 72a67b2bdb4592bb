"""A project of a tiny CLIP, in which systems are trained and caption within a second; its artefacts come from the stages' own code."""

from __future__ import annotations

import contextlib
import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from ruamel.yaml import YAML

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.features.embedding import embed_images, embed_text
from pipeline.features.encoders import Clip
from pipeline.features.indexing import IndexParams, index_corpus
from pipeline.synthetic.refinement import ProjectionParams, RefinementParams, project_pairs, refine_pairs
from tests.artefacts import CLIP, DETECTOR, PROMPT, StubDetector, write_corpus, write_found, write_pairs

CPU = torch.device("cpu")
IMAGES = 12  # the first eight of them are tested, the others validate
TEXT_ONLY = {"clip": CLIP, "corpus": "scenes", "starts_from": f"foundation/{CLIP}", "learns_from": f"{CLIP}/text",
             "learns_with": f"{CLIP}/text", "looks_at": f"{CLIP}/image", "looks_up": f"{CLIP}/text", "decoder": "small",
             "recipe": "small", "suite": "pictures"}
PARAMS: dict[str, Any] = {
    "clips": {CLIP: {"batch": 16}}, "detectors": {DETECTOR: {}},
    "tag": {"detectors": [DETECTOR], "datasets": ["scenes"], "clips": [CLIP], "prompt": PROMPT},
    "decoders": {"small": {"layers": 1, "heads": 2, "width": 16, "max_tokens": 12}},
    "recipes": {"none": {"steps": 0}, "small": {"steps": 6, "batch": 4, "evaluate_every": 2, "snapshot_every": 2}},
    "systems": {
        "decap": {"method": "decap", **TEXT_ONLY, "caption": {"temperature": 0.1}},
        "raw": {"method": "raw", **TEXT_ONLY, "starts_from": "models/decap", "recipe": "none"},
        "clipre": {"method": "clipre", **TEXT_ONLY, "recipe": "none"},
        "syntic": {"method": "syntic", **TEXT_ONLY, "corpus": "scenes-drawn", "learns_from": f"{CLIP}/synthetic",
                   "learns_with": f"{CLIP}/tagged", "looks_at": f"{CLIP}/tagged",
                   "train": {"heads": 2, "detector": DETECTOR, "limit": 3}, "caption": {"temperature": {"scenes": 0.1}}},
    },
    "settings": {"pictures": {"in-domain": {"test": "scenes", "support": "scenes"}}},
    "captioning": {"beams": 2, "max_new_tokens": 6, "batch": 3},
    "frames": {"count": 5},
}


def params(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """`PARAMS` with other values, by dotted key."""
    changed = copy.deepcopy(PARAMS)
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        place = changed
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = copy.deepcopy(value)
    return changed


def shades() -> list[Image.Image]:
    """The pictures, each a little brighter than the one before."""
    return [Image.new("RGB", (64, 64), (20 * number,) * 3) for number in range(IMAGES)]


def make_project(folder: Path, clip_folder: Path, clip: Clip) -> None:
    """Everything that the systems of `PARAMS` are trained on and caption: twelve sentences, ten of them drawn, and twelve real pictures."""
    rng = np.random.default_rng(0)
    with contextlib.chdir(folder):
        shutil.copytree(clip_folder, paths.foundation(CLIP))
        write_corpus("scenes", [f"a {colour} {thing}" for colour in ("red", "blue", "brown") for thing in ("dog", "car", "boat", "horse")],
                     heldout=[3, 7])
        embed_text(CLIP, clip, "scenes")
        index_corpus(CLIP, "scenes", IndexParams(neighbours=3), CPU)
        write_pairs("scenes", list(range(10)), rng.normal(size=(10, 8)).astype(np.float32), StubDetector().detect(shades()[:10]), clip)
        refine_pairs(CLIP, "scenes", RefinementParams(steps=2, learning_rate=0.1, batch=4), CPU)
        project_pairs(CLIP, "scenes", ProjectionParams({"scenes": 0.1}), CPU)
        paths.raw("scenes").mkdir(parents=True)
        for number, image in enumerate(shades()):
            image.save(paths.raw("scenes") / f"{number}.png")
        ids, splits = [f"i{number}" for number in range(IMAGES)], ["test"] * 8 + ["val"] * 4
        pq.write_table(pa.table({"image_id": ids, "path": [f"{number}.png" for number in range(IMAGES)], "split": splits}),
                       paths.image_table("scenes"))
        pq.write_table(pa.table({"image_id": ids, "text": ["a red dog"] * IMAGES, "split": splits}), paths.references_table("scenes"))
        seal(paths.corpus("scenes"))
        embed_images(CLIP, clip, "scenes")
        write_found("scenes", StubDetector().detect(shades()), clip)
        write_params(PARAMS)


def write_params(values: dict[str, Any]) -> None:
    """params.yaml in the current folder."""
    with Path("params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(values, file)
