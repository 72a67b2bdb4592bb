"""Turn one raw data set into tables: corpus sentences, references, images."""

from pipeline.core import paths
from pipeline.core.params import load, section
from pipeline.corpus.extract import ExtractParams, extract
from stages import run


def extract_dataset(dataset: str) -> None:
    """Write data/corpus/DATASET."""
    params = section(ExtractParams, load(), f"extract.{dataset}")
    report = extract(paths.raw(dataset), paths.corpus(dataset), params)
    print(f"{dataset}: {report['corpus']}, {len(report['skipped'])} skipped")


if __name__ == "__main__":
    run(extract_dataset)
