"""Images as tokens of CLIP space with their attention: what methods that look at parts of an image, such as MacCap, are given.

Legend: B images, T tokens (the pooling one, then P patches row by row), D CLIP width, E width of the tower, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from ..core.device import precisely
from ..core.errors import UserError
from .encoders import Clip


@dataclass(frozen=True)
class ImageTokens:
    """Images in tokens, in float32 and not normalised, on the encoder's device.

    pooled: (B, D), the features that `Clip` returns. tokens: (B, T, D), the first one the class token, which is `pooled`, or a ResNet's
    mean position. attention: (B, T, T) from row to column in the last layer, mean of the heads; rows sum to 1. MacCap chooses patches by
    the first row, and reads their own rows.
    """

    pooled: Tensor
    tokens: Tensor
    attention: Tensor


@torch.inference_mode()
def image_tokens(clip: Clip, pixels: Sequence[Tensor]) -> ImageTokens:
    """Tokens of images prepared by `Clip.pixels`, all encoded at once. Raises `UserError` where the image tower pools in another way.

    Vision Transformer: tokens of the last block behind the final norm and the projection, as MacCap's code takes them. ResNet: each
    position's value through the output projection of the attention pool (MaskCLIP, Zhou et al., ECCV 2022).
    """
    tower = clip.model.visual
    if isinstance(tower, ModifiedResNet):
        tokenize = _resnet_tokens
    elif (isinstance(tower, VisionTransformer) and tower.attn_pool is None and tower.pool_type == "tok"
          and isinstance(tower.transformer.resblocks[-1].attn, nn.MultiheadAttention)):
        tokenize = _transformer_tokens
    else:
        raise UserError(f"{clip.folder}: its image tower ({type(tower).__name__}) pools neither by a class token nor by CLIP's attention, "
                        "which leaves its patches out of CLIP's space: choose a CLIP with a plain ViT or ResNet in params.yaml")
    with precisely(clip.precision, clip.device):
        found = tokenize(tower, torch.stack(list(pixels)).to(clip.device))
    return ImageTokens(*(each.float() for each in found))


def _transformer_tokens(tower: Any, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x_BTE = tower._embeds(images)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x_BTE = block(x_BTE)
    normed_BTE = last.ln_1(x_BTE)
    attention_BTT = last.attn(normed_BTE, normed_BTE, normed_BTE)[1]
    tokens_BTD = tower.ln_post(last(x_BTE)) @ tower.proj
    return tokens_BTD[:, 0], tokens_BTD, attention_BTT


def _resnet_tokens(tower: Any, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pool = tower.attnpool
    x = tower.stem(images)
    for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        x = layer(x)
    x_BPE = x.flatten(2).mT
    x_BTE = torch.cat([x_BPE.mean(1, keepdim=True), x_BPE], dim=1) + pool.positional_embedding
    values_BTE = pool.v_proj(x_BTE)
    queries_BHTe, keys_BHTe, values_BHTe = (rows_BTE.unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
                                            for rows_BTE in (pool.q_proj(x_BTE), pool.k_proj(x_BTE), values_BTE))
    attention_BHTT = (queries_BHTe @ keys_BHTe.mT / queries_BHTe.shape[-1] ** 0.5).softmax(dim=-1)
    pooled_BD = pool.c_proj((attention_BHTT[:, :, 0, None] @ values_BHTe).flatten(1))
    return pooled_BD, pool.c_proj(values_BTE), attention_BHTT.mean(1)
