"""Embed one corpus with one CLIP."""

from pipeline.device import choose_device
from pipeline.embedding import embed_text
from pipeline.encoders import load_clip
from pipeline.params import load
from stages import run


def embed(clip: str, corpus: str) -> None:
    """Write data/features/CLIP/text/CORPUS.zarr."""
    embed_text(clip, load_clip(clip, load(), choose_device()), corpus)


if __name__ == "__main__":
    run(embed)
