"""The floor: a decoder trained on text features, given the image feature as it is. What remains is the modality gap.

Not a paper's system; it is the ablation "without projection" of DeCap (Li et al., ICLR 2023), and reads DeCap's trained decoder.
"""

from __future__ import annotations

from pipeline.methods.base import Condition, Corpus, Images, Method


class Raw(Method):
    paper = "the floor: DeCap's decoder without its projection (Li et al., ICLR 2023, ablation)"
    supervision = "text"
    trains = False
    uses_support = False

    def inference_condition(self, images: Images, support: Corpus) -> Condition:
        """The image feature itself: (B, 1, D)."""
        return Condition.full(images.features[:, None])
