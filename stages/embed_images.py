"""Embed the images of one data set with one CLIP."""

from pipeline.core.device import choose_device
from pipeline.core.params import load
from pipeline.core.paths import ImageSet
from pipeline.features.embedding import embed_images
from pipeline.features.encoders import load_clip
from stages import run


def embed(clip: str, dataset: str, drawn: bool = False) -> None:
    """Write data/features/CLIP/image/DATASET; with --drawn, data/features/CLIP/synthetic/DATASET/drawn."""
    embed_images(clip, load_clip(clip, load(), choose_device()), ImageSet(dataset, drawn))


if __name__ == "__main__":
    run(embed)
