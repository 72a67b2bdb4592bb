"""Name the objects in the images of one data set."""

from pipeline.core.device import choose_device
from pipeline.core.params import load
from pipeline.core.paths import ImageSet
from pipeline.features.tagging import load_detector, tag_images
from stages import run


def tag(detector: str, dataset: str, drawn: bool = False) -> None:
    """Write data/tags/DETECTOR/image/DATASET; with --drawn, data/tags/DETECTOR/synthetic/DATASET."""
    tag_images(detector, load_detector(detector, load(), choose_device()), ImageSet(dataset, drawn))


if __name__ == "__main__":
    run(tag)
