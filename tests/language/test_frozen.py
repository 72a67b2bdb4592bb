"""Language models that stay as they are, or learn by LoRA alone: what is trained, what is saved, and what must still lie where it lay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from pipeline.core.files import digest_tree
from pipeline.language.decoders import Decoder, pad
from pipeline.language.decoding import Decoding
from tests.language.tiny import LEFT_TO_RIGHT, WORDS, build, condition, load, save_language_model, small

ROWS = [[0, 5, 6, 7, 0], [0, 2, 0], [0, 9, 9, 3, 0]]


@pytest.fixture
def base(tmp_path) -> Path:
    return save_language_model(tmp_path / "base", LEFT_TO_RIGHT["GPT-2"], WORDS)


@pytest.fixture
def make(base, tiny_clip_folder):
    def make(training: str) -> Decoder:
        torch.manual_seed(0)
        return build(small(pretrained=str(base), training=training, dropout=0.5), tiny_clip_folder, 2)

    return make


def trained(decoder: Decoder) -> Decoder:
    """After a few steps in which every parameter may learn that can."""
    decoder.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        decoder.loss(condition(3, 2), pad(ROWS)).backward()
        optimiser.step()
    return decoder.eval()


def saved(decoder: Decoder, folder: Path) -> Path:
    folder.mkdir()
    decoder.save(folder, 8, "mlp")
    return folder


def weights(decoder: Decoder, part: str) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in decoder.state_dict().items() if name.startswith(part)}


@pytest.mark.parametrize(("training", "learns"), [("tuned", {"mapper", "transformer"}), ("frozen", {"mapper"}),
                                                  ("lora", {"mapper", "lora"})])
def test_training_changes_just_what_is_asked(make, training, learns):
    decoder = make(training)
    before = weights(decoder, "")
    trained(decoder)
    changed = {name for name, value in decoder.state_dict().items() if not torch.equal(value, before[name])}
    assert {"mapper" if name.startswith("mapper") else "lora" if "lora" in name else "transformer" for name in changed} == learns
    assert changed - {"lm.lm_head.weight"} == set(decoder.trained_parameters())  # tied to the embeddings, which are named


def test_a_frozen_language_model_does_not_drop_out_in_training(make):
    def losses(decoder: Decoder) -> set[float]:
        return {decoder.train().loss(condition(3, 2), pad(ROWS)).item() for _ in range(3)}

    assert len(losses(make("frozen"))) == 1
    assert len(losses(make("lora"))) > 1


def test_lora_starts_as_the_language_model_that_it_is_beside(make):
    given, ids = condition(3, 2), pad(ROWS)
    assert torch.equal(make("lora").eval().loss(given, ids), make("lora").eval().loss(given, ids))
    lora, frozen = make("lora").eval(), make("frozen").eval()
    lora.mapper.load_state_dict(frozen.mapper.state_dict())
    assert torch.equal(lora.loss(given, ids), frozen.loss(given, ids))


@pytest.mark.parametrize("training", ["frozen", "lora"])
def test_a_saved_decoder_holds_what_was_trained_and_captions_as_before(make, tmp_path, training):
    decoder = trained(make(training))
    folder = saved(decoder, tmp_path / "model")
    digest = digest_tree(folder)
    assert {path.parent.name for path in folder.rglob("*.safetensors")} == {"model", *(["lm"] if training == "lora" else [])}
    again, given, decoding = load(folder), condition(6, 2), Decoding(beams=2, max_new_tokens=6)
    assert torch.equal(again.loss(given, pad(ROWS * 2)), decoder.loss(given, pad(ROWS * 2)))
    assert again.generate(given, decoding) == decoder.generate(given, decoding)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert digest_tree(saved(again, tmp_path / "again")) == digest != digest_tree(saved(make(training), tmp_path / "new"))


@pytest.mark.parametrize("training", ["frozen", "lora"])
def test_a_system_that_starts_from_a_trained_one_goes_on_with_the_same_parts(make, tmp_path, training):
    decoder = make(training)
    again = load(saved(decoder, tmp_path / "model"))
    before = weights(again, "lm.transformer.wte")
    assert trained(again).trained_parameters().keys() == decoder.trained_parameters().keys()
    assert all(torch.equal(value, before[name]) for name, value in weights(again, "lm.transformer.wte").items())


def test_lora_has_the_same_bytes_in_every_process(tmp_path, tiny_clip_folder):
    base = save_language_model(tmp_path / "base", LEFT_TO_RIGHT["OPT"], WORDS)
    decoder = build(small(pretrained=str(base), training="lora"), tiny_clip_folder, 2)
    folders = []
    for order in (["q_proj", "v_proj"], ["v_proj", "q_proj"]):  # that of a set of names depends on the process
        assert decoder.lm.peft_config["default"].target_modules in (set(order), sorted(order))
        decoder.lm.peft_config["default"].target_modules = order
        folders.append(saved(decoder, tmp_path / order[0]))
    assert digest_tree(folders[0]) == digest_tree(folders[1])


def test_lora_without_some_of_its_weights_is_refused(make, tmp_path, user_error):
    folder = saved(make("lora"), tmp_path / "model")
    file = folder / "lm" / "adapter_model.safetensors"
    save_file(dict(list(load_file(file).items())[1:]), file)
    assert "its LoRA lacks" in user_error(load, folder)


@pytest.mark.parametrize("training", ["frozen", "lora"])
def test_another_language_model_in_its_place_is_named_and_so_is_a_missing_one(make, base, tmp_path, user_error, training):
    folder = saved(make(training), tmp_path / "model")
    GPT2LMHeadModel(LEFT_TO_RIGHT["GPT-2"]).save_pretrained(base)
    message = f"{base} is missing, or no longer the language model that {folder} was trained with"
    assert message in user_error(load, folder)
    shutil.rmtree(base)
    assert message in user_error(load, folder)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_a_decoder_with_damaged_lora_is_named(make, tmp_path, user_error, file, content):
    folder = saved(make("lora"), tmp_path / "model")
    (folder / "lm" / file).unlink()
    if content is not None:
        (folder / "lm" / file).write_bytes(content)
    assert str(folder) in user_error(load, folder)


@pytest.mark.parametrize("training", ["frozen", "lora"])
def test_a_language_model_from_scratch_must_learn(tiny_clip_folder, user_error, training):
    assert f"a decoder's training is {training}" in user_error(build, small(training=training), tiny_clip_folder)


@pytest.fixture
def hub(base, tmp_path, monkeypatch) -> Path:
    """nobody/base as it lies in the cache of the hub of Hugging Face, which cannot be reached."""
    cache = tmp_path / "cache" / "models--nobody--base"
    shutil.copytree(base, cache / "snapshots" / ("1" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("1" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache.parent))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


@pytest.mark.parametrize("training", ["frozen", "lora"])
def test_a_language_model_of_the_hub_is_named_by_its_revision_and_loaded_in_it(hub, tiny_clip_folder, tmp_path, training):
    decoder = build(small(pretrained="nobody/base", training=training), tiny_clip_folder, 2).eval()
    folder = saved(decoder, tmp_path / "model")
    assert json.loads((folder / "decoder.json").read_text())["source"] == {"name": "nobody/base", "digest": None, "revision": "1" * 40}
    torch.manual_seed(1)
    shutil.copytree(hub / "snapshots" / ("1" * 40), hub / "snapshots" / ("2" * 40))
    GPT2LMHeadModel(LEFT_TO_RIGHT["GPT-2"]).save_pretrained(hub / "snapshots" / ("2" * 40))
    (hub / "refs" / "main").write_text("2" * 40)  # its authors have published another one since
    assert torch.equal(load(folder).loss(condition(3, 2), pad(ROWS)), decoder.loss(condition(3, 2), pad(ROWS)))


def test_a_language_model_that_is_gone_from_the_hub_is_named(hub, tiny_clip_folder, tmp_path, user_error):
    folder = saved(build(small(pretrained="nobody/base", training="frozen"), tiny_clip_folder, 2), tmp_path / "model")
    shutil.rmtree(hub)
    assert f"{folder} was trained with it: put it back" in user_error(load, folder)
