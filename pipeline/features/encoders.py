"""CLIP through open_clip: one loader for the shipped models, local folders and the named real ones.

Legend: B batch, T tokens, W width of the text tower, D CLIP width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..core import paths
from ..core.artefacts import whole_if_sealed
from ..core.device import Precision, precisely, resolved
from ..core.errors import UserError, loading
from ..core.files import digest_model
from ..core.params import Count, StrictParams, section
from ..core.paths import MERGES_FILE
from ..images import Source, open_image, prepared_ahead

_ADVICE = "restore the folder with `git checkout`, or put weights there that belong to this model"


@dataclass(frozen=True)
class ClipParams(StrictParams):
    """One entry of `clips`; the model itself lies in `data/foundation/<name>`, in open_clip's own layout.

    batch: texts or images encoded at once. precision: see `Precision`.
    """

    batch: Count = 256
    precision: Precision = "auto"


class Clip:
    """A frozen CLIP. All features that it returns are float32 and not normalised."""

    def __init__(self, folder: Path, params: ClipParams, device: torch.device) -> None:
        """Load from a folder with `open_clip_config.json` and its weights; raises `UserError` when they are missing or do not fit."""
        self.folder, self.params, self.device = folder, params, device
        self.precision = resolved(params.precision, device)
        model, self.preprocess, self.tokenizer = _load(folder)
        self.model: Any = model
        self.model.eval().requires_grad_(False).to(device)
        with loading(folder, "CLIP", _ADVICE):
            tried = self.encode_images([Image.new("RGB", (8, 8))]), self.encode_texts(["a"])
            if not all(np.isfinite(features).all() and features.shape == (1, self.width) for features in tried):
                raise ValueError("it gives what is no number, or image and text features of other widths")

    @property
    def width(self) -> int:
        """D."""
        tower = text_tower(self.model)
        projection = tower.text_projection
        return int(projection.shape[1] if isinstance(projection, Tensor) else projection.out_features)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all files that decide its answers: weights, configuration, vocabulary; in hex."""
        return digest_model(self.folder)

    @property
    def preprocessing(self) -> str:
        """The image transform, as text, for the stores' attributes."""
        return " ".join(str(self.preprocess).split())

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(B, context) token ids, longer texts cut with the end token kept."""
        ids: Tensor = self.tokenizer(list(texts))
        return ids

    def count_truncated(self, texts: Sequence[str], tokens: Tensor) -> int:
        """How many of the texts had more tokens than the tower's context, given their `tokens`."""
        context = tokens.shape[1]
        full = [texts[i] for i in torch.nonzero(tokens.argmax(1) == context - 1)[:, 0].tolist()]
        return int((self.tokenizer(full, context_length=context + 1).argmax(1) == context).sum()) if full else 0

    @torch.inference_mode()
    def encode_tokens(self, tokens: Tensor) -> NDArray[np.float32]:
        """(B, D) of (B, context) ids. Texts of like length are encoded together, so that little padding is computed."""
        order = torch.argsort(tokens.argmax(1), stable=True)
        features = torch.empty(len(tokens), self.width)
        for rows in order.split(self.params.batch):
            with precisely(self.precision, self.device):
                features[rows] = text_features(self.model, tokens[rows].to(self.device)).float().cpu()
        return features.numpy()

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(B, D)."""
        return self.encode_tokens(self.tokens(texts))

    def pixels(self, image: Image.Image) -> Tensor:
        """(3, H, W) of an RGB image, as the image tower takes it; a photograph shrinks to a few hundred kilobytes."""
        prepared: Tensor = self.preprocess(image)
        return prepared

    @torch.inference_mode()
    def encode_pixels(self, pixels: Sequence[Tensor]) -> NDArray[np.float32]:
        """(B, D) of prepared images."""
        with precisely(self.precision, self.device):
            parts = [self.model.encode_image(torch.stack(list(pixels[start : start + self.params.batch])).to(self.device)).float().cpu()
                     for start in range(0, len(pixels), self.params.batch)]
        return torch.cat(parts).numpy() if parts else np.empty((0, self.width), np.float32)

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """(B, D) of RGB images."""
        return self.encode_pixels([self.pixels(image) for image in images])

    def encode_files(self, paths: Sequence[Source]) -> NDArray[np.float32]:
        """(B, D) of pictures on disk, two batches of prepared images in memory at a time. Raises `UserError` on a broken one."""
        ready = prepared_ahead(paths, self.params.batch, lambda file: self.pixels(open_image(file)))
        parts = [self.encode_pixels(batch) for batch in ready]
        return np.concatenate(parts) if parts else np.empty((0, self.width), np.float32)


def load_clip(name: str, params: dict[str, Any], device: torch.device) -> Clip:
    """The CLIP that params.yaml calls `name`; `UserError` when it is not there."""
    return Clip(paths.foundation(name), section(ClipParams, params, f"clips.{name}"), device)


def text_tower(model: nn.Module) -> Any:
    """The text tower: the model itself in open_clip's plain CLIP, its `text` in the custom one."""
    return getattr(model, "text", model)


