"""Where each artefact lies, relative to the project's root. Nothing else builds a path below data/.

Names come from params.yaml and command lines: one that could lead elsewhere is a `UserError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.core.names import checked

DATA = Path("data")
WORK = Path(".work")
REPORT = DATA / "report"
SWEEPS = DATA / "sweeps"
MERGES_FILE = "bpe_merges.txt.gz"  # a CLIP's own byte-pair merges, beside its weights


def _at(*names: str) -> Path:
    return DATA.joinpath(*map(checked, names))


@dataclass(frozen=True)
class ImageSet:
    """The pictures of a data set; with `drawn`, those that were drawn of its captions."""

    dataset: str
    drawn: bool = False

    @property
    def folder(self) -> Path:
        """Where the pictures lie; the table's paths start here."""
        return _at("synthetic", self.dataset) if self.drawn else raw(self.dataset)

    @property
    def table(self) -> Path:
        """image_id, path and split of every picture."""
        return (self.folder if self.drawn else corpus(self.dataset)) / "images.parquet"

    def features(self, clip: str) -> Path:
        """One row per picture, in the table's order."""
        return synthetic_features(clip, self.dataset) / "drawn" if self.drawn else _at("features", clip, "image", self.dataset)

    def tags(self, detector: str) -> Path:
        """What a detector found in the pictures."""
        return _at("tags", detector, "synthetic" if self.drawn else "image", self.dataset)

    def tagged(self, clip: str, detector: str) -> Path:
        """The same in a CLIP's space."""
        if self.drawn:
            return _at("features", clip, "synthetic", self.dataset, "tagged", detector)
        return _at("features", clip, "tagged", detector, self.dataset)


def foundation(model: str) -> Path:
    return _at("foundation", model)


def raw(dataset: str) -> Path:
    return _at("raw", dataset)


def corpus(dataset: str) -> Path:
    return _at("corpus", dataset)


def corpus_table(dataset: str) -> Path:
    return corpus(dataset) / "corpus.parquet"


def references_table(dataset: str) -> Path:
    return corpus(dataset) / "references.parquet"


def text_features(clip: str, corpus: str) -> Path:
    return _at("features", clip, "text", corpus, "features")


def neighbours(clip: str, corpus: str) -> Path:
    return _at("features", clip, "text", corpus, "neighbours")


def reference_features(clip: str, dataset: str) -> Path:
    return _at("features", clip, "references", dataset)


def synthetic_features(clip: str, corpus: str) -> Path:
    """What is known of the pictures drawn of a corpus's captions: as CLIP saw them, refined, projected, tagged."""
    return _at("features", clip, "synthetic", corpus)


def refined(clip: str, corpus: str) -> Path:
    return synthetic_features(clip, corpus) / "refined"


def projected(clip: str, corpus: str) -> Path:
    return synthetic_features(clip, corpus) / "projected"


def model(system: str) -> Path:
    return _at("models", system)


def curve(system: str) -> Path:
    """The training curve, as DVC plots it."""
    return _at("curves", system).with_suffix(".json")


def captions(system: str) -> Path:
    return _at("captions", system)


def captions_file(system: str, setting: str) -> Path:
    """COCO results format."""
    return captions(system) / f"{checked(setting)}.json"


def metrics(system: str) -> Path:
    return _at("metrics", system).with_suffix(".json")


def scores(system: str) -> Path:
    return _at("scores", system)


def scores_file(system: str, setting: str) -> Path:
    """Every metric per image."""
    return scores(system) / f"{checked(setting)}.parquet"


def scores_table(system: str) -> Path:
    """Every metric of every setting, in long form; no setting's name has a dot."""
    return scores(system) / "scores.long.parquet"


def sweep(name: str) -> Path:
    """The table of a sweep."""
    return SWEEPS / f"{checked(name)}.csv"


def trained(system: str) -> Path:
    """What the system's model was made from. It lies outside the artefact, whose bytes are those of the weights and not of the code."""
    return WORK / "trained" / f"{checked(system)}.json"
