"""Score the answers of one system."""

from pipeline.answer_evaluation import evaluate_answers
from pipeline.answers import answering_of
from pipeline.core.params import load
from pipeline.systems import find_system
from stages import run


def evaluate(name: str) -> None:
    """Write data/metrics/SYSTEM.answers.json and data/scores/SYSTEM.answers."""
    params = load()
    evaluate_answers(name, answering_of(name, find_system(name, params), params), params)


if __name__ == "__main__":
    run(evaluate)
