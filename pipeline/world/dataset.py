"""The micro-world as a data set on disk: Karpathy's JSON and PNG images, four disjoint pools (the fifth, foundation, is never written)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.core.params import StrictParams
from pipeline.core.progress import track
from pipeline.core.resume import resumable
from pipeline.world.captions import describe
from pipeline.world.scenes import STYLES, generator, render, sample_scene, to_record

# Karpathy's split names: the corpus is `train`, and its images are never drawn
_SPLITS = {"corpus": "train", "unlabelled": "unlabelled", "val": "val", "test": "test"}


@dataclass(frozen=True)
class WorldParams(StrictParams):
    """One entry of `world`: a style and the number of scenes in each pool. Corpus scenes give five sentences and no picture."""

    style: str
    seed: int
    corpus: int = 12_000
    unlabelled: int = 1_000
    val: int = 1_000
    test: int = 2_000

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}")
        if min(self.seed, self.corpus, self.unlabelled, self.val, self.test) < 0:
            raise ValueError("seed and numbers of scenes must be 0 or more")


def write_dataset(name: str, params: WorldParams) -> None:
    """Draw and describe a data set into `data/raw/<name>`: `dataset.json` and `images/<pool>/<number>.png`."""
    images: list[dict[str, Any]] = []
    total = sum(getattr(params, pool) for pool in _SPLITS)
    if total == 0:
        raise UserError(f"params.yaml: world.{name} has no scenes")
    with resumable(paths.raw(name), __name__, world=asdict(params)) as work:
        jobs = ((pool, index) for pool in _SPLITS for index in range(getattr(params, pool)))
        sentences = 0
        for pool, index in track(jobs, f"draw {name}", total, "scenes"):
            rng = generator(params.style, pool, params.seed, index)
            scene = sample_scene(params.style, rng)
            texts = [] if pool == "unlabelled" else describe(scene, rng)
            filename = f"{index:05d}.png"
            record = {"imgid": len(images), "split": _SPLITS[pool], "filepath": pool, "filename": filename,
                      "sentences": [{"sentid": sentences + i, "imgid": len(images), "raw": text}
                                    for i, text in enumerate(texts)]}
            sentences += len(texts)
            if pool != "corpus":
                folder = work.output / "images" / pool
                folder.mkdir(parents=True, exist_ok=True)
                render(scene).save(folder / filename)
                record["scene"] = to_record(scene)
            images.append(record)
        write_json(work.output / "dataset.json", {"dataset": name, "images": images}, indent=None)
