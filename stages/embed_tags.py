"""Put the tags of one data set's images into a CLIP's space."""

from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.core.paths import ImageSet
from pipeline.features.encoders import load_clip
from pipeline.features.tags import TagParams, embed_tags
from stages import run


def embed(clip: str, detector: str, dataset: str, drawn: bool = False) -> None:
    """Write data/features/CLIP/tagged/DETECTOR/DATASET; with --drawn, data/features/CLIP/synthetic/DATASET/tagged/DETECTOR."""
    params = load()
    prompt = section(TagParams, params, "tag").prompt
    embed_tags(clip, load_clip(clip, params, choose_device()), detector, ImageSet(dataset, drawn), prompt)


if __name__ == "__main__":
    run(embed)
