"""CLIP towers through open_clip."""
from __future__ import annotations
import torch
from torch import Tensor, nn
import open_clip

def text_features(model: nn.Module, tokens: Tensor) -> Tensor:
    tower = getattr(model, "text", model)
    tokens = tokens[:, : int(tokens.argmax(1).max()) + 1]
    length = tokens.shape[1]
    x = tower.token_embedding(tokens) + tower.positional_embedding[:length]
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    x = tower.ln_final(x)
    x = x[torch.arange(len(x)), tokens.argmax(1)]
    return x @ tower.text_projection
