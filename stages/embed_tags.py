"""Put the tags of one data set's images into a CLIP's space."""

from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.features.encoders import load_clip
from pipeline.features.tags import TagParams, embed_tags
from stages import run


def embed(clip: str, detector: str, dataset: str) -> None:
    """Write data/features/CLIP/tagged/DATASET/DETECTOR."""
    params = load()
    prompt = section(TagParams, params, "tag").prompt
    embed_tags(clip, load_clip(clip, params, choose_device()), detector, dataset, prompt)


if __name__ == "__main__":
    run(embed)
