"""The micro-world's diffusion model: CLIP's text tower in other classes, the noise it learns on, and a training that survives a kill."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, read_json
from pipeline.features.encoders import Clip, ClipParams
from pipeline.features.tagging import Detection
from pipeline.foundation import autoencoder, detection, diffusion, loop, pool
from pipeline.foundation.diffusion import CONTEXT, Denoiser, Recipe, build_unet, noise_weights, text_encoder_of, tokenizer_of, train
from pipeline.foundation.pool import draw_block, draw_pool
from pipeline.optimisation import Schedule
from pipeline.synthetic.drawing import Generator, SynthesisParams
from pipeline.world.scenes import Thing
from tests.artefacts import StubDetector
from tests.interruption import Interrupted, interrupt_at
from tests.project import ROOT

CPU = torch.device("cpu")
MICRO = ROOT / "data/foundation/micro"
# another implementation adds in another order
SUM_ORDER = 1e-4
PLAN = Schedule(steps=3, batch=4, learning_rate=1e-3, warmup=1, average=0.5)
TINY = Recipe(
    name="tiny", seed=0, scenes=24, classifier=detection.Recipe(name="classifier", seed=0, scenes=12, backbone=replace(PLAN, average=0.0)),
    autoencoder=autoencoder.Recipe(channels=(4, 4, 8, 8), latent_channels=4, schedule=PLAN, decoder=PLAN), unet=PLAN, further=PLAN,
    channels=(16, 32), heads=2,
)
TEXTS = [
    "", " ", "a red car on the street", "Two  Dogs,\n and a CAT!", "it's the dog's ball; they're 3 or 42", "café naïve Ünïcode ß éé",
    "birds ...?!", "  leading and trailing  ", "don't, 1990s #1 (a_b-c)", "日本語 🙂",
    "there is a large brown horse to the left of a small red car and a tree in a green meadow",
]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(MICRO, ClipParams(), CPU)


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_gives_the_ids_of_the_clip_up_to_the_end_token(clip, text):
    ids = clip.tokens([text])[0].tolist()
    assert tokenizer_of(MICRO)(text).input_ids == ids[: ids.index(clip.tokenizer.eot_token_id) + 1]


def test_short_texts_are_padded_with_the_end_token_and_long_ones_cut_before_it(clip):
    tokenizer, end = tokenizer_of(MICRO), clip.tokenizer.eot_token_id
    short, long = tokenizer(["birds", "7 " * 100], padding="max_length", truncation=True).input_ids
    assert len(short) == len(long) == CONTEXT
    assert set(short[short.index(end) :]) == {end}
    assert long.index(end) == CONTEXT - 1


def test_the_vocabulary_is_that_of_the_clip(clip):
    assert len(tokenizer_of(MICRO)) == clip.tokenizer.vocab_size == text_encoder_of(clip).config.vocab_size


def test_the_longest_captions_of_the_micro_world_fit_in_the_context(clip):
    texts = [text for captions in draw_block("foundation", 5, 0, 300)[1] for text in captions]
    assert max(len(ids) for ids in tokenizer_of(MICRO)(texts).input_ids) <= CONTEXT


@torch.no_grad()
def test_the_text_encoder_pooled_at_the_end_token_and_projected_equals_the_clip(clip):
    tokens = clip.tokens(TEXTS)
    hidden = text_encoder_of(clip)(tokens)[0]
    pooled = hidden[torch.arange(len(TEXTS)), tokens.argmax(1)] @ clip.model.text_projection
    expected = torch.from_numpy(clip.encode_tokens(tokens))
    assert expected.std() > 0.1
    torch.testing.assert_close(pooled, expected, atol=SUM_ORDER, rtol=SUM_ORDER)


def test_the_text_encoder_is_frozen_and_does_not_change_the_clip(clip):
    before = clip.digest
    encoder = text_encoder_of(clip)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    next(encoder.parameters()).data += 1
    assert Clip(MICRO, ClipParams(), CPU).digest == before
    assert text_encoder_of(clip).get_input_embeddings().weight.equal(clip.model.token_embedding.weight)


LINEAR = torch.linspace(10, -10, 1001, dtype=torch.float64)


@pytest.mark.parametrize(("middle", "spread"), [(0.0, 1.0), (-2.0, 2.0), (3.0, 0.5)])
def test_training_noise_is_drawn_most_often_at_the_middle_and_by_its_spread_about_it(middle, spread):
    weights = noise_weights(LINEAR, middle, spread)
    assert weights.sum().item() == pytest.approx(1)
    assert LINEAR[weights.argmax()].item() == pytest.approx(middle, abs=0.02)
    normal = (weights - 0.1 / 1001) / 0.9
    assert normal.min() >= 0
    assert (normal * LINEAR).sum().item() == pytest.approx(middle, abs=0.02)
    assert (normal * (LINEAR - middle) ** 2).sum().sqrt().item() == pytest.approx(spread, rel=0.02)


def test_a_tenth_of_the_training_noise_is_spread_evenly_over_time():
    weights = noise_weights(LINEAR, 0.0, 0.3)
    assert weights.min().item() == pytest.approx(0.1 / 1001)


def test_crowded_time_steps_share_the_chance_of_their_noise():
    kept = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
    log_ratio = torch.log(kept / (1 - kept))
    weights = noise_weights(log_ratio, -0.5, 2.2)
    assert weights.sum().item() == pytest.approx(1)
    below = log_ratio < -0.5
    # half of the normal distribution lies below its middle, however the time steps are spaced; the ends of the range cut little off
    assert weights[below].sum().item() == pytest.approx(0.9 * 0.5 + 0.1 * below.double().mean().item(), abs=0.01)


def test_the_denoiser_gives_a_velocity_and_tells_what_stands_where():
    torch.manual_seed(0)
    model = Denoiser(build_unet(TINY, 4, 16)).eval()
    noisy, times, text = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), torch.randn(2, 5, 16)
    velocity, layout = model(noisy, times, text)
    assert velocity.shape == (2, 4, 8, 8)
    assert layout.shape == (2, 38, 8, 8)
    torch.testing.assert_close(velocity, model.unet(noisy, times, encoder_hidden_states=text).sample)
    assert not torch.allclose(velocity, model(noisy, times, text.flip(0))[0])
    layout.sum().backward()  # the layout's loss reaches the UNet's way down
    assert model.unet.conv_in.weight.grad.abs().sum() > 0
    assert not model.unet.up_blocks[0]._forward_hooks


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Scenes drawn in this process, a snapshot every two steps, and the project's own folder for its CLIP."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pool, "workers", lambda: ThreadPoolExecutor(2))
    for module in (detection, autoencoder, diffusion):
        monkeypatch.setattr(module, "optimise", partial(loop.optimise, every=2))
    return monkeypatch


WEIGHTS = ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained in one go."""
    folder = tmp_path_factory.mktemp("diffusion") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(pool, "workers", lambda: ThreadPoolExecutor(2))
        for module in (detection, autoencoder, diffusion):
            patch.setattr(module, "optimise", partial(loop.optimise, every=2))
        train(TINY, folder)
    return folder


