"""Index one corpus in one CLIP space."""

from pipeline.core.params import check, load, pick
from pipeline.features.indexing import IndexParams, index_corpus
from stages import run


def index(clip: str, corpus: str) -> None:
    """Write data/index/CLIP/CORPUS."""
    index_corpus(clip, corpus, check(IndexParams, pick(load(), "index"), "index"))


if __name__ == "__main__":
    run(index)
