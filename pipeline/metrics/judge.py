"""How captions are scored, as params.yaml holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ..core.params import Seed, StrictParams


@dataclass(frozen=True)
class EvaluationParams(StrictParams):
    """`evaluation` in params.yaml.

    judge: the CLIP behind CLIPScore, RefCLIPScore and RefCompare; no system may use it. datasets: that the judge looks at.
    samples: of the bootstrap. seed: of bootstrap and shuffled control. prompt: put before every text that the judge reads (the default
    is that of Hessel et al.; the micro-world's judge has never read such words). language_model: the one in `data/foundation` that
    captions' perplexity is by; none without a name.
    """

    judge: str
    datasets: tuple[str, ...] = ()
    samples: Annotated[int, Field(ge=1, le=10**6)] = 1000
    seed: Seed = 0
    prompt: str = "A photo depicts "
    language_model: str = ""
