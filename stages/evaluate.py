"""Score the captions of one system."""

from pipeline.metrics import captions
from stages import run


def evaluate(system: str) -> None:
    """Write data/metrics/SYSTEM.json and data/scores/SYSTEM."""
    captions.start_meteor()  # its Java gets ready while torch is imported
    from pipeline.core.device import choose_device
    from pipeline.core.params import load
    from pipeline.evaluation import evaluate_system
    from pipeline.systems import find_system

    params = load()
    evaluate_system(system, find_system(system, params), params, choose_device())


if __name__ == "__main__":
    run(evaluate)
