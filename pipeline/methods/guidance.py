"""What CLIP says of each way to go on with a text, for methods that steer a language model by it.

Legend: R texts under way, T tokens, K candidates for the next one, N distinct texts, D CLIP width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..features.encoders import Clip
from ..features.stores import unit
from ..language.tokens import CaptionTokenizer


def continuations(tokenizer: CaptionTokenizer, tokens_RT: Tensor, candidates_RK: Tensor) -> list[list[str]]:
    """(R, K) texts so far with each candidate behind them; the end token adds nothing."""
    rows = zip(tokens_RT.tolist(), candidates_RK.tolist(), strict=True)
    return [[tokenizer.decode(tokens if last == tokenizer.end else [*tokens, last]) for last in candidates] for tokens, candidates in rows]


class Reader:
    """Reads texts with a CLIP, each once however often it is asked for."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._rows: dict[str, int] = {}
        self._features_ND = torch.empty(0, clip.width)

    def cosines(self, images_RD: Tensor, texts: Sequence[Sequence[str]]) -> Tensor:
        """(R, K) of unit image features and the K texts beside each."""
        new = [text for text in dict.fromkeys(text for its in texts for text in its) if text not in self._rows]
        if new:
            self._rows |= {text: row for row, text in enumerate(new, len(self._rows))}
            self._features_ND = torch.cat([self._features_ND, torch.from_numpy(unit(self._clip.encode_texts(new)))])
        rows_RK = torch.tensor([[self._rows[text] for text in its] for its in texts])
        return (self._features_ND[rows_RK].to(images_RD.device) @ images_RD[..., None])[..., 0]
