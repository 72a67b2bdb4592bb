"""Turn one raw data set into tables: corpus sentences, references, images."""

import sys

from pipeline.core import paths
from pipeline.core.params import load, section
from pipeline.corpus.extract import ExtractParams, extract
from stages import run


def extract_dataset(dataset: str) -> None:
    """Write data/corpus/DATASET."""
    params = section(ExtractParams, load(), f"extract.{dataset}")
    report = extract(paths.raw(dataset), paths.corpus(dataset), params)
    left_out = report.get("skipped_images", [])
    print(f"{dataset}: {report['corpus']}, {len(report['skipped'])} skipped" + (f", {len(left_out)} pictures left out" if left_out else ""))
    if report["unspaced"]:
        print(f"warning: {report['unspaced']} captions of {dataset} have words that no space divides: metrics take such a run for "
              "one word; put spaces between the words first", file=sys.stderr)
    for split in ("val", "test"):
        if report["images"][split] == 1:
            print(f"warning: {dataset} has one {split} picture: scores compare pictures, so that evaluation on {split} stops; add others",
                  file=sys.stderr)


if __name__ == "__main__":
    run(extract_dataset)
