"""Embed the key frames of one data set's videos with one CLIP."""

from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.features.encoders import load_clip
from pipeline.features.frames import FrameParams, embed_frames
from stages import run


def embed(clip: str, dataset: str) -> None:
    """Write data/features/CLIP/frames/DATASET, and their means, data/features/CLIP/image/DATASET."""
    params = load()
    embed_frames(clip, load_clip(clip, params, choose_device()), dataset, section(FrameParams, params, "frames"))


if __name__ == "__main__":
    run(embed)
