"""Embed the images of one data set with one CLIP."""

from pipeline.core.device import choose_device
from pipeline.core.params import load
from pipeline.features.embedding import embed_images
from pipeline.features.encoders import load_clip
from stages import run


def embed(clip: str, dataset: str) -> None:
    """Write data/features/CLIP/image/DATASET."""
    embed_images(clip, load_clip(clip, load(), choose_device()), dataset)


if __name__ == "__main__":
    run(embed)
