"""What methods ask of decoding: a prompt, several candidates, scores of their own; against naive twins without batch and cache."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from pipeline.language.condition import Condition
from pipeline.language.decoders import Decoder, pad
from pipeline.language.decoding import Decoding, Rescore, draw, unchanged
from tests.language.tiny import SUM_ORDER, condition, naive_beams, naive_greedy, naive_log_probabilities, naive_scores, row

PROMPTS = [[], [5], [4, 3, 9], [2, 2], [7, 8, 9, 10], [11]]
ROWS = [[0, 5, 6, 7, 1], [0, 2, 1], [0, 9, 9, 3, 4, 8, 2, 1]] * 2


@pytest.fixture
def prompted() -> Condition:
    """Prompts of unlike lengths behind prefixes that are partly masked."""
    full = condition(6, 3, prompts=PROMPTS)
    return Condition(full.vectors, torch.tensor([[True, True, True], [False, True, True], [True, False, True]]).repeat(2, 1), full.prompt)


def test_prompts_of_unlike_length_predict_in_a_batch_what_each_predicts_alone(make_decoder, prompted):
    decoder, ids = make_decoder(), torch.tensor([[0, 5, 6, 7]] * 6)
    found = decoder.logits(prompted, ids).log_softmax(-1).double()
    for i in range(6):
        expected = torch.stack([naive_log_probabilities(decoder, row(prompted, i), [5, 6, 7][:end]) for end in range(4)])
        torch.testing.assert_close(found[i], expected, atol=SUM_ORDER, rtol=0)


def test_the_loss_counts_no_prompt_and_is_that_of_each_row_alone(make_decoder, prompted):
    decoder = make_decoder()
    alone = [(decoder.loss(row(prompted, i), pad([ids])).item(), len(ids) - 1) for i, ids in enumerate(ROWS)]
    mean = sum(loss * tokens for loss, tokens in alone) / sum(tokens for _, tokens in alone)
    assert decoder.loss(prompted, pad(ROWS)).item() == pytest.approx(mean, abs=SUM_ORDER)
    assert decoder.loss(Condition(prompted.vectors, prompted.mask), pad(ROWS)).item() != pytest.approx(mean, abs=1e-3)


def test_captions_behind_prompts_of_unlike_length_equal_a_search_without_batch_and_cache(make_decoder, prompted):
    decoder, decoding = make_decoder(), Decoding(beams=3, max_new_tokens=6)
    assert decoder.generate(prompted, decoding) == [naive_beams(decoder, row(prompted, i), decoding)[0] for i in range(6)]
    greedy = Decoding(beams=1, max_new_tokens=6)
    assert decoder.generate(prompted, greedy) == [naive_greedy(decoder, row(prompted, i), 6) for i in range(6)]
    assert decoder.generate(prompted, greedy) != decoder.generate(Condition(prompted.vectors, prompted.mask), greedy)


def test_a_prompt_takes_room(make_decoder, user_error):
    decoder, decoding = make_decoder(), Decoding(beams=1, max_new_tokens=59)  # of 64: prefix, prompt, start token
    assert decoder.generate(condition(1, 1, prompts=[[5, 6, 7]]), decoding)
    assert "has room for 58 behind" in user_error(decoder.generate, condition(1, 1, prompts=[[5, 6, 7, 8]]), decoding)


@pytest.mark.parametrize("vectors", [3, 0], ids=["prefix", "no prefix"])
def test_a_text_goes_on_from_what_it_began_with_as_each_row_would_alone(make_decoder, vectors):
    """Beginnings of unlike length, filled up in front; the naive twin writes them and what follows without batch and cache."""
    decoder, begun = make_decoder(), [[0, *prompt] for prompt in PROMPTS]
    whole = condition(6, 3)
    whole = replace(whole if vectors else whole.without_vectors(), begun=pad(begun, in_front=True))
    found = decoder.generate(whole, Decoding(beams=1, max_new_tokens=6))
    words = decoder.lm.get_input_embeddings()
    for i, its in enumerate(begun):
        ids: list[int] = []
        while len(ids) < 6 and decoder.tokenizer.end not in ids:
            text = words(torch.tensor([*its, *ids]))
            prefix = decoder.mapper(condition(6, 3))[0][i][:vectors]
            ids.append(int(decoder.lm(inputs_embeds=torch.cat([prefix, text])[None]).logits[0, -1].argmax()))
        assert found[i] == decoder.tokenizer.decode([token for token in ids if token != decoder.tokenizer.end])
    assert found != decoder.generate(condition(6, 3), Decoding(beams=1, max_new_tokens=6))
    beams = Decoding(beams=3, max_new_tokens=6)
    alone = [decoder.generate(Condition(whole.vectors[[i]], whole.mask[[i]], begun=torch.tensor([its])), beams)[0]
             for i, its in enumerate(begun)]
    assert decoder.generate(whole, beams) == alone


@pytest.mark.parametrize("penalty", [1.0, -1.0])
def test_candidates_are_the_best_beams_of_a_search_without_batch_and_cache(make_decoder, prompted, penalty):
    decoder, decoding = make_decoder(), Decoding(beams=4, max_new_tokens=6, length_penalty=penalty)
    found = decoder.candidates(prompted, decoding, 3)
    assert found == [naive_beams(decoder, row(prompted, i), decoding)[:3] for i in range(6)]
    assert [first for first, *_ in found] == decoder.generate(prompted, decoding)


def test_more_candidates_than_beams_are_named_and_samples_are_not_so_bound(make_decoder, user_error):
    decoder, decoding = make_decoder(), Decoding(beams=2, max_new_tokens=4)
    assert "captioning.beams is 2, fewer than the 3 captions to choose from" in user_error(decoder.candidates, condition(2), decoding, 3)
    assert [len(row) for row in decoder.candidates(condition(2), decoding, 3, [1, 2])] == [3, 3]


SAMPLED = Decoding(max_new_tokens=7, temperature=1.5, top_p=0.9)
SEEDS = [3, 1, 4, 15, 9, 26]


def naive_draw(scores: list[float], place: float, temperature: float, top_p: float) -> int:
    """Tokens from the likeliest on, as few as make up `top_p`; the one in whose share of their sum `place` falls."""
    probs = torch.tensor(scores, dtype=torch.double).div(temperature).softmax(-1).tolist()
    tokens = sorted(range(len(probs)), key=lambda token: -probs[token])
    sums = list(itertools.accumulate(probs[token] for token in tokens))
    kept = next((number for number, total in enumerate(sums) if total >= top_p), len(sums) - 1)
    return next(token for token, total in zip(tokens, sums, strict=True) if total > place * sums[kept])


def naive_samples(decoder: Decoder, one: Condition, number: int, seed: int, image: int = 0, rescore: Rescore = unchanged) -> list[str]:
    found = []
    for draws in torch.rand(number, SAMPLED.max_new_tokens, generator=torch.Generator().manual_seed(seed)).tolist():
        ids: list[int] = []
        for place in draws:
            ids.append(naive_draw(naive_scores(decoder, one, ids, image, rescore), place, SAMPLED.temperature, SAMPLED.top_p))
            if ids[-1] == decoder.tokenizer.end:
                break
        found.append(decoder.tokenizer.decode([i for i in ids if i != decoder.tokenizer.end]))
    return found


def test_samples_equal_those_drawn_without_batch_and_cache(make_decoder, prompted):
    decoder = make_decoder()
    found = decoder.candidates(prompted, SAMPLED, 4, SEEDS)
    assert found == [naive_samples(decoder, row(prompted, i), 4, seed) for i, seed in enumerate(SEEDS)]
    assert len({caption for row in found for caption in row}) > 12


def test_a_pictures_samples_depend_on_its_seed_and_neither_on_batch_nor_on_order(make_decoder, prompted):
    decoder = make_decoder()
    found = decoder.candidates(prompted, SAMPLED, 3, SEEDS)
    assert found == [decoder.candidates(row(prompted, i), SAMPLED, 3, [seed])[0] for i, seed in enumerate(SEEDS)]
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    shuffled = Condition(prompted.vectors[order], prompted.mask[order], prompted.prompt[order])
    assert decoder.candidates(shuffled, SAMPLED, 3, [SEEDS[i] for i in order]) == [found[i] for i in order]
    assert found != decoder.candidates(prompted, SAMPLED, 3, [seed + 1 for seed in SEEDS])


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.7, 1.0])
def test_draws_have_the_probabilities_of_the_likeliest_tokens(top_p):
    logits = torch.randn(9, generator=torch.Generator().manual_seed(0)) * 2
    draws = (torch.arange(10_000) + 0.5) / 10_000
    found = draw(logits.expand(10_000, -1), top_p, draws).bincount(minlength=9) / 10_000
    probs = logits.softmax(-1)
    kept = [token for token in range(9) if probs[probs > probs[token]].sum() < top_p]
    expected = torch.zeros(9).index_copy(0, torch.tensor(kept), probs[kept] / probs[kept].sum())
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)  # a ten-thousandth at each end of a token's share, and some
    assert draw(logits[None], top_p, torch.tensor([1 - 2**-24])).item() in kept  # the last draw there is


def test_a_low_temperature_samples_what_greedy_search_finds(make_decoder, prompted):
    decoder, decoding = make_decoder(), Decoding(beams=1, max_new_tokens=6, temperature=1e-4)
    assert [[caption] * 2 for caption in decoder.generate(prompted, decoding)] == decoder.candidates(prompted, decoding, 2, SEEDS)


def liking(tokens_RT: torch.Tensor, log_probs_RV: torch.Tensor, images_R: torch.Tensor) -> torch.Tensor:
    """Each image likes a word of its own, and no word twice."""
    liked_RV = torch.nn.functional.one_hot(images_R + 2, 12) * 4.0
    used_RV = torch.nn.functional.one_hot(tokens_RT, 12).sum(1) * 5.0
    return log_probs_RV + liked_RV - used_RV


@pytest.mark.parametrize("beams", [1, 3])
def test_a_hook_changes_every_steps_scores_as_in_a_search_without_batch_and_cache(make_decoder, prompted, beams):
    decoder, decoding = make_decoder(), Decoding(beams=beams, max_new_tokens=6)
    found = decoder.generate(prompted, decoding, liking)
    assert found == [naive_greedy(decoder, row(prompted, i), 6, i, liking) if beams == 1 else
                     naive_beams(decoder, row(prompted, i), decoding, i, liking)[0] for i in range(6)]
    assert found != decoder.generate(prompted, decoding)


def test_a_hook_changes_what_is_sampled(make_decoder, prompted):
    decoder = make_decoder()
    found = decoder.candidates(prompted, SAMPLED, 4, SEEDS, liking)
    assert found == [naive_samples(decoder, row(prompted, i), 4, seed, i, liking) for i, seed in enumerate(SEEDS)]
    assert found != decoder.candidates(prompted, SAMPLED, 4, SEEDS)


def test_a_hook_may_take_gradients(make_decoder):
    decoder, seen = make_decoder(), []

    def uphill(tokens_RT: torch.Tensor, log_probs_RV: torch.Tensor, images_R: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            scores = log_probs_RV.clone().requires_grad_()
            words_RW = scores.softmax(-1) @ decoder.lm.get_input_embeddings().weight.detach()
            gradient, = torch.autograd.grad(words_RW.square().sum(), scores)
        seen.append(gradient.abs().sum().item())
        return log_probs_RV + 100 * gradient

    decoding = Decoding(beams=2, max_new_tokens=4)
    assert decoder.generate(condition(4), decoding, uphill) != decoder.generate(condition(4), decoding)
    assert min(seen) > 0
