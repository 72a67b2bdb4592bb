"""Self-supervision: what CLIP reads of drawn captions, whose gradients reach the decoder, and which captions are learnt from."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from pipeline.core import paths
from pipeline.core.files import digest_tree, read_json
from pipeline.core.params import check
from pipeline.features.encoders import Clip, ClipParams, text_tower
from pipeline.language.decoders import pad
from pipeline.language.tokens import ClipTokens
from pipeline.methods.phases import Recipe, Trainer
from pipeline.methods.self_supervised import SelfSupervised, bridge, caption_features, few_labelled, one_a_picture
from pipeline.needs.base import Inputs
from pipeline.needs.images import Images
from pipeline.needs.pairs import Paired, Pairs
from pipeline.needs.text_tower import TextTower, Tower
from pipeline.systems import find_system
from pipeline.training import train_system
from tests.artefacts import CLIP
from tests.interruption import Interrupted, interrupt_at
from tests.tiny_systems import CPU, TEXT_ONLY, make_project, params, write_params

TEXTS = ["a red car on the street", "birds", "two dogs on the sand"]


def make(**train: Any) -> SelfSupervised:
    return SelfSupervised(check(SelfSupervised.TrainParams, train, "train"), check(SelfSupervised.CaptionParams, {}, "caption"))


@pytest.fixture
def tokenizer(tiny_clip_folder: Path) -> ClipTokens:
    return ClipTokens.of(tiny_clip_folder)


def drawn(tokenizer: ClipTokens, texts: list[str], ends: bool) -> tuple[Tensor, Tensor]:
    """One-hot tokens (B, T, V) of texts as a rollout gives them, and their mask; what follows an end is arbitrary."""
    ids = [[*tokenizer.encode(text), *([tokenizer.end] if ends else [])] for text in texts]
    longest = max(map(len, ids))
    filled = torch.tensor([[*row, *[5] * (longest - len(row))] for row in ids])
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in ids])
    return one_hot(filled, tokenizer.size).float(), mask


def test_clip_reads_drawn_captions_as_it_reads_their_text(tiny_clip, tokenizer):
    tokens_BTV, mask_BT = drawn(tokenizer, TEXTS, ends=True)
    found = caption_features(tiny_clip, bridge(tiny_clip, tokenizer, tokenizer.size), tokens_BTV, mask_BT, tokenizer.end)
    torch.testing.assert_close(found, torch.from_numpy(tiny_clip.encode_texts(TEXTS)), atol=1e-5, rtol=0)


def test_a_caption_that_is_cut_before_its_end_is_read_with_an_end(tiny_clip, tokenizer):
    for text in TEXTS:
        bridge_VW = bridge(tiny_clip, tokenizer, tokenizer.size)
        found = caption_features(tiny_clip, bridge_VW, *drawn(tokenizer, [text], ends=False), tokenizer.end)
        torch.testing.assert_close(found, torch.from_numpy(tiny_clip.encode_texts([text])), atol=1e-5, rtol=0)


def test_gradients_of_the_similarity_are_those_of_finite_differences(tiny_clip_folder, tokenizer):
    """In double precision, of soft tokens, in ten random directions."""
    clip = Clip(tiny_clip_folder, ClipParams(), CPU)
    clip.model.double()
    bridge_VW = bridge(clip, tokenizer, tokenizer.size)
    generator = torch.Generator().manual_seed(0)
    tokens_BTV = torch.randn(2, 4, tokenizer.size, generator=generator, dtype=torch.float64).softmax(-1).requires_grad_()
    images_BD = torch.randn(2, clip.width, generator=generator, dtype=torch.float64)
    mask_BT = torch.ones(2, 4, dtype=torch.bool)

    def similarity(tokens: Tensor) -> Tensor:
        features = caption_features(clip, bridge_VW, tokens, mask_BT, tokenizer.end)
        return (normalize(features, dim=-1) * normalize(images_BD, dim=-1)).sum()

    gradient, = torch.autograd.grad(similarity(tokens_BTV), tokens_BTV)
    for _ in range(10):
        step = torch.randn(tokens_BTV.shape, generator=generator, dtype=torch.float64) * 1e-5
        with torch.no_grad():
            difference = (similarity(tokens_BTV + step) - similarity(tokens_BTV - step)) / 2
        assert float((gradient * step).sum()) == pytest.approx(float(difference), rel=1e-3, abs=1e-10)


def test_a_decoder_of_clips_own_vocabulary_is_bridged_exactly(tiny_clip, tokenizer):
    assert bridge(tiny_clip, tokenizer, tokenizer.size) is text_tower(tiny_clip.model).token_embedding.weight


def test_another_vocabulary_is_bridged_by_the_mean_of_what_clip_writes_its_tokens_with(tiny_clip, make_decoder):
    words = make_decoder().tokenizer
    found, weights = bridge(tiny_clip, words, words.size), text_tower(tiny_clip.model).token_embedding.weight
    assert found.shape == (words.size, weights.shape[1])
    several = next(i for i in range(2, words.size) if len(tiny_clip.tokenizer.encode(words.decode([i]))) > 1)
    torch.testing.assert_close(found[several], weights[tiny_clip.tokenizer.encode(words.decode([several]))].mean(0))
    assert torch.equal(found[words.end], weights[int(tiny_clip.tokens([""])[0, 1])])


def test_of_tokens_beyond_the_tokenizer_clip_reads_nothing(tiny_clip, tokenizer, make_decoder):
    for words in (tokenizer, make_decoder().tokenizer):
        found = bridge(tiny_clip, words, words.size + 3)
        assert found.shape[0] == words.size + 3
        assert torch.equal(found[-3:], torch.zeros_like(found[-3:]))
        torch.testing.assert_close(found[:-3], bridge(tiny_clip, words, words.size))


@pytest.fixture
def trainer(make_decoder, tiny_clip, unit_rows) -> Trainer:
    """Twelve pictures of five captions each; those of the last two are held out."""
    picture_of = torch.arange(60) // 5
    pictures = Inputs({Images: torch.from_numpy(unit_rows(12, 8, 3))})
    corpus = Inputs({Pairs: Paired(picture_of, pictures), TextTower: Tower(CLIP, tiny_clip.digest, tiny_clip)})
    captions = [[0, 2 + row % 9, 3, 1] for row in range(60)]
    decoder = make_decoder(spread=0.3)
    return Trainer(make().training_condition, decoder, corpus, captions, np.arange(50), np.arange(50, 60), Recipe(steps=4, batch=4), 0)


def test_labelled_pictures_are_few_part_of_more_and_hold_a_fifth_of_themselves_out(trainer):
    few, more = few_labelled(trainer, 5), few_labelled(trainer, 10)
    pictures = {name: ({row // 5 for row in part.train_rows}, {row // 5 for row in part.heldout_rows}) for name, part in
                (("few", few), ("more", more))}
    assert list(map(len, pictures["few"])) == [4, 1]
    assert list(map(len, pictures["more"])) == [8, 2]
    assert pictures["few"][0] | pictures["few"][1] <= pictures["more"][0] | pictures["more"][1]
    assert pictures["few"][0] <= pictures["more"][0]  # what trains of few trains of more
    for trained, heldout in pictures.values():
        assert not trained & heldout
        assert not (trained | heldout) & {10, 11}  # the corpus's own held-out pictures choose the second phase's weights


def test_the_second_phase_sees_each_picture_once_and_no_caption(trainer):
    method = make(labelled=5, anchor=0.0, length=6)
    _, phase = method.phases(trainer)
    few = few_labelled(trainer, 5)
    labelled = {row // 5 for row in [*few.train_rows, *few.heldout_rows]}
    assert sorted(row // 5 for row in phase.rows.tolist()) == sorted({*range(10)} - labelled)
    others = replace(trainer, captions=[[0, 9, 9, 9, 1]] * 60)
    rows = phase.rows[:4]
    losses = [made.phases(each)[1].loss(rows, torch.Generator().manual_seed(0)).item()
              for made, each in ((method, trainer), (method, others))]
    assert losses[0] == losses[1]
    anchored = make(labelled=5, anchor=0.5, length=6)
    assert anchored.phases(trainer)[1].loss(rows, torch.Generator().manual_seed(0)).item() != losses[0]


def test_stretches_of_the_second_phase_draw_other_batches_and_other_noise(trainer):
    first, second = make(labelled=0, self_steps=4, temperatures=(1.0, 1.0), length=6).phases(trainer)
    assert sorted(first.rows) == sorted(second.rows)
    assert first.rows.tolist() != second.rows.tolist()
    rows = first.rows[:4]
    assert first.loss(rows, torch.Generator().manual_seed(0)).item() != second.loss(rows, torch.Generator().manual_seed(0)).item()


def test_the_anchor_is_cross_entropy_on_captions_of_labelled_pictures(trainer):
    rows = np.arange(0, 20, 5)
    plain, anchored = (make(labelled=5, anchor=weight, length=6).phases(trainer)[1].loss(rows, torch.Generator().manual_seed(0)).item()
                       for weight in (0.0, 0.5))
    few, generator = few_labelled(trainer, 5), torch.Generator().manual_seed(777_767_777)
    condition = trainer.condition(trainer.corpus, torch.from_numpy(rows), generator)
    trainer.decoder.roll_out(condition, 6, 1.0, generator)  # what was drawn before
    chosen = few.train_rows[torch.randint(len(few.train_rows), (4,), generator=generator).numpy()]
    expected = trainer.decoder.loss(trainer.condition(trainer.corpus, torch.from_numpy(chosen), generator),
                                    pad([trainer.captions[row] for row in chosen]))
    assert anchored - plain == pytest.approx(0.5 * expected.item(), rel=1e-4)


@pytest.mark.parametrize("one_pass", [False, True])
def test_its_loss_reaches_the_mapper(trainer, one_pass):
    phase = make(labelled=5, anchor=0.0, length=6, one_pass=one_pass).phases(trainer)[1]
    gradients = torch.autograd.grad(phase.loss(phase.rows[:4], torch.Generator().manual_seed(0)), list(trainer.decoder.mapper.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize(("train", "names", "steps"), [
    ({"labelled": 5}, ["cross-entropy", "self-supervision 1"], [None, 300]),
    ({"labelled": 0}, ["self-supervision 1"], [300]),
    ({"labelled": 5, "self_steps": 0}, ["cross-entropy"], [None]),
    ({"labelled": 0, "self_steps": 7, "temperatures": (1.0, 0.7, 0.5)}, [f"self-supervision {i}" for i in (1, 2, 3)], [2, 2, 3]),
    ({"labelled": 0, "self_steps": 1, "temperatures": (1.0, 0.5)}, ["self-supervision 2"], [1]),
])
def test_either_phase_may_be_left_out_and_the_second_may_cool_down(trainer, train, names, steps):
    phases = make(length=6, **train).phases(trainer)
    assert [phase.name for phase in phases] == names
    assert [phase.steps for phase in phases] == steps


@pytest.mark.parametrize(("train", "said"), [
    ({"labelled": 0, "self_steps": 0}, "labelled and self_steps are both 0"),
    ({"labelled": 11}, "labelled is 11, of 10 pictures with captions"),
    ({"labelled": 1}, "two at least are needed"),
    ({"labelled": 5, "length": 19}, "reads 18 tokens"),
    ({"labelled": 5, "hard": False, "one_pass": True}, "one_pass reads tokens, and hard is false"),
])
def test_what_cannot_be_learnt_is_said_in_one_line(trainer, user_error, train, said):
    assert said in user_error(make(**train).phases, trainer)


def test_pictures_are_taken_once_in_the_rows_order(trainer):
    assert one_a_picture(trainer, np.array([7, 3, 8, 1, 59])).tolist() == [7, 3, 59]


ALL = params({"systems.self": {**TEXT_ONLY, "method": "self-supervised", "corpus": "scenes-drawn", "learns_from": f"{CLIP}/image",
                               "learns_with": f"{CLIP}/image", "looks_up": f"{CLIP}/image",
                               "recipe": "pairs", "train": {"labelled": 5, "self_steps": 6, "length": 5, "prefix": 2}},
              "recipes.pairs": {"steps": 6, "batch": 2, "evaluate_every": 2, "snapshot_every": 2}})


@pytest.fixture
def project(tmp_path: Path, tiny_clip_folder: Path, tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path, tiny_clip_folder, tiny_clip)
    monkeypatch.chdir(tmp_path)
    write_params(ALL)
    return tmp_path


def train() -> str:
    train_system("self", find_system("self", ALL), ALL, CPU)
    return digest_tree(paths.model("self"))


@pytest.mark.parametrize("call", [4, 9])  # in the first phase, in the second
def test_killed_in_either_phase_and_resumed_it_has_the_same_bytes(project, tmp_path_factory, call):
    other = tmp_path_factory.mktemp("killed") / "project"
    shutil.copytree(project, other)
    whole, curve = train(), read_json(paths.curve("self"))
    assert [entry["phase"] for entry in curve] == ["cross-entropy"] * 3 + ["self-supervision 1"] * 3
    with contextlib.chdir(other):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(patch, call)
            with pytest.raises(Interrupted):
                train()
        assert train() == whole
        assert read_json(paths.curve("self")) == curve
