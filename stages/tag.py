"""Name the objects in the images of one data set."""

from pipeline.core.device import choose_device
from pipeline.core.params import check, load, pick
from pipeline.features.tagging import DetectorParams, load_detector, tag_dataset
from stages import run


def tag(dataset: str) -> None:
    """Write data/tags/DATASET."""
    params = check(DetectorParams, pick(load(), "detector"), "detector")
    tag_dataset(dataset, load_detector(params, choose_device()))


if __name__ == "__main__":
    run(tag)
