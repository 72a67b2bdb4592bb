"""Embed one corpus with one CLIP."""

from pipeline.core.device import choose_device
from pipeline.core.params import load
from pipeline.features.embedding import embed_text
from pipeline.features.encoders import load_clip
from stages import run


def embed(clip: str, corpus: str) -> None:
    """Write data/features/CLIP/text/CORPUS/features."""
    embed_text(clip, load_clip(clip, load(), choose_device()), corpus)


if __name__ == "__main__":
    run(embed)
