"""How well a language model foretells captions: the exponential of its mean loss per token, the end of a caption being one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from ..core.artefacts import repair, whole_if_sealed
from ..core.errors import loading
from .causal import predict, pretrained
from .decoders import pad
from .tokens import IGNORE, LanguageModelTokens

_BATCH = 128


class LanguageModel:
    """A left-to-right language model of transformers in a local folder, with its tokenizer. `UserError` when it is not there."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        with loading(whole_if_sealed(folder), "language model", lambda: repair(folder)):
            self._lm, self._tokenizer = pretrained(str(folder)).to(device), LanguageModelTokens(str(folder))
        self._device = device

    @torch.inference_mode()
    def perplexity(self, texts: Sequence[str]) -> float:
        """Of texts, all their tokens together; an empty one is its end alone."""
        rows = sorted(([self._tokenizer.start, *self._tokenizer.encode(text), self._tokenizer.end] for text in texts), key=len)
        total = 0.0
        for start in range(0, len(rows), _BATCH):
            ids_BT = pad(rows[start : start + _BATCH]).to(self._device)
            words_BTW = self._lm.get_input_embeddings()(ids_BT[:, :-1].where(ids_BT[:, :-1] != IGNORE, 0))
            logits_BTV = predict(self._lm, words_BTW, torch.ones_like(ids_BT[:, :-1]), ids_BT.shape[1] - 1)  # padding stands behind
            total += torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT[:, 1:].flatten(), ignore_index=IGNORE,
                                                       reduction="sum").item()
        return math.exp(total / sum(len(row) - 1 for row in rows))
