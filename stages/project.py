"""Project the pseudo-features of one corpus's synthetic images onto its captions."""

from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.synthetic.refinement import ProjectionParams, project_pairs
from stages import run


def project(clip: str, corpus: str) -> None:
    """Write data/features/CLIP/synthetic/CORPUS-drawn/projected."""
    project_pairs(clip, corpus, section(ProjectionParams, load(), "projection"), choose_device())


if __name__ == "__main__":
    run(project)
