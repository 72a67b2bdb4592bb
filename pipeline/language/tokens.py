"""From text to token ids and back: CLIP's byte-pair vocabulary, or that of a pretrained language model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import open_clip
from transformers import AutoTokenizer

from ..core.paths import MERGES_FILE

IGNORE = -100  # in place of an id: there is no token, and no loss


class CaptionTokenizer(Protocol):
    """Text to ids and back. `start` begins a caption, `end` ends it."""

    start: int
    end: int
    size: int

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def save(self, folder: Path) -> None: ...


class ClipTokens:
    """CLIP's byte-pair vocabulary, lower case."""

    def __init__(self, merges: Path | None) -> None:
        self._merges = merges
        self._bpe = open_clip.SimpleTokenizer(**({"bpe_path": str(merges)} if merges else {}))
        self.start, self.end, self.size = self._bpe.sot_token_id, self._bpe.eot_token_id, self._bpe.vocab_size

    @staticmethod
    def of(folder: Path) -> ClipTokens:
        """With the merges that lie in a folder, or CLIP's own where there are none."""
        merges = folder / MERGES_FILE
        return ClipTokens(merges if merges.exists() else None)

    def encode(self, text: str) -> list[int]:
        return list(self._bpe.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self._bpe.decode(list(ids)).split())

    def save(self, folder: Path) -> None:
        if self._merges:
            shutil.copyfile(self._merges, folder / MERGES_FILE)


class LanguageModelTokens:
    """The tokenizer that belongs to a pretrained language model."""

    def __init__(self, source: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(source)
        if self._tokenizer.eos_token_id is None:
            raise ValueError("its tokenizer has no end-of-sequence token")
        self.end = int(self._tokenizer.eos_token_id)
        start = self._tokenizer.bos_token_id
        self.start, self.size = int(self.end if start is None else start), len(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).split())

    def save(self, folder: Path) -> None:
        self._tokenizer.save_pretrained(folder / "tokenizer")
