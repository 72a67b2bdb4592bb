"""Training: interrupted and resumed it ends in the same weights, and the best ones are kept."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline.decoders import IGNORE, pad
from pipeline.methods import find_method
from pipeline.methods.capdec import CapDecParams
from pipeline.training import Recipe, encode_captions, schedule, train

RECIPE = Recipe(steps=12, batch=4, learning_rate=0.01, warmup=3, evaluate_every=4)


class Killed(BaseException):
    """Stands for a kill in the middle of a step."""


@pytest.fixture
def noisy():
    """A method that draws noise, so that a resumed run must also find its random numbers again."""
    return find_method("capdec")(CapDecParams(0.05), None)


def kill_at(method, step: int):
    """The same method, that dies when the training condition of `step` is asked for (counted over training and evaluation)."""
    calls = iter(range(10_000))
    real = method.training_condition

    def training_condition(*args):
        if next(calls) == step:
            raise Killed
        return real(*args)

    method.training_condition = training_condition
    return method


def sentences(count: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[0, *rng.integers(2, 12, rng.integers(1, 6)).tolist(), 1] for _ in range(count)]


def run(method, decoder, corpus, scratch, recipe: Recipe = RECIPE, seed: int = 5, captions: list[list[int]] | None = None):
    scratch.mkdir(exist_ok=True)
    log = train(method, decoder, corpus, captions or sentences(40), np.arange(30), np.arange(30, 40), recipe, seed, scratch, "train")
    return log, decoder.state_dict()


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# per evaluation 4 steps and 3 held-out batches: killed in the first step, before and after a snapshot, in an evaluation, in the last step
@pytest.mark.parametrize("call", [0, 5, 7, 8, 12, 17])
def test_an_interrupted_training_ends_in_the_very_weights_of_an_uninterrupted_one(make_corpus, make_decoder, noisy, tmp_path, call):
    corpus = make_corpus()
    expected_log, expected = run(noisy, make_decoder(dropout=0.2), corpus, tmp_path / "whole")
    with pytest.raises(Killed):
        run(kill_at(find_method("capdec")(CapDecParams(0.05), None), call), make_decoder(dropout=0.2), corpus, tmp_path / "killed")
    assert (tmp_path / "killed" / "snapshot.pt").exists() == (call >= 7)
    log, weights = run(noisy, make_decoder(dropout=0.2), corpus, tmp_path / "killed")
    assert equal(weights, expected)
    assert log == expected_log
    assert [entry["step"] for entry in log] == [4, 8, 12]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make_corpus, make_decoder, noisy, tmp_path):
    one, two, other = (run(noisy, make_decoder(dropout=0.2), make_corpus(), tmp_path / name, seed=seed)[1]
                       for name, seed in (("one", 1), ("two", 1), ("other", 2)))
    assert equal(one, two)
    assert not equal(one, other)


def test_the_result_does_not_depend_on_random_numbers_drawn_before(make_corpus, make_decoder, noisy, tmp_path):
    _, expected = run(noisy, make_decoder(dropout=0.2), make_corpus(), tmp_path / "one")
    decoder = make_decoder(dropout=0.2)
    torch.rand(100)
    np.random.default_rng().random(100)
    assert equal(run(noisy, decoder, make_corpus(), tmp_path / "two")[1], expected)


def naive_heldout_loss(decoder, corpus, captions: list[list[int]], rows: range) -> float:
    """One sentence at a time, weighted alike, as DeCap's condition has no noise."""
    method = find_method("decap")(None, None)
    losses = []
    with torch.inference_mode():
        for row in rows:
            condition = method.training_condition(corpus, torch.tensor([row]), torch.Generator())
            losses.append((decoder.loss(condition, torch.tensor([captions[row]])).item(), len(captions[row]) - 1))
    return sum(loss * tokens for loss, tokens in losses) / sum(tokens for _, tokens in losses)


def test_the_weights_of_the_lowest_held_out_loss_are_kept_not_the_last(make_corpus, make_decoder, tmp_path):
    corpus = make_corpus()
    # held-out sentences say what the training sentences never say: the more is learnt, the worse they are read
    captions = [[0, 5, 5, 5, 1]] * 30 + [[0, 9, 8, 9, 1]] * 10
    decoder = make_decoder(spread=0.02)
    log, _ = run(find_method("decap")(None, None), decoder, corpus, tmp_path, captions=captions)
    losses = [entry["heldout_loss"] for entry in log]
    assert min(losses) == losses[0] < losses[-1] - 0.1
    decoder.eval()
    # rounded to 4 digits in the log; held-out sentences of one length, so that the mean over batches is the mean over tokens
    assert naive_heldout_loss(decoder, corpus, captions, range(30, 40)) == pytest.approx(losses[0], abs=1e-4)


