"""Draw one data set of the micro-world."""

from pipeline.core.params import load, section
from pipeline.world.dataset import WorldParams, write_dataset
from stages import run


def world(dataset: str) -> None:
    """Write data/raw/DATASET."""
    write_dataset(dataset, section(WorldParams, load(), f"world.{dataset}"))


if __name__ == "__main__":
    run(world)
