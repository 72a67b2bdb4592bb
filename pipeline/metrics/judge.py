"""How captions are scored, as params.yaml holds it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.params import StrictParams


@dataclass(frozen=True)
class EvaluationParams(StrictParams):
    """`evaluation` in params.yaml.

    judge: the CLIP behind CLIPScore, RefCLIPScore and RefCompare; no system may use it. datasets: that the judge looks at.
    samples: of the bootstrap. seed: of bootstrap and shuffled control. prompt: put before every text that the judge reads (the default
    is that of Hessel et al.; the micro-world's judge has never read such words).
    """

    judge: str
    datasets: tuple[str, ...] = ()
    samples: int = 1000
    seed: int = 0
    prompt: str = "A photo depicts "

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("samples must be 1 or more")
