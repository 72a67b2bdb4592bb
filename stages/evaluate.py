"""Score the captions of one system."""

from pipeline.device import choose_device
from pipeline.evaluation import evaluate_system
from pipeline.params import load
from pipeline.systems import find_system
from stages import run


def evaluate(system: str) -> None:
    """Write data/metrics/SYSTEM.json and data/scores/SYSTEM."""
    params = load()
    evaluate_system(system, find_system(system, params), params, choose_device())


if __name__ == "__main__":
    run(evaluate)
