"""Where each artefact lies, relative to the project's root. Nothing else builds a path below data/."""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
WORK = Path(".work")
REPORT = DATA / "report"
SWEEPS = DATA / "sweeps"
MERGES_FILE = "bpe_merges.txt.gz"  # a CLIP's own byte-pair merges, beside its weights


def foundation(model: str) -> Path:
    return DATA / "foundation" / model


def raw(dataset: str) -> Path:
    return DATA / "raw" / dataset


def corpus(dataset: str) -> Path:
    return DATA / "corpus" / dataset


def corpus_table(dataset: str) -> Path:
    return corpus(dataset) / "corpus.parquet"


def references_table(dataset: str) -> Path:
    return corpus(dataset) / "references.parquet"


def images_table(dataset: str) -> Path:
    return corpus(dataset) / "images.parquet"


def text_features(clip: str, corpus: str) -> Path:
    return DATA / "features" / clip / "text" / f"{corpus}.zarr"


def image_features(clip: str, dataset: str) -> Path:
    return DATA / "features" / clip / "images" / f"{dataset}.zarr"


def reference_features(clip: str, dataset: str) -> Path:
    return DATA / "features" / clip / "references" / f"{dataset}.zarr"


def index(clip: str, corpus: str) -> Path:
    return DATA / "index" / clip / corpus


def synthetic(corpus: str) -> Path:
    """Generated pictures of a corpus's captions, as features and tags; what is made of the features lies beside them."""
    return DATA / "synthetic" / corpus / "pairs"


def tags(dataset: str) -> Path:
    return DATA / "tags" / dataset


def refined(clip: str, corpus: str) -> Path:
    return DATA / "synthetic" / corpus / "refined" / clip


def projected(clip: str, corpus: str) -> Path:
    return DATA / "synthetic" / corpus / "projected" / clip


def model(system: str) -> Path:
    return DATA / "models" / system


def captions(system: str) -> Path:
    return DATA / "captions" / system


def metrics(system: str) -> Path:
    return DATA / "metrics" / f"{system}.json"


def scores(system: str) -> Path:
    return DATA / "scores" / system
