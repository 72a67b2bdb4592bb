"""The floor: a decoder trained on text features, given the image feature as it is. What remains is the modality gap.

Not a paper's system; it is the ablation "without projection" of DeCap (Li et al., ICLR 2023), and starts from DeCap's trained decoder.
"""

from __future__ import annotations

from ..language.condition import Condition
from ..needs.base import Inputs
from ..needs.images import Images
from .base import Method


class Raw(Method):
    paper = "the floor: DeCap's decoder without its projection (Li et al., ICLR 2023, ablation)"
    supervision = "text"
    trains = False

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """The image feature itself: (B, 1, D)."""
        return Condition.full(seen.of(Images).float()[:, None])
