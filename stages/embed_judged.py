"""Embed the images and the references of one data set with the judge, of videos the mean of their key frames."""

from pipeline.core import paths
from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.core.tables import read_table
from pipeline.features.embedding import embed_images, embed_references
from pipeline.features.encoders import load_clip
from pipeline.features.frames import FrameParams, embed_means
from pipeline.metrics.judge import EvaluationParams
from pipeline.videos import is_video
from stages import run


def embed(dataset: str) -> None:
    """Write data/features/JUDGE/image/DATASET and data/features/JUDGE/references/DATASET."""
    params = load()
    wanted = section(EvaluationParams, params, "evaluation")
    judge = load_clip(wanted.judge, params, choose_device())
    if any(map(is_video, read_table(paths.image_table(dataset), ["path"])["path"])):
        embed_means(wanted.judge, judge, dataset, section(FrameParams, params, "frames"))
    else:
        embed_images(wanted.judge, judge, dataset)
    embed_references(wanted.judge, judge, dataset, wanted.prompt)


if __name__ == "__main__":
    run(embed)
