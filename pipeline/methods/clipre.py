"""CLIPRe: the corpus caption whose text feature is nearest to the image feature (Su et al., MAGIC, 2022, baseline).

Exact, over the whole corpus. The row that papers cite for CLIPRe (COCO CIDEr 13.6) comes from an index that held the first 128
captions over and over; a correct one scores about four times as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.features.retrieval import search
from pipeline.methods.base import Method
from pipeline.needs.base import Inputs, Need
from pipeline.needs.images import Images
from pipeline.needs.text import Text

if TYPE_CHECKING:
    from pipeline.language.decoders import Decoder
    from pipeline.language.decoding import Decoding


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
