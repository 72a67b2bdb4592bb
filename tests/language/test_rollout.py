"""A caption that lets gradients through, against a loop that computes every step anew."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.language.condition import Condition
from pipeline.language.decoders import Decoder
from tests.language.tiny import condition, row

LENGTH = 8


@pytest.fixture
def given() -> Condition:
    full = condition(5, 2, prompts=[[], [5], [4, 3], [2, 2, 2], [7]])
    return Condition(full.vectors, torch.tensor([[True, True], [False, True], [True, True], [True, False], [True, True]]), full.prompt)


def naive(decoder: Decoder, one: Condition, noise_TV: Tensor, temperature: float, hard: bool, detached: bool = False) -> Tensor:
    """(T, V) of one row: the whole prefix computed anew for every token, whatever ended before. detached: what is fed back has no
    gradient."""
    prefix, _ = decoder.mapper(Condition.full(one.vectors[:, one.mask[0]]))
    words = decoder.lm.get_input_embeddings()
    embeddings, tokens = torch.cat([prefix[0], words(one.prompt[0]), words(torch.tensor([decoder.tokenizer.start]))]), []
    for noise_V in noise_TV:
        log_probs_V = decoder.lm(inputs_embeds=embeddings[None]).logits[0, -1].log_softmax(-1)
        token_V = ((log_probs_V + noise_V) / temperature).softmax(-1)
        if hard:
            token_V = token_V + (torch.eye(len(token_V))[token_V.argmax()] - token_V).detach()
        tokens.append(token_V)
        embeddings = torch.cat([embeddings, ((token_V.detach() if detached else token_V) @ words.weight)[None]])
    return torch.stack(tokens)


def gradients(decoder: Decoder, tokens_BTV: Tensor, mask_BT: Tensor) -> list[Tensor]:
    """Of the mapper, for a reader that likes some words in some places."""
    likes = torch.randn(tokens_BTV.shape[1:], generator=torch.Generator().manual_seed(1))
    loss = ((tokens_BTV * likes).sum(-1) * mask_BT).sum()
    return list(torch.autograd.grad(loss, list(decoder.mapper.parameters())))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_a_rollout_and_its_gradients_equal_a_loop_without_batch_and_cache(make_decoder, given, temperature, hard):
    decoder = make_decoder(spread=0.4)  # larger weights make steep functions, whose gradients magnify rounding
    found = decoder.roll_out(given, LENGTH, temperature, torch.Generator().manual_seed(0), hard)
    generator = torch.Generator().manual_seed(0)
    noise_TBV = [-torch.empty(5, 12).exponential_(generator=generator).log() for _ in range(found.tokens.shape[1])]
    expected = torch.stack([naive(decoder, row(given, i), torch.stack([noise[i] for noise in noise_TBV]), temperature, hard)
                            for i in range(5)])
    torch.testing.assert_close(found.tokens, expected, atol=1e-5, rtol=0)
    for one, other in zip(gradients(decoder, *[found.tokens, found.mask]), gradients(decoder, expected, found.mask), strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_the_mask_ends_with_the_end_token_and_hard_tokens_are_one_hot(make_decoder):
    decoder = make_decoder()
    found = decoder.roll_out(condition(40), LENGTH, 1.0, torch.Generator().manual_seed(0))
    assert found.tokens.shape == (40, LENGTH, 12)
    assert torch.equal(found.tokens, torch.nn.functional.one_hot(found.tokens.argmax(-1), 12).float())
    lengths = []
    for ids, mask in zip(found.tokens.argmax(-1).tolist(), found.mask.tolist(), strict=True):
        lengths.append(ids.index(decoder.tokenizer.end) + 1 if decoder.tokenizer.end in ids else LENGTH)
        assert mask == [True] * lengths[-1] + [False] * (LENGTH - lengths[-1])
    assert len(set(lengths)) > 1


def test_a_rollout_stops_when_all_captions_have_ended(make_decoder):
    decoder = make_decoder()
    found = decoder.roll_out(condition(3), 60, 1.0, torch.Generator().manual_seed(0))
    assert found.tokens.shape[1] == found.mask.sum(1).max() < 60


def test_a_rollout_longer_than_there_is_room_for_is_named(make_decoder, user_error):
    assert "has room for 62" in user_error(make_decoder().roll_out, condition(1), 63, 1.0, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_one_pass_gives_the_same_captions_and_the_gradients_of_a_loop_whose_words_fed_back_have_none(make_decoder, given, temperature):
    decoder = make_decoder(spread=0.4)
    cached, found = (decoder.roll_out(given, LENGTH, temperature, torch.Generator().manual_seed(0), one_pass=one_pass)
                     for one_pass in (False, True))
    assert torch.equal(found.mask, cached.mask)
    assert torch.equal(found.tokens.argmax(-1), cached.tokens.argmax(-1))
    torch.testing.assert_close(found.tokens, cached.tokens, atol=1e-5, rtol=0)
    generator = torch.Generator().manual_seed(0)
    noise_TBV = [-torch.empty(5, 12).exponential_(generator=generator).log() for _ in range(found.tokens.shape[1])]
    expected = torch.stack([naive(decoder, row(given, i), torch.stack([noise[i] for noise in noise_TBV]), temperature, True, detached=True)
                            for i in range(5)])
    for one, other in zip(gradients(decoder, found.tokens, found.mask), gradients(decoder, expected, found.mask), strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_one_pass_ends_where_all_captions_have_ended(make_decoder):
    decoder = make_decoder()
    decoder.lm.get_output_embeddings().weight.data[decoder.tokenizer.end] *= 0
    for length in (1, LENGTH):
        cached, found = (decoder.roll_out(condition(3), length, 0.5, torch.Generator().manual_seed(3), one_pass=one_pass)
                         for one_pass in (False, True))
        assert found.tokens.shape == cached.tokens.shape
        assert torch.equal(found.tokens.argmax(-1), cached.tokens.argmax(-1))
