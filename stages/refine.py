"""Optimise the pseudo-features of one corpus's synthetic images towards their captions."""

from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.synthetic.refinement import RefinementParams, refine_pairs
from stages import run


def refine(clip: str, corpus: str) -> None:
    """Write data/features/CLIP/synthetic/CORPUS-drawn/refined."""
    refine_pairs(clip, corpus, section(RefinementParams, load(), "refinement"), choose_device())


if __name__ == "__main__":
    run(refine)
