"""Self-supervised captioning with CLIP (Jin, 2023): a few captioned images, then images alone.

First ClipCap's mapper learns by cross-entropy from a few captioned pictures; then, of pictures without captions, the system writes captions
whose tokens are drawn by straight-through Gumbel-Softmax, and learns to bring them near to the picture in the frozen CLIP's own space.
The paper gives no temperature, length, learning rate nor bridge from its language model's vocabulary to CLIP's: those are ours, and so is
the anchor, cross-entropy on the captioned pictures that goes on in the second phase, since a loss by CLIP alone rewards what CLIP likes.
Legend: B batch, T tokens, V the decoder's vocabulary, W width of CLIP's text tower, D CLIP width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..core.errors import UserError
from ..core.params import Count, Rate, Spread, Temperature, Whole
from ..features.encoders import Clip, text_features_of, text_tower
from ..features.soft_text import embed_tokens
from ..language.condition import Condition
from ..language.decoders import Decoder
from ..language.decoding import Decoding
from ..language.tokens import CaptionTokenizer
from ..needs.base import Need
from ..needs.images import Images
from ..needs.pairs import Pairs
from ..needs.text_tower import TextTower
from ..optimisation import Score
from .clipcap import ClipCap, ClipCapParams
from .phases import Phase, Trainer

_HELDOUT_SHARE = 5  # one in five of the captioned pictures chooses the first phase's weights
_APART = 777_767_777  # seeds of the phases, which count their steps alike
_SCORED = 500  # pictures without captions that choose the second's


@dataclass(frozen=True)
class SelfSupervisedParams(ClipCapParams):
    """labelled: pictures with captions, every fifth of which chooses weights (paper: 10,000; from 100 on it works, Figure 4); 0 leaves the
    first phase out.
    self_steps: batches of pictures without captions (paper: about 10 epochs); 0 leaves the second phase out. self_learning_rate: its own.
    temperatures: of Gumbel-Softmax, a stretch of the second phase for each. length: most tokens of a caption in it. hard: straight-through.
    one_pass: captions are drawn without gradients and read again in one pass, which leaves out the gradients through what is fed back;
    hard ones only.
    anchor: weight of cross-entropy on the captioned pictures in the second phase.
    """

    labelled: Whole = 1000
    self_steps: Whole = 300
    self_learning_rate: Rate = 1e-4
    temperatures: tuple[Temperature, ...] = (1.0,)
    length: Count = 20
    hard: bool = True
    one_pass: bool = True
    anchor: Spread = 0.1


class SelfSupervised(ClipCap):
    paper = "Self-Supervised Image Captioning with CLIP (Jin, 2023)"
    supervision = "few-pairs"  # type: ignore[assignment]  # not paired, as its base is
    TrainParams = SelfSupervisedParams

    @property
    def learns_from(self) -> tuple[Need[Any], ...]:
        return Pairs((Images(),)), TextTower()

    def phases(self, trainer: Trainer) -> list[Phase]:
        """Cross-entropy on captions of the labelled pictures, then similarity of pictures and captions drawn of them. Raises `UserError`
        where neither is asked for, or captions are longer than CLIP reads."""
        if self.train.one_pass and not self.train.hard:
            raise UserError("params.yaml: one_pass reads tokens, and hard is false, so that there are none: change one of them")
        few = few_labelled(trainer, self.train.labelled) if self.train.labelled else None
        phases = [few.cross_entropy()] if few else []
        if self.train.self_steps:
            stretches = self.train.temperatures
            for number, temperature in enumerate(stretches, 1):
                steps = self.train.self_steps * number // len(stretches) - self.train.self_steps * (number - 1) // len(stretches)
                if steps:
                    phases.append(self._self_supervision(trainer, few, temperature, number, steps))
        if not phases:
            raise UserError("params.yaml: labelled and self_steps are both 0, so that there is nothing to learn: raise one")
        return phases

    def _self_supervision(self, trainer: Trainer, few: Trainer | None, temperature: float, number: int, steps: int) -> Phase:
        clip = trainer.corpus.of(TextTower).clip
        assert clip is not None  # what was put on a device has its CLIP
        context = clip.tokens([""]).shape[1]
        if self.train.length > context - 2:
            raise UserError(f"params.yaml: length is {self.train.length}, but {clip.folder} reads {context - 2} tokens: lower it")
        decoder = trainer.decoder
        bridge_VW = bridge(clip, decoder.tokenizer, decoder.lm.get_input_embeddings().num_embeddings)
        anchor = few.cross_entropy().loss if few and self.train.anchor else None

        def loss(rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
            generator = torch.Generator().manual_seed(generator.initial_seed() + number * _APART)
            images_BD = self._images(trainer, rows)
            similarity_B = self.similarity(decoder, clip, bridge_VW, images_BD, temperature, generator)
            found = -similarity_B.mean()
            if anchor and few:
                drawn = torch.randint(len(few.train_rows), (len(rows),), generator=generator)
                found = found + self.train.anchor * anchor(few.train_rows[drawn.numpy()], generator)
            return found

        heldout = one_a_picture(trainer, trainer.heldout_rows)[:_SCORED]

        def similarity() -> float:
            """Of pictures that no phase learns from and captions as they are written, without chance."""
            images_ND = self._images(trainer, heldout)
            decoding = Decoding(beams=1, max_new_tokens=self.train.length)
            texts = [text for part in images_ND.split(decoding.batch)
                     for text in trainer.decoder.generate(_condition(part), decoding)]
            return float(cosine_similarity(images_ND.cpu(), torch.from_numpy(clip.encode_texts(texts))).mean())

        rows = one_a_picture(trainer, np.setdiff1d(trainer.train_rows, [*few.train_rows, *few.heldout_rows] if few else []))
        rows = np.random.default_rng([trainer.seed, number]).permutation(rows)  # another order for each stretch
        score = Score("similarity", similarity, higher_is_better=True)
        return Phase(f"self-supervision {number}", rows, np.zeros(len(trainer.captions), np.int64), loss, score, steps,
                     self.train.self_learning_rate)

    def similarity(self, decoder: Decoder, clip: Clip, bridge_VW: Tensor, images_BD: Tensor, temperature: float,
                   generator: torch.Generator) -> Tensor:
        """(B,) cosines of images and captions drawn of them, with gradients to the decoder. Paper: section 2.2, L_unsupv = -cos(v, c)."""
        drawn = decoder.roll_out(_condition(images_BD), self.train.length, temperature, generator, self.train.hard, self.train.one_pass)
        return cosine_similarity(images_BD, caption_features(clip, bridge_VW, drawn.tokens, drawn.mask, decoder.tokenizer.end))

    def _images(self, trainer: Trainer, rows: NDArray[np.int64]) -> Tensor:
        device = next(trainer.decoder.parameters()).device
        images: Tensor = trainer.corpus.of(Pairs)[torch.from_numpy(rows).to(device)].of(Images).float()
        return images


def caption_features(clip: Clip, bridge_VW: Tensor, tokens_BTV: Tensor, mask_BT: Tensor, end: int) -> Tensor:
    """(B, D) text features, not normalised, of drawn captions, with gradients to their tokens: CLIP's start token, theirs, and an end token
    behind those that have none. bridge_VW: CLIP's embedding of each token. end: the decoder's end token."""
    model, count = clip.model, len(tokens_BTV)
    first, last = clip.tokens([""])[0, :2].to(tokens_BTV.device)  # of an empty text: start and end
    start_BW, end_BW = (embed_tokens(model, id.expand(count, 1)) for id in (first, last))
    embeddings_BTW = torch.cat([start_BW, tokens_BTV @ bridge_VW, end_BW], dim=1)
    length_B = mask_BT.sum(1)
    ended_B = tokens_BTV.detach()[torch.arange(count), length_B - 1].argmax(-1) == end
    return text_features_of(model, embeddings_BTW, torch.where(ended_B, length_B, length_B + 1))


def bridge(clip: Clip, tokenizer: CaptionTokenizer, vocabulary: int) -> Tensor:
    """(V, W) what CLIP reads for each of the decoder's tokens: its own embedding where both have one vocabulary, else, as an approximation
    of ours, the mean of those of the tokens that CLIP writes the same text with. vocabulary: V, with what models have beyond their
    tokenizers, of which CLIP reads nothing."""
    known_VW = _known(clip, tokenizer)
    more = vocabulary - len(known_VW)
    return torch.nn.functional.pad(known_VW, (0, 0, 0, more)) if more else known_VW


def _known(clip: Clip, tokenizer: CaptionTokenizer) -> Tensor:
    """Of the tokens that the decoder's tokenizer knows."""
    embeddings_VW: Tensor = text_tower(clip.model).token_embedding.weight
    _, clip_end = clip.tokens([""])[0, :2].tolist()
    texts = [tokenizer.decode([id]) for id in range(tokenizer.size)]
    ids = [list(clip.tokenizer.encode(text)) for text in texts]
    if tokenizer.size == len(embeddings_VW) and tokenizer.end == clip_end and all(
            id in (tokenizer.start, tokenizer.end) or (texts[id] == " ".join(clip.tokenizer.decode([id]).split())
                                                      and tokenizer.encode(texts[id]) == ids[id]) for id in range(tokenizer.size)):
        return embeddings_VW
    ids[tokenizer.end] = [clip_end]
    none_W = torch.zeros_like(embeddings_VW[0])
    return torch.stack([embeddings_VW[its].mean(0) if its else none_W for its in ids])


