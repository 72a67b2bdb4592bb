"""CLIPRe: the corpus caption whose text feature is nearest to the image feature (Su et al., MAGIC, 2022, baseline).

Exact, over the whole corpus. The row that papers cite for CLIPRe (COCO CIDEr 13.6) comes from an index that held the first 128
captions over and over; a correct one scores about four times as much.
"""

from __future__ import annotations

from pipeline.features.retrieval import search
from pipeline.methods.base import Corpus, Images, Method


class ClipRe(Method):
    paper = "CLIPRe: CLIP retrieval, baseline of MAGIC (Su et al., 2022); exact, without the published index bug"
    supervision = "text"
    trains = False

    def caption(self, images: Images, support: Corpus) -> list[str]:
        """argmax over the corpus of cos(image, caption)."""
        _, rows = search(support.index, images.features.cpu().numpy(), 1)
        return [support.texts[row] for row in rows[:, 0].tolist()]
