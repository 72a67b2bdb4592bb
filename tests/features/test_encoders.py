"""CLIP: our shorter way through the text tower against open_clip's own, and folders that hold no usable model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.features.encoders import Clip, ClipParams, text_features

WEIGHTS = "open_clip_model.safetensors"
# sums over another number of padding positions add in another order
SUM_ORDER = 1e-5


def load(folder: Path, batch: int = 3) -> Clip:
    return Clip(folder, ClipParams(batch=batch), torch.device("cpu"))


def photographs(count: int) -> list[Image.Image]:
    return [Image.fromarray(np.random.default_rng(i).integers(0, 255, (50 + 7 * i, 70, 3), dtype=np.uint8)) for i in range(count)]


def test_text_features_equal_open_clips_own(tiny_clip, captions):
    tokens = tiny_clip.tokens(captions)
    ends = tokens.argmax(1)
    assert int(ends.max()) + 1 < tokens.shape[1] or len(set(ends.tolist())) > 1  # something is cut
    with torch.inference_mode():
        expected = tiny_clip.model.encode_text(tokens)
    assert expected.std() > 0.01
    np.testing.assert_allclose(tiny_clip.encode_texts(captions), expected.numpy(), atol=SUM_ORDER)
    for row in range(len(captions)):
        with torch.inference_mode():
            alone = text_features(tiny_clip.model, tokens[row : row + 1])
        torch.testing.assert_close(alone, expected[row : row + 1], atol=SUM_ORDER, rtol=0)


def test_a_feature_does_not_depend_on_the_sentences_encoded_beside_it(tiny_clip_folder, captions):
    together = load(tiny_clip_folder, batch=100).encode_texts(captions)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    for batch in (1, 3):
        np.testing.assert_allclose(load(tiny_clip_folder, batch).encode_texts(captions), together, atol=SUM_ORDER)
    np.testing.assert_allclose(load(tiny_clip_folder).encode_texts(captions[::-1]), together[::-1], atol=SUM_ORDER)


def test_training_reaches_the_weights_through_the_text_features(tiny_clip_folder, captions):
    clip = load(tiny_clip_folder)
    clip.model.requires_grad_(True)
    text_features(clip.model, clip.tokens(captions)).sum().backward()
    assert clip.model.token_embedding.weight.grad.abs().sum() > 0


def test_sentences_longer_than_the_context_are_counted_and_those_that_just_fit_are_not(tiny_clip):
    words = {n: " ".join(["zzz"] * n) for n in range(1, 30)}
    needed = {n: int(tiny_clip.tokenizer([text], context_length=200).argmax(1)) + 1 for n, text in words.items()}
    expected = sum(length > 20 for length in needed.values())
    assert 20 in needed.values() or 0 < expected < len(words)
    assert tiny_clip.count_truncated(list(words.values()), tiny_clip.tokens(list(words.values()))) == expected
    assert tiny_clip.count_truncated(["zzz"], tiny_clip.tokens(["zzz"])) == 0


def test_a_sentence_that_fills_the_context_exactly_is_not_counted_as_cut(tiny_clip):
    # single bytes that no merge joins: one token each, beside the start and the end
    exact, longer = " ".join(["7"] * 18), " ".join(["7"] * 19)
    assert int(tiny_clip.tokenizer([exact], context_length=200).argmax(1)) + 1 == 20
    texts = [exact, longer, exact]
    assert tiny_clip.count_truncated(texts, tiny_clip.tokens(texts)) == 1


def test_no_texts_and_no_images_give_no_rows(tiny_clip):
    assert tiny_clip.encode_images([]).shape == (0, 8)
    assert tiny_clip.encode_files([]).shape == (0, 8)


def test_image_features_equal_open_clips_own_and_do_not_depend_on_the_batch(tiny_clip):
    images = photographs(5)
    with torch.inference_mode():
        expected = torch.cat([tiny_clip.model.encode_image(tiny_clip.preprocess(image)[None]) for image in images])
    np.testing.assert_allclose(tiny_clip.encode_images(images), expected.numpy(), atol=SUM_ORDER)


def test_image_files_give_the_features_of_their_pictures_in_order(tiny_clip, tmp_path, user_error):
    images = photographs(5)
    files = [tmp_path / f"{9 - i}.png" for i in range(5)]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    np.testing.assert_array_equal(tiny_clip.encode_files(files), tiny_clip.encode_images(images))
    files[3].write_bytes(b"no picture")
    assert str(files[3]) in user_error(tiny_clip.encode_files, files)


def test_two_models_are_told_apart_by_their_digest(tiny_clip_folder, tiny_clip, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_clip_folder, other)
    assert load(other).digest == tiny_clip.digest
    weights = load_file(other / WEIGHTS)
    weights["text_projection"][0, 0] += 1e-3
    save_file(weights, other / WEIGHTS)
    assert load(other).digest != tiny_clip.digest


def test_the_same_weights_with_another_activation_or_mean_are_another_model(tiny_clip_folder, tiny_clip, tmp_path):
    for part, key, value in (("model_cfg", "quick_gelu", True), ("preprocess_cfg", "mean", [0.5, 0.5, 0.5])):
        other = tmp_path / key
        shutil.copytree(tiny_clip_folder, other)
        config = json.loads((other / "open_clip_config.json").read_text())
        config.setdefault(part, {})[key] = value
        (other / "open_clip_config.json").write_text(json.dumps(config))
        assert load(other).digest != tiny_clip.digest


def test_the_width_is_that_of_the_features(tiny_clip, captions):
    assert tiny_clip.width == tiny_clip.encode_texts(captions[:1]).shape[1] == 8


@pytest.fixture
def damaged(tiny_clip_folder, tmp_path) -> Path:
    """A copy of the model, to damage."""
    shutil.copytree(tiny_clip_folder, tmp_path / "clip")
    return tmp_path / "clip"


def test_a_missing_folder_is_named(tmp_path, user_error):
    assert f"{tmp_path / 'none'} holds no CLIP" in user_error(load, tmp_path / "none")


def test_missing_weights_are_named_and_never_replaced_by_random_ones(damaged, user_error):
    (damaged / WEIGHTS).unlink()
    assert f"{damaged} holds no CLIP that can be loaded" in user_error(load, damaged)


@pytest.mark.parametrize("keep", [0, 5, 300, -100])
def test_cut_off_weights_are_named(damaged, user_error, keep):
    (damaged / WEIGHTS).write_bytes((damaged / WEIGHTS).read_bytes()[:keep])
    assert f"{damaged} holds no CLIP that can be loaded" in user_error(load, damaged)


def test_weights_of_another_width_are_named(damaged, user_error):
    config = json.loads((damaged / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["width"] = 32
    (damaged / "open_clip_config.json").write_text(json.dumps(config))
    message = user_error(load, damaged)
    assert f"{damaged} holds no CLIP that can be loaded" in message
    assert "width" in message


def test_weights_that_lack_a_tensor_are_named(damaged, user_error):
    weights = load_file(damaged / WEIGHTS)
    del weights["text_projection"]
    save_file(weights, damaged / WEIGHTS)
    assert str(damaged) in user_error(load, damaged)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"model_cfg": {}}', "[]"])
def test_a_damaged_configuration_is_named(damaged, user_error, content):
    (damaged / "open_clip_config.json").write_text(content)
    assert str(damaged) in user_error(load, damaged)


def test_missing_merges_are_named_and_never_replaced_by_anothers(damaged, user_error):
    (damaged / "bpe_merges.txt.gz").unlink()
    assert str(damaged) in user_error(load, damaged)


@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: b"no gzip", lambda data: data[:30] + b"\xff" * 20 + data[50:]],
                         ids=["cut", "no gzip", "overwritten"])
def test_damaged_merges_are_named(damaged, user_error, damage):
    file = damaged / "bpe_merges.txt.gz"
    file.write_bytes(damage(file.read_bytes()))
    assert str(damaged) in user_error(load, damaged)


HUB_TEXT = {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base", "hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler"}


@pytest.mark.parametrize("lacks", [None, WEIGHTS])
@pytest.mark.parametrize(("part", "told"), [
    ("text_cfg", HUB_TEXT), ("text_cfg", {"hf_tokenizer_name": "openai/clip-vit-base-patch32"}),
    ("vision_cfg", {"timm_model_name": "test_vit", "timm_model_pretrained": True}),
    ("vision_cfg", {"timm_model_name": "hf-hub:timm/test_vit.r160_in1k", "timm_model_pretrained": True}),
])
def test_no_clip_asks_the_network_for_what_it_names_or_lacks(damaged, asked, user_error, part, told, lacks):
    config = json.loads((damaged / "open_clip_config.json").read_text())
    config["model_cfg"][part].update(told)
    (damaged / "open_clip_config.json").write_text(json.dumps(config))
    if lacks:
        (damaged / lacks).unlink()
    message = user_error(load, damaged)
    assert f"{damaged} holds no CLIP that can be loaded" in message
    assert ("it names a part that is on the hub of Hugging Face" in message) == ("roberta-base" in str(told) or "hf-hub:" in str(told))
    assert not asked


def test_a_clip_with_a_tower_of_timm_takes_all_its_weights_from_the_folder(damaged, asked):
    config = json.loads((damaged / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] = {"timm_model_name": "test_vit", "timm_model_pretrained": True, "timm_proj": "linear",
                                         "image_size": 160}
    (damaged / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    model = open_clip.create_model(f"local-dir:{damaged}", load_weights=False).eval()
    save_file(model.state_dict(), damaged / WEIGHTS)
    clip = load(damaged)
    with torch.inference_mode():
        expected = model.encode_image(clip.pixels(photographs(1)[0])[None])
    np.testing.assert_allclose(clip.encode_images(photographs(1)), expected.numpy(), atol=SUM_ORDER)
    assert not asked
