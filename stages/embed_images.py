"""Embed the images of one data set with one CLIP."""

from pipeline.device import choose_device
from pipeline.embedding import embed_images
from pipeline.encoders import load_clip
from pipeline.params import load
from stages import run


def embed(clip: str, dataset: str) -> None:
    """Write data/features/CLIP/images/DATASET.zarr."""
    embed_images(clip, load_clip(clip, load(), choose_device()), dataset)


if __name__ == "__main__":
    run(embed)
