"""Tokens of images and their attention: against the pooled feature, and against attention written out or open_clip's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.core.code import ROOT
from pipeline.features.encoders import Clip, ClipParams
from pipeline.features.patches import image_tokens

SUM_ORDER = 1e-5
VIT = {"image_size": 64, "patch_size": 16, "width": 32, "layers": 3, "head_width": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}  # 4 heads over 2 x 2 positions


@pytest.fixture
def make_clip(tiny_clip_folder, tmp_path) -> Callable[..., Clip]:
    """make_clip(vision_cfg): a random CLIP with this image tower."""

    def make(vision: dict[str, Any], params: ClipParams | None = None) -> Clip:
        folder = tmp_path / "clip"
        shutil.copytree(tiny_clip_folder, folder)
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"]["vision_cfg"] = vision
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        torch.manual_seed(1)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        for parameter in model.visual.parameters():  # zeros and ones as they are drawn would hide what is left out
            parameter.data += 0.1 * torch.randn_like(parameter)
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
        return Clip(folder, params or ClipParams(), torch.device("cpu"))

    return make


def pictures(clip: Clip, count: int = 3) -> list[Tensor]:
    return [clip.pixels(Image.fromarray(np.random.default_rng(i).integers(0, 255, (64, 64, 3), dtype=np.uint8))) for i in range(count)]


def micro() -> Clip:
    return Clip(ROOT / "data/foundation/micro", ClipParams(), torch.device("cpu"))


@pytest.mark.parametrize(("tower", "count"), [(VIT, 17), (RESNET, 5), (None, 65)], ids=["vit", "resnet", "micro"])
def test_the_pooled_features_are_those_of_the_stores_and_every_attention_is_a_mean(make_clip, tower, count):
    clip = make_clip(tower) if tower else micro()
    pixels = pictures(clip)
    found = image_tokens(clip, pixels)
    expected = clip.encode_pixels(pixels)
    assert expected.std() > 0.01
    np.testing.assert_allclose(found.pooled.numpy(), expected, atol=SUM_ORDER)
    if tower is not RESNET:
        torch.testing.assert_close(found.tokens[:, 0], found.pooled, atol=0, rtol=0)
    assert found.tokens.shape == (3, count, clip.width)
    assert found.attention.shape == (3, count, count)
    torch.testing.assert_close(found.attention.sum(2), torch.ones(3, count))


def test_the_attention_of_a_transformer_is_the_mean_of_its_last_blocks_heads_written_out(make_clip):
    clip = make_clip(VIT)
    last = clip.model.visual.transformer.resblocks[-1]
    normed: list[Tensor] = []
    last.ln_1.register_forward_hook(lambda module, args, output: normed.append(output[0]))
    found = image_tokens(clip, pictures(clip, 1)).attention[0]
    query, key, _ = nn.functional.linear(normed[0], last.attn.in_proj_weight, last.attn.in_proj_bias).chunk(3, dim=1)
    heads = [(query[:, rows] @ key[:, rows].T / 8**0.5).softmax(1) for rows in torch.arange(32).split(8)]
    assert (heads[0] - heads[1]).abs().max() > 0.01
    torch.testing.assert_close(found, sum(heads) / 4, atol=SUM_ORDER, rtol=0)


def test_patches_stand_behind_the_class_token_row_by_row(make_clip):
    clip = make_clip(VIT)
    for block in clip.model.visual.transformer.resblocks:  # nothing passes between positions
        for layer in (block.attn.out_proj, block.mlp.c_proj):
            nn.init.zeros_(layer.weight)
    pixels = pictures(clip, 1)[0]
    changed = pixels.clone()
    changed[:, 16:32, 32:48] += 1
    before, after = image_tokens(clip, [pixels, changed]).tokens
    assert torch.nonzero((before - after).abs().amax(1) > SUM_ORDER)[:, 0].tolist() == [1 + 1 * 4 + 2]


def test_the_attention_of_a_resnet_is_that_of_open_clips_own_pool(make_clip):
    clip = make_clip(RESNET)
    pool, inputs = clip.model.visual.attnpool, []
    clip.model.visual.layer4.register_forward_hook(lambda module, args, output: inputs.append(output))
    found = image_tokens(clip, pictures(clip))
    x = inputs[0].flatten(2).permute(2, 0, 1)
    x = torch.cat([x.mean(0, keepdim=True), x]) + pool.positional_embedding[:, None]
    _, expected = nn.functional.multi_head_attention_forward(
        x, x, x, x.shape[2], 4, None, torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
        pool.c_proj.weight, pool.c_proj.bias, use_separate_proj_weight=True, q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight, training=False)
    assert expected.std() > 100 * SUM_ORDER
    torch.testing.assert_close(found.attention, expected, atol=SUM_ORDER, rtol=0)


def test_the_tokens_of_a_resnet_of_one_head_under_its_attention_are_the_pooled_feature(make_clip):
    clip = make_clip({**RESNET, "head_width": 256})
    found = image_tokens(clip, pictures(clip))
    assert (found.tokens[:, 0] - found.pooled).abs().max() > 0.01
    torch.testing.assert_close((found.attention @ found.tokens)[:, 0], found.pooled, atol=SUM_ORDER, rtol=0)


@pytest.mark.parametrize("tower", [VIT, RESNET], ids=["vit", "resnet"])
def test_tokens_are_computed_in_the_encoders_precision_and_given_in_float32(make_clip, tower):
    clip = make_clip(tower, ClipParams(precision="bfloat16"))
    pixels = pictures(clip)
    found = image_tokens(clip, pixels)
    assert {part.dtype for part in (found.pooled, found.tokens, found.attention)} == {torch.float32}
    # both ways round to 8 bits in another order
    assert nn.functional.cosine_similarity(found.pooled, torch.from_numpy(clip.encode_pixels(pixels))).min() > 0.999
    clip.precision = "float32"
    assert (image_tokens(clip, pixels).pooled - found.pooled).abs().max() > 100 * SUM_ORDER


@pytest.mark.parametrize("tower", [
    {**VIT, "pool_type": "avg"}, {**VIT, "attentional_pool": True}, {**VIT, "block_type": "custom"},
    {"timm_model_name": "test_vit", "timm_proj": "linear", "image_size": 160},
], ids=["mean", "attentional", "custom block", "timm"])
def test_a_tower_whose_patches_are_not_in_clips_space_is_named(make_clip, user_error, tower):
    clip = make_clip(tower)
    message = user_error(image_tokens, clip, pictures(clip))
    assert str(clip.folder) in message
    assert "choose a CLIP" in message
