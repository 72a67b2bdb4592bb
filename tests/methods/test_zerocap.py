"""ZeroCap against a naive twin, whose gradients are differences, and what its captions follow from."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.core.params import check
from pipeline.features.encoders import Clip
from pipeline.features.stores import unit
from pipeline.language.decoders import Decoder
from pipeline.language.decoding import Decoding
from pipeline.methods import zerocap
from pipeline.methods.zerocap import ZeroCap, ZeroCapCaptionParams
from pipeline.needs.base import Inputs
from pipeline.needs.images import Images
from pipeline.needs.text_tower import TextTower, Tower
from tests.artefacts import CLIP

PARAMS = {"prompt": "w3 w4", "tokens": 4, "k": 6, "iterations": 2}
DECODING = Decoding(beams=2, max_new_tokens=40)


def make(**caption: Any) -> ZeroCap:
    return ZeroCap(ZeroCap.TrainParams(), check(ZeroCapCaptionParams, PARAMS | caption, "zerocap.caption"))


@pytest.fixture
def seen(unit_rows, tiny_clip: Clip) -> Inputs:
    """Random pictures, of which an untrained CLIP thinks differently."""
    return Inputs({Images: torch.from_numpy(unit_rows(4, 8, 3)), TextTower: Tower(CLIP, tiny_clip.digest, tiny_clip)})


@pytest.fixture
def decoder(make_decoder) -> Decoder:
    return make_decoder().requires_grad_(False)


@torch.no_grad()
def naive(method: ZeroCap, image_D: np.ndarray, clip: Clip, decoder: Decoder, written: list[int]) -> Tensor:
    """(V,) of one text: in double precision, and each gradient a difference of two losses."""
    wanted, tokenizer, lm = method.caption_params, decoder.tokenizer, copy.deepcopy(decoder.lm).double()
    text = [*tokenizer.encode(wanted.prompt), *written]
    own_V = lm(input_ids=torch.tensor([[tokenizer.start, *text]])).logits[0, -1].log_softmax(-1)
    layer, = lm(input_ids=torch.tensor([[tokenizer.start, *text[:-1]]]), use_cache=True).past_key_values.layers
    past = [layer.keys, layer.values]

    def after(past: list[Tensor]) -> Tensor:
        cache = DynamicCache()
        cache.update(*past, 0)
        return lm(input_ids=torch.tensor([text[-1:]]), past_key_values=cache).logits[0, -1].log_softmax(-1)

    for _ in range(wanted.iterations):
        best = sorted(range(len(own_V)), key=lambda token: -after(past)[token])[: wanted.k]
        said = [tokenizer.decode([token for token in [*text, last] if token != tokenizer.end]) for last in best]
        likes = torch.tensor([float(unit(clip.encode_texts([each]))[0] @ image_D) for each in said]).double()
        target = (likes / wanted.temperature).softmax(-1)

        def loss(past: list[Tensor], best: list[int] = best, target: Tensor = target) -> float:
            moved_V = after(past)
            divergence = sum(float(p.exp() * (p - q)) for p, q in zip(moved_V, own_V, strict=True))
            return wanted.fluency * divergence - sum(float(t * moved_V[token]) for t, token in zip(target, best, strict=True))

        gradients = [torch.zeros_like(values) for values in past]
        for number, values in enumerate(past):
            for place in np.ndindex(values.shape):
                ends = []
                for step in (1e-5, -1e-5):
                    other = [each.clone() for each in past]
                    other[number][place] += step
                    ends.append(loss(other))
                gradients[number][place] = (ends[0] - ends[1]) / 2e-5
        past = [values - wanted.step_size * gradient / gradient.norm() ** wanted.norm_power
                for values, gradient in zip(past, gradients, strict=True)]
    return (wanted.fusion * after(past) + (1 - wanted.fusion) * own_V).log_softmax(-1)


@pytest.mark.parametrize("changes", [{}, {"fluency": 5.0, "norm_power": 0.5}, {"fusion": 0.6, "temperature": 0.1}, {"k": 100}])
def test_the_next_token_follows_from_keys_and_values_moved_by_the_gradient(seen, decoder, tiny_clip, changes):
    method = make(**changes)
    tokens_RT, images_R = torch.tensor([[5, 6], [7, 3], [5, 6]]), torch.tensor([0, 2, 3])
    given = [[0, 3, 4, *tokens] for tokens in tokens_RT.tolist()]
    own_RV = decoder.lm(input_ids=torch.tensor(given)).logits[:, -1].log_softmax(-1)
    found = method.rescore(seen, decoder)(tokens_RT, own_RV, images_R)
    for row, (tokens, image) in enumerate(zip(tokens_RT.tolist(), images_R.tolist(), strict=True)):
        expected = naive(method, seen.of(Images)[image].numpy(), tiny_clip, decoder, tokens)
        torch.testing.assert_close(found[row].double(), expected, atol=1e-3, rtol=0)  # single against double precision, two steps
    assert (found - own_RV).abs().max() > 0.05
    assert (found[0] - found[2]).abs().max() > 0.01  # the same text, another picture


def test_the_first_token_behind_the_prompt_is_moved_too(seen, decoder, tiny_clip):
    none_RT, own_RV = torch.empty(1, 0, dtype=torch.long), decoder.lm(input_ids=torch.tensor([[0, 3, 4]])).logits[:, -1].log_softmax(-1)
    found = make().rescore(seen, decoder)(none_RT, own_RV, torch.tensor([1]))
    torch.testing.assert_close(found[0].double(), naive(make(), seen.of(Images)[1].numpy(), tiny_clip, decoder, []), atol=1e-3, rtol=0)


def test_without_iterations_beams_are_the_language_models_own_and_clip_chooses_among_them(seen, decoder, tiny_clip):
    method = make(iterations=0)
    found = method.candidates(seen, Inputs({}), decoder, DECODING)
    condition = method.inference_condition(seen, Inputs({}))
    begun = type(condition)(condition.vectors, condition.mask, begun=decoder.begin([PARAMS["prompt"]] * 4))
    beams = decoder.candidates(begun, Decoding(beams=2, max_new_tokens=PARAMS["tokens"]), 2)
    for image_D, its, texts in zip(seen.of(Images).numpy(), found, beams, strict=True):
        cosines = {f"w3 w4 {text}": float(unit(tiny_clip.encode_texts([text]))[0] @ image_D) for text in texts}
        assert [each.text for each in its] == sorted(cosines, key=lambda text: -cosines[text])
        np.testing.assert_allclose([each.score for each in its], sorted(cosines.values(), reverse=True), atol=1e-5)


def test_pictures_together_get_the_captions_that_each_gets_alone(seen, decoder, monkeypatch):
    together = make().caption(seen, Inputs({}), decoder, DECODING)
    assert together == [make().caption(seen[[row]], Inputs({}), decoder, DECODING)[0] for row in range(4)]
    monkeypatch.setattr(zerocap, "_AT_ONCE", 3)
    assert together == make().caption(seen, Inputs({}), decoder, DECODING)
    assert all(text.startswith("w3 w4 ") for text in together)
    assert len(set(together)) > 1


def test_a_text_is_read_once_a_token_however_often_the_gradient_asks(seen, decoder, tiny_clip, monkeypatch):
    asked: list[str] = []
    real = tiny_clip.encode_texts
    monkeypatch.setattr(tiny_clip, "encode_texts", lambda texts: asked.extend(texts) or real(texts))
    tokens_RT = torch.tensor([[5, 6]])
    make(k=12, iterations=5).rescore(seen, decoder)(tokens_RT, torch.full((1, 12), 1 / 12).log(), torch.tensor([0]))
    assert len(asked) == 12


@pytest.mark.parametrize("wrong", [{"prompt": " "}, {"k": 0}, {"step_size": 0.0}, {"fusion": 1.5}, {"iterations": -1}])
def test_wrong_parameters_are_named(user_error, wrong):
    assert next(iter(wrong)) in user_error(make, **wrong)
