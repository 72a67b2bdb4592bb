"""Draw one data set of the micro-world."""

from pipeline.core.params import check, load, pick
from pipeline.world.dataset import WorldParams, write_dataset
from stages import run


def world(dataset: str) -> None:
    """Write data/raw/DATASET."""
    write_dataset(dataset, check(WorldParams, pick(load(), f"world.{dataset}"), f"world.{dataset}"))


if __name__ == "__main__":
    run(world)