def _condition(images_BD: Tensor) -> Condition:
    return Condition.full(images_BD[:, None])


def few_labelled(trainer: Trainer, count: int) -> Trainer:
    """The same trainer with the captions of so many pictures, the first and every fifth after it held out; chosen by the seed, fewer being
    part of more.

    Raises `UserError` where there are fewer, or too few to hold one out.
    """
    pictures_N = trainer.corpus.of(Pairs).picture_of.cpu().numpy()
    pictures = np.unique(pictures_N[trainer.train_rows])
    if not 1 < count <= len(pictures):
        raise UserError(f"params.yaml: labelled is {count}, of {len(pictures)} pictures with captions, and two at least are needed: "
                        "correct it")
    chosen = np.random.default_rng([trainer.seed, 0]).permutation(pictures)[:count]
    held = np.isin(pictures_N[trainer.train_rows], chosen[::_HELDOUT_SHARE])
    return replace(trainer, train_rows=trainer.train_rows[np.isin(pictures_N[trainer.train_rows], chosen) & ~held],
                   heldout_rows=trainer.train_rows[held])


def one_a_picture(trainer: Trainer, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of the rows of each picture: its caption is not looked at."""
    pictures = trainer.corpus.of(Pairs).picture_of.cpu().numpy()[rows]
    return rows[np.sort(np.unique(pictures, return_index=True)[1])]
