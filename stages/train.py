"""Train one system."""

from pipeline.core.device import choose_device
from pipeline.core.params import load
from pipeline.systems import find_system
from pipeline.training import train_system
from stages import run


def train(system: str) -> None:
    """Write data/models/SYSTEM and data/curves/SYSTEM.json."""
    params = load()
    train_system(system, find_system(system, params), params, choose_device())


if __name__ == "__main__":
    run(train)
