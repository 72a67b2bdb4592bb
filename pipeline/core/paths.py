"""Where each artefact lies, relative to the project's root. Nothing else builds a path below data/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DATA = Path("data")
WORK = Path(".work")
FEATURES = DATA / "features"
REPORT = DATA / "report"
SWEEPS = DATA / "sweeps"
MERGES_FILE = "bpe_merges.txt.gz"  # a CLIP's own byte-pair merges, beside its weights


@dataclass(frozen=True)
class ImageSet:
    """The pictures of a data set; with `drawn`, those that were drawn of its captions."""

    dataset: str
    drawn: bool = False

    @property
    def folder(self) -> Path:
        """Where the pictures lie; the table's paths start here."""
        return DATA / "synthetic" / self.dataset if self.drawn else raw(self.dataset)

    @property
    def table(self) -> Path:
        """image_id, path and split of every picture."""
        return (self.folder if self.drawn else corpus(self.dataset)) / "images.parquet"

    def features(self, clip: str) -> Path:
        """One row per picture, in the table's order."""
        return synthetic_features(clip, self.dataset) / "drawn" if self.drawn else FEATURES / clip / "image" / self.dataset

    def tags(self, detector: str) -> Path:
        """What a detector found in the pictures."""
        return DATA / "tags" / detector / ("synthetic" if self.drawn else "image") / self.dataset

    def tagged(self, clip: str, detector: str) -> Path:
        """The same in a CLIP's space."""
        if self.drawn:
            return synthetic_features(clip, self.dataset) / "tagged" / detector
        return FEATURES / clip / "tagged" / detector / self.dataset


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


def text_features(clip: str, corpus: str) -> Path:
    return FEATURES / clip / "text" / corpus / "features"


def neighbours(clip: str, corpus: str) -> Path:
    return FEATURES / clip / "text" / corpus / "neighbours"


def reference_features(clip: str, dataset: str) -> Path:
    return FEATURES / clip / "references" / dataset


def synthetic_features(clip: str, corpus: str) -> Path:
    """What is known of the pictures drawn of a corpus's captions: as CLIP saw them, refined, projected, tagged."""
    return FEATURES / clip / "synthetic" / corpus


def refined(clip: str, corpus: str) -> Path:
    return synthetic_features(clip, corpus) / "refined"


def projected(clip: str, corpus: str) -> Path:
    return synthetic_features(clip, corpus) / "projected"


def model(system: str) -> Path:
    return DATA / "models" / system


def curve(system: str) -> Path:
    """The training curve, as DVC plots it."""
    return DATA / "curves" / f"{system}.json"


def captions(system: str) -> Path:
    return DATA / "captions" / system


def metrics(system: str) -> Path:
    return DATA / "metrics" / f"{system}.json"


def scores(system: str) -> Path:
    return DATA / "scores" / system
