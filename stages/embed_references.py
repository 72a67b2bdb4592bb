"""Embed the references of one data set with the judge."""

from pipeline.core.device import choose_device
from pipeline.core.params import check, load
from pipeline.features.embedding import embed_references
from pipeline.features.encoders import load_clip
from pipeline.systems import EvaluationParams
from stages import run


def embed(dataset: str) -> None:
    """Write data/features/JUDGE/references/DATASET.zarr."""
    params = load()
    wanted = check(EvaluationParams, params.get("evaluation"), "evaluation")
    embed_references(wanted.judge, load_clip(wanted.judge, params, choose_device()), dataset, wanted.prompt)


if __name__ == "__main__":
    run(embed)
