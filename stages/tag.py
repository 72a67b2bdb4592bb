"""Name the objects in the images of one data set."""

from pipeline.core.device import choose_device
from pipeline.core.params import load
from pipeline.features.tagging import load_detector, tag_images
from stages import run


def tag(detector: str, dataset: str) -> None:
    """Write data/tags/DETECTOR/DATASET."""
    tag_images(detector, load_detector(detector, load(), choose_device()), dataset)


if __name__ == "__main__":
    run(tag)