def text_features(model: nn.Module, tokens_BT: Tensor) -> Tensor:
    """(B, D) text features of (B, T) token ids, not normalised, with gradients to the weights.

    The tower is causal and pools at the end token, the largest id: cutting the batch to its longest text changes nothing but the time.
    """
    ends_B = tokens_BT.argmax(1)
    return text_features_of(model, text_tower(model).token_embedding(tokens_BT[:, : int(ends_B.max()) + 1]), ends_B)


def text_features_of(model: nn.Module, embeddings_BTW: Tensor, ends_B: Tensor) -> Tensor:
    """(B, D) text features of token embeddings with end tokens at `ends_B`, not normalised, with gradients to the embeddings.

    T may be anything up to the tower's context; what follows the end tokens changes nothing.
    """
    tower = text_tower(model)
    length = embeddings_BTW.shape[1]
    x_BTW = embeddings_BTW + tower.positional_embedding[:length]
    x_BTW = tower.ln_final(tower.transformer(x_BTW, attn_mask=tower.attn_mask[:length, :length]))
    pooled_BW = x_BTW[torch.arange(len(x_BTW), device=x_BTW.device), ends_B]
    projection = tower.text_projection
    features: Tensor = projection(pooled_BW) if isinstance(projection, nn.Linear) else pooled_BW @ projection
    return features


def _load(folder: Path) -> tuple[nn.Module, Callable[[Image.Image], Tensor], Any]:
    if not (folder / "open_clip_config.json").exists():
        raise UserError(f"{folder} holds no CLIP (no open_clip_config.json): restore it with `git checkout`, "
                        "correct the name in params.yaml, or bring one with `unpaired model add clip`")
    whole_if_sealed(folder)
    name = f"local-dir:{folder}"
    # open_clip does not look for merges beside the model by itself
    tokenizer_options = {"bpe_path": str(folder / MERGES_FILE)} if (folder / MERGES_FILE).exists() else {}
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # open_clip reports its search for files as warnings
    try:
        with loading(folder, "CLIP", _ADVICE):
            model, _, preprocess = open_clip.create_model_and_transforms(name, require_pretrained=True)
            tokenizer = open_clip.get_tokenizer(name, **tokenizer_options)
            tower = text_tower(model)
            pooling = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
            if pooling != "argmax" or getattr(tower, "attn_mask", None) is None or getattr(tower, "cls_emb", None) is not None:
                raise ValueError(f"its text tower is not CLIP's causal one (pooling {pooling}): SigLIP, CoCa and Hugging Face towers fail")
            known, embedded = getattr(tokenizer, "vocab_size", None), tower.token_embedding.num_embeddings
            if known is not None and known != embedded:
                raise ValueError(f"its tokenizer has {known} tokens, its text tower {embedded}: is {MERGES_FILE} missing?")
            return model, preprocess, tokenizer
    finally:
        logging.root.setLevel(level)
