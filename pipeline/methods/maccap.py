"""MacCap: regions of an image in place of one feature, noise in place of the modality gap, and a choice by CLIP (Qiu et al., AAAI 2024).

Training sees a caption's feature with noise, drawn anew for each of N rows; inference sees the image feature with each of its regions
added, and noise too. An adaptor of learned queries turns the rows into a prefix. Facts of the released code (Artanic30/MacCap), where they
are not the paper's or are left out here:
- Inference keeps the noise, though its scripts take one draw only; several draws, of which CLIP keeps the best, are switched on by hand.
- It cuts candidates to 80 characters before CLIP reads them; here they are read as they are.
- Its loss counts padding, and gradients are clipped before they are unscaled; here neither is done.
- Its language model is OPT-1.3b, frozen, in half precision; beams 4, at most 16 new tokens; AdamW 1e-4, 200 steps of warm-up, batches of
  32.

Legend: B batch, N rows, R regions, Q queries, D CLIP width, W width of the language model's embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..core.errors import UserError
from ..core.params import Count, Size, Spread
from ..features.stores import unit
from ..language.condition import Condition
from ..needs.base import Inputs, PictureNeed
from ..needs.images import Images
from ..needs.regions import Regions
from ..needs.text import Text
from ..needs.text_tower import TextTower
from .base import Candidate, Method, MethodParams

if TYPE_CHECKING:
    from ..language.decoders import Decoder
    from ..language.decoding import Decoding

Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class MacCapParams(MethodParams):
    """noise_variance: of the noise in each row and dimension (released code: 0.016 for 512 dimensions; its length grows with the width).

    rows: of a caption in training (10). queries: length of the prefix (32). heads, feedforward, dropout: of the adaptor's one layer (8,
    2048, 0.1).
    """

    noise_variance: Spread = 0.016
    rows: Size = 10
    queries: Size = 32
    heads: Size = 8
    feedforward: Size = 2048
    dropout: Share = 0.1


@dataclass(frozen=True)
class MacCapCaptionParams(MethodParams):
    """noise_variance: as in training (released code: 0.016). region_weight: of a region beside the image feature (1); 0 leaves regions out.

    candidates: captions of as many draws of the noise, of which the one nearest to the image in the CLIP that the system looks with is kept
    (released code: 4 where it is switched on, 1 by default; which of them the paper's tables hold is not known).
    """

    noise_variance: Spread = 0.016
    region_weight: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    candidates: Count = 4

    def __post_init__(self) -> None:
        if self.candidates > 1 and self.noise_variance == 0:
            raise ValueError("several candidates come of noise, and noise_variance is 0: raise it, or set candidates to 1")


class Adaptor(nn.Module):
    """Learned queries that read the rows through one decoder layer, then an MLP into the language model's embeddings.

    No positions: the rows are a set. Post-norm, ReLU, a last norm behind the layer.
    """

    def __init__(self, clip_width: int, lm_width: int, params: MacCapParams) -> None:
        super().__init__()
        if clip_width % params.heads:
            raise UserError(f"params.yaml: MacCap's heads {params.heads} must divide the CLIP width {clip_width}")
        self.queries = nn.Parameter(torch.randn(params.queries, clip_width))
        layer = nn.TransformerDecoderLayer(clip_width, params.heads, params.feedforward, params.dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1, nn.LayerNorm(clip_width))
        self.mlp = nn.Sequential(nn.Linear(clip_width, clip_width), nn.ReLU(), nn.Linear(clip_width, clip_width), nn.ReLU(),
                                 nn.Linear(clip_width, lm_width))

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """(B, N, D) to the prefix (B, Q, W) and its mask (B, Q)."""
        queries_BQD = self.queries.expand(len(condition.vectors), -1, -1)
        prefix_BQW = self.mlp(self.decoder(queries_BQD, condition.vectors, memory_key_padding_mask=~condition.mask))
        return prefix_BQW, torch.ones(prefix_BQW.shape[:2], dtype=torch.bool, device=prefix_BQW.device)


class MacCap(Method):
    paper = "MacCap: Mining Fine-Grained Image-Text Alignment for Zero-Shot Captioning via Text-Only Training (Qiu et al., AAAI 2024)"
    supervision = "text"
    TrainParams = MacCapParams
    CaptionParams = MacCapCaptionParams

    @property
    def looks_at(self) -> tuple[PictureNeed[Any], ...]:
        return Images(), Regions(), *([TextTower()] if self.caption_params.candidates > 1 else [])

    @property
    def prefix_length(self) -> int:
        return int(self.train.queries)

    def mapper(self, clip_width: int, lm_width: int, shape: str) -> nn.Module:
        """MacCap's own, whatever the decoder's `mapper` says."""
        return Adaptor(clip_width, lm_width, self.train)

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        """The caption's feature in N rows of unlike noise: (B, N, D), unit rows."""
        text_BND = corpus.of(Text).features[rows].float()[:, None].expand(-1, self.train.rows, -1)
        noise_BND = torch.randn(text_BND.shape, generator=generator) * self.train.noise_variance**0.5
        return Condition.full(normalize(text_BND + noise_BND.to(text_BND.device), dim=-1))

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """Of the first draw: see `draw`."""
        return self.draw(seen, 0)

    def draw(self, seen: Inputs, number: int) -> Condition:
        """The image feature with each of its regions and with noise: (B, R, D), unit rows. A picture's noise follows from its pixels and
        the draw's number."""
        images_BD, regions = seen.of(Images).float(), seen.of(Regions)
        regions_BRD = regions.features.float() * self.caption_params.region_weight
        noise_BRD = torch.stack([noise(seed, number, regions_BRD.shape[1:]) for seed in regions.seeds.tolist()])
        noise_BRD = noise_BRD.to(images_BD.device) * self.caption_params.noise_variance**0.5
        return Condition.full(normalize(images_BD[:, None] + regions_BRD + noise_BRD, dim=-1))

    def caption(self, seen: Inputs, support: Inputs, decoder: Decoder | None, decoding: Decoding) -> list[str]:
        return [each[0].text for each in self.candidates(seen, support, decoder, decoding)]

    def candidates(self, seen: Inputs, support: Inputs, decoder: Decoder | None, decoding: Decoding) -> list[list[Candidate]]:
        """The distinct captions of all draws, by their cosine with the image."""
        assert decoder is not None
        draws = [decoder.generate(self.draw(seen, number), decoding) for number in range(self.caption_params.candidates)]
        if len(draws) == 1:
            return [[Candidate(text)] for text in draws[0]]
        distinct = [list(dict.fromkeys(texts)) for texts in zip(*draws, strict=True)]
        return [ranked(texts, cosines) for texts, cosines in zip(distinct, self._cosines(seen, distinct), strict=True)]

    def _cosines(self, seen: Inputs, texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Of each picture's texts with it; each text is read once."""
        clip = seen.of(TextTower).clip
        assert clip is not None
        rows = {text: row for row, text in enumerate(dict.fromkeys(text for its in texts for text in its))}
        features_TD = torch.from_numpy(unit(clip.encode_texts(list(rows))))
        return [(features_TD[[rows[text] for text in its]] @ image_D).tolist()
                for its, image_D in zip(texts, seen.of(Images).float().cpu(), strict=True)]


def noise(seed: int, draw: int, shape: torch.Size) -> Tensor:
    """Standard normal, from a picture's seed and the number of the draw."""
    return torch.randn(shape, generator=torch.Generator().manual_seed((seed + draw * 1_000_003) % 2**63))


def ranked(texts: Sequence[str], scores: Sequence[float]) -> list[Candidate]:
    """Best first; of equal ones the earlier draw first."""
    return sorted(map(Candidate, texts, scores), key=lambda each: -float(each.score or 0))
