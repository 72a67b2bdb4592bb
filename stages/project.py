"""Project the pseudo-features of one corpus's synthetic images onto its captions."""

from pipeline.device import choose_device
from pipeline.params import check, load, pick
from pipeline.refinement import ProjectionParams, project_pairs
from stages import run


def project(clip: str, corpus: str) -> None:
    """Write data/synthetic/CORPUS/projected/CLIP."""
    project_pairs(clip, corpus, check(ProjectionParams, pick(load(), "projection"), "projection"), choose_device())


if __name__ == "__main__":
    run(project)
