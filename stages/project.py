"""Project the pseudo-features of one corpus's synthetic images onto its captions."""

from pipeline.core.device import choose_device
from pipeline.core.params import check, load, pick
from pipeline.synthetic.refinement import ProjectionParams, project_pairs
from stages import run


def project(clip: str, corpus: str) -> None:
    """Write data/synthetic/CORPUS/projected/CLIP."""
    project_pairs(clip, corpus, check(ProjectionParams, pick(load(), "projection"), "projection"), choose_device())


if __name__ == "__main__":
    run(project)
