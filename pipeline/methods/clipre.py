"""CLIPRe: the corpus caption whose text feature is nearest to the image feature (Su et al., MAGIC, 2022, baseline).

Exact, over the whole corpus. The row that papers cite for CLIPRe (COCO CIDEr 13.6) comes from an index that held the first 128
captions over and over; a correct one scores about four times as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..features.retrieval import search
from ..needs.base import Inputs, Need
from ..needs.images import Images
from ..needs.text import Text
from .base import Method

if TYPE_CHECKING:
    from ..language.decoders import Decoder
    from ..language.decoding import Decoding


class ClipRe(Method):
    paper = "CLIPRe: CLIP retrieval, baseline of MAGIC (Su et al., 2022); exact, without the published index bug"
    supervision = "text"
    trains = False
    has_decoder = False

    @property
    def looks_up(self) -> tuple[Need[Any], ...]:
        return (Text(),)

    def caption(self, seen: Inputs, support: Inputs, decoder: Decoder | None, decoding: Decoding) -> list[str]:
        """argmax over the corpus of cos(image, caption)."""
        sentences = support.of(Text)
        _, rows = search(sentences.index, seen.of(Images).float().cpu().numpy(), 1)
        return [sentences.texts[row] for row in rows[:, 0].tolist()]
