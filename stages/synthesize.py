"""Draw the captions of one corpus."""

from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.synthetic.drawing import SynthesisParams, synthesize
from stages import run


def draw(corpus: str) -> None:
    """Write data/raw/CORPUS-drawn and data/corpus/CORPUS-drawn."""
    synthesize(corpus, section(SynthesisParams, load(), "synthesis"), choose_device())


if __name__ == "__main__":
    run(draw)
