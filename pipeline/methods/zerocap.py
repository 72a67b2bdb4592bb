"""ZeroCap: what a language model remembers of its text is moved, token by token, until CLIP likes what comes next (Tewel et al., CVPR 2022,
arXiv:2111.14447).

Nothing is trained: before each token, a few steps of gradient change the keys and values of the tokens before the last one, so that the
next token's distribution comes near to CLIP's choice among the likeliest ones and stays near to its own. Beam search writes, and CLIP
chooses among the beams. Main differences from the public code (YoadTew/zero-shot-image-to-text):
- Language model: GPT-2 medium. Here the decoder's, frozen, or adapted to the corpus as MAGIC's: the ZeroCap of MAGIC's tables is that.
- Beam search is that of every method, with `captioning.beams` (5 there).
- It makes the end token likelier by a factor on its logit, and tokens of a list of its own less likely; here neither is done.
- It chooses among beams by features of unlike length; here by the cosine, as everywhere else in it.
- It fuses distributions with one norm for all beams; here each beam has its own.
It reads up to 5 x 512 texts a token and beam, so it is for few pictures.
Legend: B pictures, R texts under way, S tokens with start and prompt, K candidates, V vocabulary, D CLIP width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from transformers import DynamicCache

from ..core.params import Count, Share, Temperature, Whole
from ..language.decoding import Rescore
from ..needs.base import Inputs
from ..needs.images import Images
from ..needs.text_tower import TextTower
from .base import Candidate, MethodParams
from .guidance import Reader, continuations
from .magic import Magic

if TYPE_CHECKING:
    from ..features.encoders import Clip
    from ..language.decoders import Decoder
    from ..language.decoding import Decoding

_AT_ONCE = 16  # pictures: each has thousands of texts read at every token


@dataclass(frozen=True)
class ZeroCapCaptionParams(MethodParams):
    """prompt: what captions begin with. tokens: most that are written behind it (15), in place of `captioning.max_new_tokens`.

    k: likeliest tokens that CLIP is asked about (512). iterations: steps of gradient before each token (5); 0 leaves CLIP the choice among
    beams alone. step_size, norm_power: a step is so many times a tensor's gradient divided by its norm to this power (0.3, 0.9).
    temperature: of CLIP's choice (0.01). fluency: weight of the divergence from the language model's own distribution (0.2).
    fusion: power of the moved distribution beside that of the own one, which makes up 1 (0.99). All as in the released code.
    """

    prompt: Annotated[str, Field(pattern=r"\w")] = "Image of a"
    tokens: Annotated[int, Field(ge=1, le=10_000)] = 15
    k: Count = 512
    iterations: Whole = 5
    step_size: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 0.3
    norm_power: Share = 0.9
    temperature: Temperature = 0.01
    fluency: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.2
    fusion: Share = 0.99


class ZeroCap(Magic):
    paper = "ZeroCap: Zero-Shot Image-to-Text Generation for Visual-Semantic Arithmetic (Tewel et al., CVPR 2022)"
    supervision = "text"
    CaptionParams = ZeroCapCaptionParams

    def caption(self, seen: Inputs, support: Inputs, decoder: Decoder | None, decoding: Decoding) -> list[str]:
        return [each[0].text for each in self.candidates(seen, support, decoder, decoding)]

    def candidates(self, seen: Inputs, support: Inputs, decoder: Decoder | None, decoding: Decoding) -> list[list[Candidate]]:
        """The beams of each picture by their cosine with it, which is taken without the prompt."""
        assert decoder is not None
        parts = [seen[start : start + _AT_ONCE] for start in range(0, len(seen.of(Images)), _AT_ONCE)]
        return [ranked for part in parts for ranked in self._candidates(part, support, decoder, decoding)]

    def _candidates(self, seen: Inputs, support: Inputs, decoder: Decoder, decoding: Decoding) -> list[list[Candidate]]:
        clip, images_BD, prompt = seen.of(TextTower).clip, seen.of(Images).float(), self.caption_params.prompt
        assert clip is not None
        condition = replace(self.inference_condition(seen, support), begun=decoder.begin([prompt] * len(images_BD)))
        beams = decoder.candidates(condition, replace(decoding, max_new_tokens=self.caption_params.tokens), decoding.beams,
                                   rescore=self.rescore(seen, decoder))
        reader, ranked = Reader(clip), []
        for image_D, texts in zip(images_BD, map(dict.fromkeys, beams), strict=True):
            cosines = reader.cosines(image_D[None], [list(texts)])[0].tolist()
            found = [Candidate(f"{prompt} {text}", cosine) for text, cosine in zip(texts, cosines, strict=True)]
            ranked.append(sorted(found, key=lambda each: -float(each.score or 0)))
        return ranked

    def rescore(self, seen: Inputs, decoder: Decoder) -> Rescore:
        """The log-probabilities after the gradient's steps, for these pictures."""
        clip, images_BD, wanted = seen.of(TextTower).clip, seen.of(Images).float(), self.caption_params
        assert clip is not None
        prompt = decoder.tokenizer.encode(wanted.prompt)

        def rescore(tokens_RT: Tensor, log_probs_RV: Tensor, images_R: Tensor) -> Tensor:
            text_RT = torch.cat([torch.tensor([prompt] * len(tokens_RT), device=tokens_RT.device), tokens_RT], dim=1)
            moved_RV = self._moved(clip, decoder, images_BD[images_R], text_RT, log_probs_RV)
            return (wanted.fusion * moved_RV + (1 - wanted.fusion) * log_probs_RV).log_softmax(-1)

        return rescore

    @torch.enable_grad()
    def _moved(self, clip: Clip, decoder: Decoder, images_RD: Tensor, text_RT: Tensor, own_RV: Tensor) -> Tensor:
        """(R, V) log-probabilities with keys and values moved; own_RV: without."""
        wanted, reader = self.caption_params, Reader(clip)
        ids_RS = torch.nn.functional.pad(text_RT, (1, 0), value=decoder.tokenizer.start)
        with torch.no_grad():
            past = [values for layer in decoder.lm(input_ids=ids_RS[:, :-1], use_cache=True).past_key_values.layers
                    for values in (layer.keys, layer.values)]
        shifts = [torch.zeros_like(values, requires_grad=True) for values in past]

        def log_probs() -> Tensor:
            return next_log_probs(decoder.lm, ids_RS[:, -1:], [values + shift for values, shift in zip(past, shifts, strict=True)])

        for _ in range(wanted.iterations):
            moved_RV = log_probs()
            candidates_RK = moved_RV.topk(min(wanted.k, moved_RV.shape[1])).indices
            texts = continuations(decoder.tokenizer, text_RT, candidates_RK)
            target_RK = (reader.cosines(images_RD, texts) / wanted.temperature).softmax(-1)
            clip_loss = -(target_RK * moved_RV.gather(1, candidates_RK)).sum()
            fluency_loss = (moved_RV.exp() * (moved_RV - own_RV)).sum()  # rows are independent: each has the gradient of its own loss
            gradients = torch.autograd.grad(clip_loss + wanted.fluency * fluency_loss, shifts)
            shifts = [(shift - wanted.step_size * scaled(gradient, wanted.norm_power)).detach().requires_grad_()
                      for shift, gradient in zip(shifts, gradients, strict=True)]
        return log_probs().detach()


def next_log_probs(lm: Any, last_R1: Tensor, past: list[Tensor]) -> Tensor:
    """(R, V) of what comes after the last token. past: keys and values of those before it, layer by layer."""
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(past[::2], past[1::2], strict=True)):
        cache.update(keys, values, layer)
    log_probs_RV: Tensor = lm(input_ids=last_R1, past_key_values=cache).logits[:, -1].float().log_softmax(-1)
    return log_probs_RV


def scaled(gradient: Tensor, power: float) -> Tensor:
    """Each row's gradient divided by its norm to a power."""
    norms_R = gradient.flatten(1).norm(dim=1) + 1e-15
    return gradient / norms_R.view(-1, *[1] * (gradient.ndim - 1)) ** power
