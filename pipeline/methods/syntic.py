"""SynTIC: a decoder trained on synthetic pictures of its captions, refined and told what is in them (Liu et al., AAAI 2024).

Training sees pseudo-features of generated pictures, inference features of real ones; both are projected onto the corpus and both
carry object tags. The equations' numbers are the paper's; its text leaves open which feature asks the attention (here the projected
one, as the decoder sees it) and how tags become text (here a row per distinct object).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..core.errors import UserError
from ..core.params import Count, Size, Temperature
from ..features.retrieval import project
from ..language.condition import Condition
from ..needs.base import Inputs, Need, PictureNeed
from ..needs.images import Images, PseudoFeatures
from ..needs.pairs import Pairs
from ..needs.tags import Objects
from ..needs.text import Text
from .base import Method, MethodParams


@dataclass(frozen=True)
class SynTICParams(MethodParams):
    """The switches of the paper's Table 4, and what it leaves open.

    optimize: pseudo-features after contrastive optimisation (Eq. 2). project: as mixtures of the corpus's captions (Eq. 3).
    objects: detected objects through attention (Eq. 4-5). detector: the entry of `detectors` that finds them. limit: most
    objects a picture (ours: 10). heads: of the attention (ours: 4).
    """

    optimize: bool = True
    project: bool = True
    objects: bool = True
    detector: str = "detector"
    limit: Count = 10
    heads: Size = 4


@dataclass(frozen=True)
class SynTICCaptionParams(MethodParams):
    """temperature: of the projection (Eq. 3), by support corpus (paper: COCO 1/100, Flickr30k 1/80, SS1M 1/100)."""

    temperature: dict[str, Temperature] = field(default_factory=dict)


class ObjectAttention(nn.Module):
    """From [image feature, objects] to [image feature, auxiliary feature]: attention of the first over the others. SynTIC, Eq. 5."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"params.yaml: SynTIC's heads {heads} must divide the CLIP width {width}")
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, condition: Condition) -> Condition:
        """(B, 1 + O, D) to (B, 2, D); the auxiliary feature of a picture without objects is zero and masked."""
        image_B1D, objects_BOD = condition.vectors[:, :1], condition.vectors[:, 1:]
        there_BO = condition.mask[:, 1:]
        any_B1 = there_BO.any(1, keepdim=True)
        # attention over nothing is not a number: such rows attend to padding, and are then put out
        auxiliary_B1D, _ = self.attention(image_B1D, objects_BOD, objects_BOD, key_padding_mask=~(there_BO | ~any_B1), need_weights=False)
        vectors = torch.cat([image_B1D, auxiliary_B1D * any_B1[..., None]], dim=1)
        return Condition(vectors, torch.cat([condition.mask[:, :1], any_B1], dim=1))


class SynTIC(Method):
    paper = "SynTIC: Improving Cross-modal Alignment with Synthetic Pairs for Text-only Image Captioning (Liu et al., AAAI 2024)"
    supervision = "synthetic"
    TrainParams = SynTICParams
    CaptionParams = SynTICCaptionParams

    @property
    def learns_from(self) -> tuple[Need[Any], ...]:
        return (Pairs((PseudoFeatures(self.train.optimize, self.train.project), *self._objects)),)

    @property
    def looks_at(self) -> tuple[PictureNeed[Any], ...]:
        return Images(), *self._objects

    @property
    def looks_up(self) -> tuple[Need[Any], ...]:
        return (Text(),) if self.train.project else ()

    @property
    def _objects(self) -> tuple[PictureNeed[Any], ...]:
        return (Objects(self.train.detector, self.train.limit),) if self.train.objects else ()

    @property
    def prefix_length(self) -> int:
        return 2 if self.train.objects else 1

    def mapper(self, clip_width: int, lm_width: int, shape: str) -> nn.Module:
        """The shared mapper, behind the attention over objects."""
        if not self.train.objects:
            return super().mapper(clip_width, lm_width, shape)
        return nn.Sequential(ObjectAttention(clip_width, self.train.heads), super().mapper(clip_width, lm_width, shape))

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        """The refined pseudo-feature of each caption's synthetic picture, then its objects: (B, 1 + O, D). Paper: Eq. 2-4, 6."""
        pictures = corpus.of(Pairs)[rows]
        return self._condition(pictures.of(PseudoFeatures).float(), pictures)

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """The real picture's feature, projected onto the support set, then its objects: (B, 1 + O, D)."""
        features_BD = seen.of(Images).float()
        if self.train.project:
            sentences = support.of(Text)
            temperature = self.caption_params.temperature.get(sentences.name)
            if temperature is None:
                raise UserError(f"params.yaml: SynTIC's caption.temperature has no value for the support {sentences.name}: "
                                "add one, such as 0.01")
            features_BD = normalize(project(features_BD, sentences.features, temperature), dim=-1)
        return self._condition(features_BD, seen)

    def _condition(self, features_BD: Tensor, pictures: Inputs) -> Condition:
        if not self.train.objects:
            return Condition.full(features_BD[:, None])
        objects = pictures.of(Objects)
        there_BO = objects.ids >= 0
        tags_BOD = objects.labels[objects.ids.clamp(min=0)].float() * there_BO[..., None]
        return Condition(torch.cat([features_BD[:, None], tags_BOD], dim=1),
                         torch.cat([torch.ones_like(there_BO[:, :1]), there_BO], dim=1))
