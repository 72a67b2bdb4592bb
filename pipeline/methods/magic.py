"""MAGIC: a language model writes, CLIP has its say in every token, and no mapper stands between (Su et al., 2022, arXiv:2205.02655).

Training is the language model's own: it reads the corpus, and no feature; one that is frozen is taken as it is. A caption is a greedy
search among the k likeliest tokens: by how likely each is, less how much it repeats what stands before it, and by CLIP's choice among the
texts that they make ("MAGIC search"). Main differences from the public code (yxuansu/MAGIC):
- Language model: GPT-2, with a start token of its own added. Here the decoder's, whatever it is.
- It writes all its tokens, and cuts at the first end token afterwards. Here a caption that has ended is left alone: the same captions.
- It captions one picture at a time. Here pictures are captioned together, each as it would be alone.
Legend: B batch, R captions under way, T tokens, K candidates for the next one, V vocabulary, W width of the language model, D CLIP width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..core.errors import UserError
from ..core.params import Count, Share
from ..language.condition import Condition
from ..language.decoders import pad
from ..language.decoding import Rescore
from ..language.tokens import IGNORE
from ..needs.base import Inputs, PictureNeed
from ..needs.images import Images
from ..needs.text_tower import TextTower
from .base import Method, MethodParams
from .guidance import Reader, continuations

if TYPE_CHECKING:
    from ..language.decoders import Decoder
    from ..language.decoding import Decoding
    from .phases import Phase, Trainer

_AT_ONCE = 512  # candidates that the language model reads together: each carries the keys and values of its caption
_NEVER = -1e9


@dataclass(frozen=True)
class MagicParams(MethodParams):
    """margin: of the contrastive loss, by which hidden states of one text are to differ (0.5); 0 leaves cross-entropy alone."""

    margin: Share = 0.5


@dataclass(frozen=True)
class MagicCaptionParams(MethodParams):
    """k: tokens to choose from (released code: COCO 45, Flickr30k 25). alpha: weight of the degeneration penalty (0.1), the rest being the
    probability's. beta: weight of CLIP (2.0). tokens: most of a caption (15 and the start token; Flickr30k 19), in place of
    `captioning.max_new_tokens`."""

    k: Count = 45
    alpha: Share = 0.1
    beta: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 2.0
    tokens: Annotated[int, Field(ge=1, le=10_000)] = 15


class Magic(Method):
    paper = "MAGIC: Language Models Can See: Plugging Visual Controls in Text Generation (Su et al., 2022)"
    supervision = "text"
    TrainParams = MagicParams
    CaptionParams: ClassVar[type[MethodParams]] = MagicCaptionParams

    @property
    def looks_at(self) -> tuple[PictureNeed[Any], ...]:
        return Images(), TextTower()

    @property
    def prefix_length(self) -> int:
        return 0

    def mapper(self, clip_width: int, lm_width: int, shape: str) -> nn.Module:
        """None, whatever the decoder's `mapper` says."""
        return nn.Identity()

    def phases(self, trainer: Trainer) -> list[Phase]:
        """Cross-entropy and contrastive loss on captions; none where the language model is frozen."""
        decoder, margin = trainer.decoder, self.train.margin
        if not decoder.trained_parameters():
            return []
        phase = trainer.cross_entropy()

        def loss(rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
            ids_BT = pad([trainer.captions[row][:-1] for row in rows.tolist()]).to(next(decoder.parameters()).device)
            there_BT = ids_BT != IGNORE
            hidden_BTW = decoder.lm.base_model(input_ids=ids_BT.where(there_BT, 0)).last_hidden_state  # padding stands behind
            return phase.loss(rows, generator) + contrastive(hidden_BTW, there_BT, margin)

        return [replace(phase, loss=loss) if margin else phase]

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        """Nothing: (B, 0, 0)."""
        return nothing(rows)

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """Nothing: (B, 0, 0)."""
        return nothing(seen.of(Images))

    def caption(self, seen: Inputs, support: Inputs, decoder: Decoder | None, decoding: Decoding) -> list[str]:
        """By greedy search, whatever `captioning.beams` says."""
        assert decoder is not None
        greedy = replace(decoding, beams=1, max_new_tokens=self.caption_params.tokens)
        return decoder.generate(self.inference_condition(seen, support), greedy, self.rescore(seen, decoder))

    def answer(self, seen: Inputs, support: Inputs, questions: Sequence[str], decoder: Decoder, decoding: Decoding,
               blind: bool = False) -> list[str]:
        """A `UserError`: CLIP chooses words that are in the picture, and questions ask for others too."""
        raise UserError("params.yaml: a method that tells its language model nothing of a picture cannot answer: name another system in "
                        "answering")

    def rescore(self, seen: Inputs, decoder: Decoder) -> Rescore:
        """MAGIC search's scores in place of the language model's, for these pictures."""
        clip, images_BD, wanted = seen.of(TextTower).clip, seen.of(Images).float(), self.caption_params
        assert clip is not None

        def rescore(tokens_RT: Tensor, log_probs_RV: Tensor, images_R: Tensor) -> Tensor:
            log_probs_RK, candidates_RK = log_probs_RV.topk(min(wanted.k, log_probs_RV.shape[1]))
            context_RT = nn.functional.pad(tokens_RT, (1, 0), value=decoder.tokenizer.start)
            parts = max(1, _AT_ONCE // candidates_RK.shape[1])
            penalty_RK = torch.cat([degeneration(decoder.lm, context, candidates) for context, candidates in
                                    zip(context_RT.split(parts), candidates_RK.split(parts), strict=True)])
            texts = continuations(decoder.tokenizer, tokens_RT, candidates_RK)
            magic_RK = (Reader(clip).cosines(images_BD[images_R], texts) * clip.model.logit_scale.exp()).softmax(-1)
            scores_RK = (1 - wanted.alpha) * log_probs_RK.exp() - wanted.alpha * penalty_RK + wanted.beta * magic_RK
            return torch.full_like(log_probs_RV, _NEVER).scatter(1, candidates_RK, scores_RK)

        return rescore


def contrastive(hidden_BTW: Tensor, there_BT: Tensor, margin: float) -> Tensor:
    """Mean over all pairs of tokens of one text of how far their hidden states' cosine is above 1 - margin (SimCTG, Su et al., NeurIPS
    2022)."""
    unit_BTW = normalize(hidden_BTW, dim=-1)
    pairs_BTT = there_BT[:, :, None] & there_BT[:, None] & ~torch.eye(there_BT.shape[1], dtype=torch.bool, device=there_BT.device)
    return (unit_BTW @ unit_BTW.mT - (1 - margin)).relu()[pairs_BTT].mean()


def degeneration(lm: Any, context_RT: Tensor, candidates_RK: Tensor) -> Tensor:
    """(R, K) largest cosine of a candidate's hidden state with those of the tokens before it, both of the last layer: the penalty
    of contrastive search (Su et al., NeurIPS 2022)."""
    context = lm.base_model(input_ids=context_RT, use_cache=True)
    cache = context.past_key_values
    cache.batch_repeat_interleave(candidates_RK.shape[1])
    after = lm.base_model(input_ids=candidates_RK.reshape(-1, 1), past_key_values=cache).last_hidden_state
    after_RKW = normalize(after.view(*candidates_RK.shape, -1), dim=-1)
    return (after_RKW @ normalize(context.last_hidden_state, dim=-1).mT).amax(-1)


def nothing(rows: Tensor) -> Condition:
    """A condition of no vectors, for as many captions as there are rows."""
    return Condition.full(torch.empty(len(rows), 0, 0, device=rows.device))
