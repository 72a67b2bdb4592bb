"""Where each artefact lies, relative to the project's root. Nothing else builds a path below data/.

Names come from params.yaml and command lines: one that could lead elsewhere is a `UserError`.
"""

from __future__ import annotations

from pathlib import Path

from .names import checked

DATA = Path("data")
WORK = Path(".work")
REPORT = DATA / "report"
SWEEPS = DATA / "sweeps"
MERGES_FILE = "bpe_merges.txt.gz"  # a CLIP's own byte-pair merges, beside its weights


def _at(*names: str) -> Path:
    return DATA.joinpath(*map(checked, names))


def foundation(model: str) -> Path:
    return _at("foundation", model)


def raw(dataset: str) -> Path:
    return _at("raw", dataset)


def corpus(dataset: str) -> Path:
    return _at("corpus", dataset)


def drawn(corpus: str) -> str:
    """The data set of the pictures that are drawn of a corpus's captions."""
    return f"{corpus}-drawn"


def corpus_table(dataset: str) -> Path:
    return corpus(dataset) / "corpus.parquet"


def image_table(dataset: str) -> Path:
    """image_id, path below the raw folder, and split of every picture."""
    return corpus(dataset) / "images.parquet"


def references_table(dataset: str) -> Path:
    return corpus(dataset) / "references.parquet"


def questions_table(dataset: str) -> Path:
    """What is asked about the tested pictures of another data set, and what people answer."""
    return corpus(dataset) / "questions.parquet"


def objects_table(dataset: str) -> Path:
    """What the tested pictures show; there where a record of it is named."""
    return corpus(dataset) / "objects.parquet"


def vocabulary(dataset: str) -> Path:
    """The words for it."""
    return corpus(dataset) / "vocabulary.json"


def text_features(clip: str, corpus: str) -> Path:
    return _at("features", clip, "text", corpus, "features")


def neighbours(clip: str, corpus: str) -> Path:
    return _at("features", clip, "text", corpus, "neighbours")


def reference_features(clip: str, dataset: str) -> Path:
    return _at("features", clip, "references", dataset)


def image_features(clip: str, dataset: str) -> Path:
    """One row per picture, in the image table's order."""
    return _at("features", clip, "image", dataset)


def regions(clip: str, dataset: str) -> Path:
    """What the most attended parts of each picture show, in the image table's order."""
    return _at("features", clip, "regions", dataset)


def frames(clip: str, dataset: str) -> Path:
    """Key frames of each video, in the image table's order."""
    return _at("features", clip, "frames", dataset)


def tags(detector: str, dataset: str) -> Path:
    """What a detector found in a data set's pictures."""
    return _at("tags", detector, dataset)


def tagged(clip: str, detector: str, dataset: str) -> Path:
    """The same in a CLIP's space."""
    return _at("features", clip, "tagged", dataset, detector)


def pseudo_features(clip: str, dataset: str, optimized: bool, projected: bool) -> Path:
    """Features of drawn pictures as CLIP saw them, optimised (SynTIC Eq. 2), projected (Eq. 3), or both."""
    if projected:
        return projections(clip, dataset) / ("refined" if optimized else "drawn")
    return refined(clip, dataset) / "features" if optimized else image_features(clip, dataset)


def refined(clip: str, dataset: str) -> Path:
    return _at("features", clip, "synthetic", dataset, "refined")


def projections(clip: str, dataset: str) -> Path:
    return _at("features", clip, "synthetic", dataset, "projected")


def model(system: str) -> Path:
    return _at("models", system)


def model_of_step(folder: Path, step: int) -> Path:
    """Within a model's folder, the decoder as it was after so many steps."""
    return folder / "steps" / str(step)


def curve(system: str) -> Path:
    """The training curve, as DVC plots it."""
    return _at("curves", system).with_suffix(".json")


def captions(system: str) -> Path:
    return _at("captions", system)


def captions_file(system: str, setting: str) -> Path:
    """COCO results format."""
    return captions(system) / f"{checked(setting)}.json"


def answers(system: str) -> Path:
    """VQA's results format: `<setting>.json`, and the controls `<setting>.blind.json` and `<setting>.shuffled.json`; no setting has a
    dot."""
    return _at("answers", system)


def answer_scores(system: str) -> Path:
    """As `scores`, of answers to questions; no system's name has a dot."""
    return scores(system).with_name(f"{system}.answers")


def answer_metrics(system: str) -> Path:
    return metrics(system).with_name(f"{system}.answers.json")


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
