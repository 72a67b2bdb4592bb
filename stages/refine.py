"""Optimise the pseudo-features of one corpus's synthetic images towards their captions."""

from pipeline.core.device import choose_device
from pipeline.core.params import check, load, pick
from pipeline.synthetic.refinement import RefinementParams, refine_pairs
from stages import run


def refine(clip: str, corpus: str) -> None:
    """Write data/synthetic/CORPUS/refined/CLIP."""
    refine_pairs(clip, corpus, check(RefinementParams, pick(load(), "refinement"), "refinement"), choose_device())


if __name__ == "__main__":
    run(refine)