def test_what_is_trained_draws_pictures(whole):
    generator = Generator(whole, SynthesisParams((), (), (), "tiny", steps=2, batch=4), CPU)
    images, blanked = generator.draw(["a red car", "two dogs on the sand", ""], [1, 2, 3])
    assert [(image.mode, image.size) for image in images] == [("RGB", (64, 64))] * 3
    assert blanked == [False] * 3
    assert np.abs(np.asarray(images[0]).astype(int) - np.asarray(images[1])).max() > 1


def test_the_model_says_how_it_was_trained(whole):
    provenance = read_json(whole / "provenance.json")
    assert provenance["recipe"]["unet"]["steps"] == 3
    assert {name: len(losses) for name, losses in provenance["losses"].items()} == {"autoencoder": 4, "unet": 4}
    assert not whole.with_name("tiny.work").exists()


# in the classifier, behind a snapshot of the autoencoder and of the decoder, then before and behind the first snapshot of both of the
# UNet's trainings
@pytest.mark.parametrize(("call", "left"), [
    (1, [0, 1, 2] * 5), (5, [2, *[0, 1, 2] * 3]), (8, [2, *[0, 1, 2] * 2]), (10, [0, 1, 2] * 2), (11, [2, 0, 1, 2]),
    (13, [0, 1, 2]), (14, [2]),
])
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path: Path, whole, quick, call, left) -> None:
    with quick.context() as patch:
        interrupt_at(patch, call)
        with pytest.raises(Interrupted):
            train(TINY, tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()
    steps = interrupt_at(quick, None)
    train(TINY, tmp_path / "tiny")
    assert steps == left
    for name in (*WEIGHTS, "vae/config.json", "provenance.json"):
        assert digest_file(tmp_path / "tiny" / name) == digest_file(whole / name)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize(("call", "changed"), [
    (11, {"layout": 0.5}), (5, {"autoencoder": replace(TINY.autoencoder, things=1.0)}),
    (2, {"classifier": replace(TINY.classifier, scenes=16)}),
])
def test_a_snapshot_of_another_recipe_is_not_resumed(tmp_path: Path, quick, call, changed) -> None:
    with quick.context() as patch:
        interrupt_at(patch, call)
        with pytest.raises(Interrupted):
            train(TINY, tmp_path / "tiny")
    with pytest.raises(UserError, match="another recipe"):
        train(replace(TINY, **changed), tmp_path / "tiny")


def test_a_recipe_changed_before_the_unets_first_snapshot_learns_on_its_own_scenes(tmp_path: Path, quick) -> None:
    with quick.context() as patch:
        interrupt_at(patch, 10)
        with pytest.raises(Interrupted):
            train(TINY, tmp_path / "changed")
    other = replace(TINY, seed=1)
    train(other, tmp_path / "changed")
    train(other, tmp_path / "fresh")
    assert digest_file(tmp_path / "changed" / WEIGHTS[0]) == digest_file(tmp_path / "fresh" / WEIGHTS[0])


def test_latents_are_scaled_to_unit_deviation_and_computed_once(tmp_path: Path, whole, quick) -> None:
    vae = diffusion.AutoencoderKL.from_pretrained(whole / "vae", low_cpu_mem_usage=False)
    drawn = draw_pool("foundation", TINY.classifier.seed, TINY.classifier.scenes)
    latents = diffusion._latents(vae, drawn, tmp_path / "latents.safetensors")
    assert latents.shape == (12, 4, 8, 8)
    # of half-precision weights, where the factor was found in single precision
    assert latents.float().std().item() == pytest.approx(1, abs=0.01)
    quick.setattr(autoencoder, "encode", None)
    assert torch.equal(diffusion._latents(vae, drawn, tmp_path / "latents.safetensors"), latents)


def seen(*names: str) -> list[Detection]:
    return [Detection(name, 0.9, (0.0, 0.0, 1.0, 1.0)) for name in names]


class Seer:
    """A detector that sees what it is told."""

    def __init__(self, *found: list[Detection]) -> None:
        self.found = list(found)

    def detect(self, images: Sequence[object]) -> list[list[Detection]]:
        return self.found


@pytest.mark.parametrize(("text", "named", "found", "share"), [
    ("a cat and a dog", ("cat", "dog"), ("cat", "sun"), 0.5), ("a cat", ("cat",), (), 0.0), ("an empty view", (), ("cat",), 0.0),
    ("a man", ("man",), ("woman",), 0.0), ("a person", ("man",), ("woman",), 1.0), ("a person", ("man",), ("dog",), 0.0),
    ("two people and a dog", ("man", "dog"), ("woman",), 0.5),
])
def test_recall_is_the_share_of_the_things_named_that_are_found(text, named, found, share):
    drawn = pool.Pool(np.zeros((1, 1, 1, 3), np.uint8), [[text]], [[named]], np.zeros(1, np.int64), [()], ["room"])
    assert diffusion._recall([], drawn, Seer(seen(*found))).tolist() == [share]


def test_the_control_is_another_scene_of_the_same_style_and_background():
    images = np.zeros((7, 1, 1, 3), np.uint8)
    things: list[tuple[Thing, ...]] = [()] * 7
    drawn = pool.Pool(images, [[""]] * 7, [[()]] * 7, np.array([0, 1, 0, 1, 0, 0, 0]), things, ["a", "a", "a", "a", "b", "a", "c"])
    assert diffusion._wrong_scenes(drawn) == [2, 3, 5, 1, 4, 0, 6]


def test_a_measurement_has_figures_of_both_styles_each_with_its_interval_and_pictures(whole, quick, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "tiny")
    for name, value in {"_SCENES": 4, "_SHOWN": 2, "_GUIDANCE": (1.0, 2.0), "_STEPS": 1, "_threshold": lambda: 0.5,
                        "Detector": lambda *arguments: StubDetector()}.items():
        quick.setattr(diffusion, name, value)
    figures = diffusion.measure(tmp_path / "tiny")
    assert figures["guidance"] in (1.0, 2.0)
    for style in ("scenes", "album"):
        assert set(figures[style]) == {"recall", "control", "rebuilt", "real", "rebuilt_things", "real_things"}
        assert all(low <= mean <= high for mean, low, high in figures[style].values())
    shown = read_json(tmp_path / "tiny" / "pictures.json")
    assert len(shown) == 2
    assert all((tmp_path / "tiny" / entry[kind]).exists() for entry in shown for kind in ("real", "rebuilt", "generated"))
