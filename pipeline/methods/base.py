"""The protocol that every method follows: what it reads, what it hands to the decoder, how it is trained and how it captions.

Legend: B batch, L condition length, P prefix length, D CLIP width, W width of the language model's embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..core.params import StrictParams
from ..language.condition import Condition, question_prompt
from ..needs.base import Inputs, Need, PictureNeed
from ..needs.images import Images
from ..needs.text import Text

if TYPE_CHECKING:
    from ..language.decoders import Decoder
    from ..language.decoding import Decoding
    from .phases import Phase, Trainer

Supervision = Literal["text", "synthetic", "few-pairs", "paired"]


@dataclass(frozen=True)
class MethodParams(StrictParams):
    """Keys that a method adds to a system's `train` (or `caption`) parameters."""


@dataclass(frozen=True)
class NoParams(MethodParams):
    """A method without parameters of its own."""


class VectorMapper(nn.Module):
    """Each condition vector (D) becomes one prefix embedding (W): `linear` (DeCap), or `mlp` with one hidden layer of 2 W, ReLU."""

    def __init__(self, clip_width: int, lm_width: int, shape: str) -> None:
        super().__init__()
        self.layers = nn.Linear(clip_width, lm_width) if shape == "linear" else nn.Sequential(
            nn.Linear(clip_width, 2 * lm_width), nn.ReLU(), nn.Linear(2 * lm_width, lm_width)
        )

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Prefix (B, L, W) and its mask (B, L)."""
        return self.layers(condition.vectors), condition.mask


class Candidate(NamedTuple):
    """A caption that may be chosen, and what it is chosen by, higher is better; None where nothing else could be."""

    text: str
    score: float | None = None


class Method:
    """How one paper bridges what it may train on and what it gets at inference.

    A method made of conditions implements `training_condition` and `inference_condition`; one without a decoder implements `caption`.
    """

    paper: ClassVar[str]
    supervision: ClassVar[Supervision]
    TrainParams: ClassVar[type[MethodParams]] = NoParams
    CaptionParams: ClassVar[type[MethodParams]] = NoParams
    trains: ClassVar[bool] = True  # whether there is anything to train
    has_decoder: ClassVar[bool] = True  # whether captions come from a language model

    def __init__(self, train: Any, caption: Any) -> None:
        self.train = train
        self.caption_params = caption

    @property
    def learns_from(self) -> tuple[Need[Any], ...]:
        """What training reads of the corpus."""
        return (Text(),)

    @property
    def looks_at(self) -> tuple[PictureNeed[Any], ...]:
        """What captioning reads of pictures."""
        return (Images(),)

    @property
    def looks_up(self) -> tuple[Need[Any], ...]:
        """What captioning reads of the support set."""
        return ()

    @property
    def prefix_length(self) -> int:
        """P: how many embeddings stand before a caption."""
        return 1

    def mapper(self, clip_width: int, lm_width: int, shape: str) -> nn.Module:
        """From a `Condition` to prefix embeddings (B, P, W) and their mask (B, P). shape: the decoder's `mapper` parameter."""
        return VectorMapper(clip_width, lm_width, shape)

    def phases(self, trainer: Trainer) -> list[Phase]:
        """How it is trained: by default one phase of cross-entropy on captions under `training_condition`."""
        return [trainer.cross_entropy()]

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        """What stands for the images of the captions at `rows` (B,). All randomness comes from `generator`."""
        raise NotImplementedError(f"{type(self).__name__} is not trained")

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        """What the decoder gets for pictures."""
        raise NotImplementedError(f"{type(self).__name__} captions without a decoder")

    def caption(self, seen: Inputs, support: Inputs, decoder: Decoder | None, decoding: Decoding) -> list[str]:
        """One caption per picture."""
        assert decoder is not None
        return decoder.generate(self.inference_condition(seen, support), decoding)

    def answer(self, seen: Inputs, support: Inputs, questions: Sequence[str], decoder: Decoder, decoding: Decoding,
               blind: bool = False) -> list[str]:
        """One answer to each picture's question: what the language model writes behind its prefix and "Question: ... Short answer:".

        By a system that was trained to caption alone (MacCap's zero-shot pipeline). blind: without the picture's prefix.
        """
        begun = decoder.begin([question_prompt(question) for question in questions])
        condition = replace(self.inference_condition(seen, support), begun=begun)
        return decoder.generate(condition.without_vectors() if blind else condition, decoding)

    def candidates(self, seen: Inputs, support: Inputs, decoder: Decoder | None, decoding: Decoding) -> list[list[Candidate]]:
        """What each caption is chosen from, it first: by default there is no choice."""
        return [[Candidate(text)] for text in self.caption(seen, support, decoder, decoding)]