def test_a_resumed_training_remembers_the_best_weights_of_before(make_corpus, make_decoder, tmp_path):
    captions = [[0, 5, 5, 5, 1]] * 30 + [[0, 9, 8, 9, 1]] * 10
    _, expected = run(find_method("decap")(None, None), make_decoder(spread=0.02), make_corpus(), tmp_path / "whole", captions=captions)
    with pytest.raises(Killed):
        run(kill_at(find_method("decap")(None, None), 17), make_decoder(spread=0.02), make_corpus(), tmp_path / "killed", captions=captions)
    _, weights = run(find_method("decap")(None, None), make_decoder(spread=0.02), make_corpus(), tmp_path / "killed", captions=captions)
    assert equal(weights, expected)


def test_training_teaches_the_decoder_to_say_what_the_corpus_says(make_corpus, make_decoder, tmp_path):
    captions = [[0, 5, 6, 7, 1]] * 40
    recipe = Recipe(steps=60, batch=10, learning_rate=0.02, warmup=5, evaluate_every=20)
    decoder = make_decoder(spread=0.02)
    log, _ = run(find_method("decap")(None, None), decoder, make_corpus(), tmp_path, recipe, captions=captions)
    assert log[0]["heldout_loss"] > log[-1]["heldout_loss"]
    assert log[-1]["heldout_loss"] < 0.1  # ln 12 = 2.5 at the start


def test_every_training_sentence_is_seen_once_an_epoch_and_held_out_ones_never(make_corpus, make_decoder, tmp_path):
    seen: list[list[int]] = []
    method = find_method("decap")(None, None)
    real = method.training_condition

    def watch(corpus, rows, generator):
        if torch.is_grad_enabled():
            seen.append(rows.tolist())
        return real(corpus, rows, generator)

    method.training_condition = watch
    run(method, make_decoder(), make_corpus(), tmp_path, Recipe(steps=12, batch=5, warmup=0, evaluate_every=12))
    first, second = ([row for batch in half for row in batch] for half in (seen[:6], seen[6:]))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second


@pytest.mark.parametrize(("train_rows", "heldout_rows"), [(3, 10), (0, 10), (30, 0)])
def test_too_small_a_corpus_is_told_with_its_numbers(make_corpus, make_decoder, noisy, tmp_path, user_error, train_rows, heldout_rows):
    message = user_error(train, noisy, make_decoder(), make_corpus(), sentences(40), np.arange(train_rows),
                         np.arange(30, 30 + heldout_rows), RECIPE, 0, tmp_path, "train")
    assert f"{train_rows} training and {heldout_rows} held-out sentences are too few for batches of 4" in message


def test_the_learning_rate_warms_up_in_a_line_and_falls_in_a_cosine_to_zero():
    rates = [schedule(step, 110, 10) for step in range(111)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == pytest.approx(0.0)
    assert all(earlier > later for earlier, later in pairwise(rates[10:]))
    assert schedule(0, 10, 0) == 1.0


def test_captions_start_and_end_and_long_ones_are_cut_and_counted(make_decoder):
    rows, cut = encode_captions(make_decoder(), ["w2 w3", "w4 w5 w6", "w7 w8 w9 w10", ""], 3)
    assert rows == [[0, 2, 3, 1], [0, 4, 5, 6, 1], [0, 7, 8, 9, 1], [0, 1]]
    assert cut == 1
    assert pad(rows)[0].tolist() == [0, 2, 3, 1, IGNORE]


def test_an_epoch_visits_each_caption_once_in_batches_of_like_length() -> None:
    from pipeline.training import epoch_batches

    lengths = np.random.default_rng(0).integers(5, 30, 1000)
    batches = epoch_batches(np.arange(1000), lengths, 16, seed=3, epoch=1)
    seen = np.concatenate(batches)
    assert len(batches) == 62
    assert len(set(seen.tolist())) == len(seen) == 62 * 16
    spread = np.mean([np.ptp(lengths[rows]) for rows in batches])
    assert spread < 0.3 * np.ptp(lengths)
    firsts = [lengths[rows].mean() for rows in batches]
    assert firsts != sorted(firsts), "short captions must not all come first"
    assert not all((a == b).all() for a, b in zip(batches, epoch_batches(np.arange(1000), lengths, 16, seed=3, epoch=2), strict=True))
