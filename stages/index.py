"""Index one corpus in one CLIP space."""

from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.features.indexing import IndexParams, index_corpus
from stages import run


def index(clip: str, corpus: str) -> None:
    """Write data/features/CLIP/text/CORPUS/neighbours."""
    index_corpus(clip, corpus, section(IndexParams, load(), "index"), choose_device())


if __name__ == "__main__":
    run(index)
