"""Answer the questions of every setting with one system."""

from pipeline.answering import answer_settings
from pipeline.captioning import Captioner
from pipeline.core.device import choose_device
from pipeline.core.params import load
from pipeline.systems import find_system
from stages import run


def answer(name: str) -> None:
    """Write data/answers/SYSTEM."""
    params = load()
    system = find_system(name, params)
    answer_settings(name, system, params, Captioner(name, system, choose_device()))


if __name__ == "__main__":
    run(answer)
