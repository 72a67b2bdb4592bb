"""Embed the regions of one data set's images with one CLIP."""

from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.features.encoders import load_clip
from pipeline.features.regions import RegionParams, embed_regions
from stages import run


def embed(clip: str, dataset: str) -> None:
    """Write data/features/CLIP/regions/DATASET."""
    params = load()
    embed_regions(clip, load_clip(clip, params, choose_device()), dataset, section(RegionParams, params, "regions"))


if __name__ == "__main__":
    run(embed)
