"""SynTIC: a decoder trained on synthetic pictures of its captions, refined and told what is in them (Liu et al., AAAI 2024).

Training sees pseudo-features of generated pictures, inference features of real ones; both are projected onto the corpus and both
carry object tags. The equations' numbers are the paper's; its text leaves open which feature asks the attention (here the projected
one, as the decoder sees it) and how tags become text (here a row per distinct object).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pipeline.core.errors import UserError
from pipeline.core.params import Count, Size, Temperature
from pipeline.features.data import Corpus, Objects, Seen
from pipeline.features.retrieval import project
from pipeline.language.condition import Condition
from pipeline.methods.base import Method, MethodParams, Need


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
    def learns_from(self) -> frozenset[Need]:
        return frozenset({"pairs", "tags"} if self.train.objects else {"pairs"})

    @property
    def looks_at(self) -> frozenset[Need]:
        needs: set[Need] = {"images"}
        needs |= {"tags"} if self.train.objects else set()
        needs |= {"text"} if self.train.project else set()
        return frozenset(needs)

    @property
    def prefix_length(self) -> int:
        return 2 if self.train.objects else 1

    @property
    def tags(self) -> tuple[str, int] | None:
        return (self.train.detector, self.train.limit) if self.train.objects else None

    @property
    def refinement(self) -> tuple[bool, bool]:
        return self.train.optimize, self.train.project

    def mapper(self, clip_width: int, lm_width: int, shape: str) -> nn.Module:
        """The shared mapper, behind the attention over objects."""
        if not self.train.objects:
            return super().mapper(clip_width, lm_width, shape)
        return nn.Sequential(ObjectAttention(clip_width, self.train.heads), super().mapper(clip_width, lm_width, shape))

    def training_condition(self, corpus: Corpus, rows: Tensor, generator: torch.Generator) -> Condition:
        """The refined pseudo-feature of each caption's synthetic picture, then its objects: (B, 1 + O, D). Paper: Eq. 2-4, 6."""
        if corpus.pairs is None:
            raise UserError(f"SynTIC is trained on synthetic pairs, and {corpus.name} has none: add it to synthesis.corpora")
        pair_B = corpus.pairs.picture_of[rows]
        pictures = corpus.pairs.pictures[pair_B]
        return self._condition(pictures.features.float(), pictures.objects)

    def inference_condition(self, seen: Seen, support: Corpus) -> Condition:
        """The real picture's feature, projected onto the support set, then its objects: (B, 1 + O, D)."""
        features_BD = seen.features
        if self.train.project:
            temperature = self.caption_params.temperature.get(support.name)
            if temperature is None:
                raise UserError(f"params.yaml: SynTIC's caption.temperature has no value for the support {support.name}: "
                                "add one, such as 0.01")
            features_BD = normalize(project(features_BD, support.features, temperature), dim=-1)
        return self._condition(features_BD, seen.objects)

    def _condition(self, features_BD: Tensor, objects: Objects | None) -> Condition:
        if not self.train.objects:
            return Condition.full(features_BD[:, None])
        if objects is None:
            raise UserError("SynTIC's objects are switched on, and nothing was detected in advance: run `dvc repro`")
        there_BO = objects.ids >= 0
        tags_BOD = objects.labels[objects.ids.clamp(min=0)].float() * there_BO[..., None]
        return Condition(torch.cat([features_BD[:, None], tags_BOD], dim=1),
                         torch.cat([torch.ones_like(there_BO[:, :1]), there_BO], dim=1))
