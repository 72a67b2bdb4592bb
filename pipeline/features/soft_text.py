"""Sentences as CLIP's token embeddings, hard or soft, so that a loss on `text_features_of` them reaches whoever wrote them.

Legend: B batch, T tokens, V CLIP's vocabulary, W width of the text tower.
"""

from __future__ import annotations

from torch import Tensor, nn

from .encoders import text_tower


def embed_tokens(model: nn.Module, ids_BT: Tensor) -> Tensor:
    """(B, T, W) embeddings of token ids."""
    embeddings_BTW: Tensor = text_tower(model).token_embedding(ids_BT)
    return embeddings_BTW


def embed_distributions(model: nn.Module, weights_BTV: Tensor) -> Tensor:
    """(B, T, W) mean embeddings under distributions over the vocabulary, such as Gumbel-Softmax draws, with gradients to these.

    Self-Supervised Image Captioning with CLIP (Jin, 2023), stage 2; that the draws are over CLIP's own vocabulary is our reading.
    """
    embeddings_BTW: Tensor = weights_BTV @ text_tower(model).token_embedding.weight
    return embeddings_BTW
