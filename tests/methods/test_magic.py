"""MAGIC against a naive twin, one picture at a time and without a cache; its language model, tuned or frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from pipeline.captioning import Captioner, caption_settings
from pipeline.core import paths
from pipeline.core.files import read_json
from pipeline.core.params import check
from pipeline.features.encoders import Clip
from pipeline.features.stores import unit
from pipeline.language.decoders import Decoder
from pipeline.language.decoding import Decoding
from pipeline.methods import magic
from pipeline.methods.magic import Magic, MagicCaptionParams, MagicParams, contrastive, degeneration
from pipeline.methods.phases import Recipe, Trainer
from pipeline.needs.base import Inputs, read
from pipeline.needs.images import Images
from pipeline.needs.text_tower import TextTower, Tower
from pipeline.systems import find_system
from pipeline.training import train_system
from tests.artefacts import CLIP
from tests.language.tiny import LEFT_TO_RIGHT, SUM_ORDER, WORDS, save_language_model
from tests.tiny_systems import CPU, TEXT_ONLY, make_project, params, write_params

PARAMS = {"k": 5, "alpha": 0.3, "beta": 2.0, "tokens": 7}


def make(**caption: Any) -> Magic:
    return Magic(Magic.TrainParams(), check(MagicCaptionParams, PARAMS | caption, "magic.caption"))


@pytest.fixture
def seen(unit_rows, tiny_clip: Clip) -> Inputs:
    """Random pictures, of which an untrained CLIP thinks differently."""
    return Inputs({Images: torch.from_numpy(unit_rows(6, 8, 3)), TextTower: Tower(CLIP, tiny_clip.digest, tiny_clip)})


def captions(method: Magic, pictures: Inputs, decoder: Decoder) -> list[str]:
    return method.caption(pictures, Inputs({}), decoder, Decoding(beams=3, max_new_tokens=40))


@torch.no_grad()
def naive(method: Magic, image_D: np.ndarray, clip: Clip, decoder: Decoder) -> str:
    """Token by token, each candidate by itself and from the start."""
    wanted, start, end, ids = method.caption_params, decoder.tokenizer.start, decoder.tokenizer.end, []
    while len(ids) < wanted.tokens:
        probs_V = decoder.lm(input_ids=torch.tensor([[start, *ids]])).logits[0, -1].softmax(-1)
        best = sorted(range(len(probs_V)), key=lambda token: -probs_V[token])[: wanted.k]
        texts = [decoder.tokenizer.decode([token for token in [*ids, last] if token != end]) for last in best]
        logits = [float(unit(clip.encode_texts([text]))[0] @ image_D) * float(clip.model.logit_scale.exp()) for text in texts]
        scores = []
        for token, magic_score in zip(best, torch.tensor(logits).softmax(-1), strict=True):
            *before, last = decoder.lm(input_ids=torch.tensor([[start, *ids, token]]), output_hidden_states=True).hidden_states[-1][0]
            penalty = max(cosine_similarity(last, each, dim=0) for each in before)
            scores.append((1 - wanted.alpha) * probs_V[token] - wanted.alpha * penalty + wanted.beta * magic_score)
        chosen = best[int(torch.stack(scores).argmax())]
        if chosen == end:
            break
        ids.append(chosen)
    return decoder.tokenizer.decode(ids)


@pytest.mark.parametrize("changes", [{}, {"alpha": 0.0}, {"beta": 0.5}, {"k": 12}, {"k": 100}, {"tokens": 3}])
def test_pictures_together_get_the_captions_that_each_gets_alone_and_without_a_cache(seen, tiny_clip, make_decoder, changes):
    method, decoder = make(**changes), make_decoder()
    found = captions(method, seen, decoder)
    assert found == [naive(method, image.numpy(), tiny_clip, decoder) for image in seen.of(Images)]
    assert len(set(found)) > 1


def test_the_penalty_is_the_largest_cosine_with_what_stands_before(make_decoder):
    lm = make_decoder().lm
    context_RT, candidates_RK = torch.tensor([[0, 4, 7], [0, 9, 9]]), torch.tensor([[4, 5], [9, 2]])
    with torch.no_grad():
        found = degeneration(lm, context_RT, candidates_RK)
        for row in range(2):
            for place in range(2):
                ids = torch.tensor([[*context_RT[row].tolist(), int(candidates_RK[row, place])]])
                *before, last = lm(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
                expected = torch.stack([cosine_similarity(last, each, dim=0) for each in before]).max()
                torch.testing.assert_close(found[row, place], expected, atol=SUM_ORDER, rtol=0)


def test_the_contrastive_loss_asks_hidden_states_of_one_text_to_differ_and_leaves_padding_out():
    generator = torch.Generator().manual_seed(0)
    hidden_BTW, lengths = torch.randn(2, 4, 3, generator=generator), [4, 2]
    there_BT = torch.tensor([[place < length for place in range(4)] for length in lengths])
    found = [max(0.0, 0.6 - 1 + float(cosine_similarity(hidden_BTW[row, one], hidden_BTW[row, other], dim=0)))
             for row, length in enumerate(lengths) for one in range(length) for other in range(length) if one != other]
    assert any(found)
    torch.testing.assert_close(contrastive(hidden_BTW, there_BT, 0.6), torch.tensor(sum(found) / len(found)))


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_training_adds_it_to_the_cross_entropy_of_captions(make_decoder, make_corpus, margin):
    decoder, corpus = make_decoder(), make_corpus()
    ids, rows = [[0, 5, 6, 7, 1], [0, 8, 1], [0, 9, 3, 1]], np.arange(2)
    trainer = Trainer(make().training_condition, decoder, corpus, ids, rows, np.array([2]), Recipe(steps=1), 0)
    phase, = Magic(MagicParams(margin=margin), MagicCaptionParams()).phases(trainer)
    expected = trainer.cross_entropy().loss(rows, torch.Generator())
    if margin:
        hidden = [decoder.lm(input_ids=torch.tensor([ids[row][:-1]]), output_hidden_states=True).hidden_states[-1][0] for row in rows]
        there = torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
        expected = expected + contrastive(torch.nn.utils.rnn.pad_sequence(hidden, batch_first=True), there, margin)
    torch.testing.assert_close(phase.loss(rows, torch.Generator()), expected)


@pytest.mark.parametrize("changes", [{"alpha": 0.0, "beta": 0.0}, {"k": 1}])
def test_where_clip_has_no_say_every_picture_gets_what_the_language_model_likes_best(seen, make_decoder, changes):
    method, decoder = make(**changes), make_decoder()
    likeliest = decoder.generate(method.inference_condition(seen, Inputs({})), Decoding(beams=1, max_new_tokens=PARAMS["tokens"]))
    assert captions(method, seen, decoder) == likeliest


def test_a_small_memory_changes_no_caption(seen, make_decoder, monkeypatch):
    expected = captions(make(), seen, make_decoder())
    monkeypatch.setattr(magic, "_AT_ONCE", 7)  # two pictures' candidates are too many
    assert captions(make(), seen, make_decoder()) == expected


def test_a_text_that_several_pictures_come_by_is_read_once(seen, tiny_clip, make_decoder, monkeypatch):
    asked: list[list[str]] = []
    real = tiny_clip.encode_texts
    monkeypatch.setattr(tiny_clip, "encode_texts", lambda texts: asked.append(texts) or real(texts))
    captions(make(), seen, make_decoder())
    assert len(asked[0]) == PARAMS["k"]  # every picture's first step
    assert all(len(texts) == len(set(texts)) for texts in asked)


def test_it_answers_nothing_as_its_language_model_is_told_of_no_picture(seen, make_decoder, user_error):
    assert "cannot answer" in user_error(make().answer, seen, Inputs({}), ["what?"] * 6, make_decoder(), Decoding())


@pytest.mark.parametrize("wrong", [{"k": 0}, {"alpha": 1.1}, {"beta": -1.0}, {"tokens": 0}])
def test_wrong_parameters_are_named(user_error, wrong):
    assert next(iter(wrong)) in user_error(make, **wrong)


@pytest.fixture(params=["frozen", "tuned", "lora"])
def system(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_clip_folder: Path, tiny_clip: Clip) -> dict[str, Any]:
    """params.yaml of a project in which MAGIC's language model is not trained, or trained."""
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, tiny_clip_folder, tiny_clip)
    save_language_model(paths.foundation("lm"), LEFT_TO_RIGHT["GPT-2"], [*WORDS[:4], "a", "red", "blue", "brown", "dog", "car", "boat"])
    values = params({
        "systems.magic": {**TEXT_ONLY, "method": "magic", "starts_from": "foundation/lm", "decoder": "lm", "caption": PARAMS},
        "decoders.lm": {"pretrained": str(paths.foundation("lm")), "training": request.param, "max_tokens": 12},
        "recipes.small.steps": 40, "recipes.small.evaluate_every": 20,
    })
    write_params(values)
    train_system("magic", find_system("magic", values), values, CPU)
    return values


def test_a_frozen_language_model_is_taken_as_it_is_and_another_one_reads_the_corpus(system):
    curve, frozen = read_json(paths.curve("magic")), system["decoders"]["lm"]["training"] == "frozen"
    assert (paths.model("magic") / "lm").exists() != frozen
    assert not curve if frozen else curve[-1]["heldout_loss"] < curve[0]["heldout_loss"]


def test_what_is_captioned_does_not_depend_on_the_batch(system):
    caption_settings("magic", find_system("magic", system), system, CPU)
    said = [entry["caption"] for entry in read_json(paths.captions("magic") / "in-domain.json")]
    captioner = Captioner("magic", find_system("magic", system), CPU)
    pictures = read(captioner.method.looks_at, CLIP, "scenes")
    alone = [captioner.caption(pictures[[row]], Inputs({}), Decoding())[0] for row in range(8)]
    assert alone == said
