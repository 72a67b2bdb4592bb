"""Which captions of a corpus are drawn as pictures, or trained on where a recipe takes only some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_HELDOUT_SHARE = 20  # one in twenty of the captions drawn is held out, whatever the corpus's own share


def choose_rows(splits: Sequence[str], count: int | None) -> NDArray[np.int64]:
    """Rows of the `count` captions that are drawn, in the corpus's order: a fixed random choice, a twentieth of it held-out sentences.

    All rows when `count` is None or no smaller than the corpus.
    """
    names = np.array(splits)
    if count is None or count >= len(names):
        return np.arange(len(names))
    rng = np.random.default_rng(len(names))
    heldout, train = (rng.permutation(np.flatnonzero(kind)) for kind in (names == "heldout", names != "heldout"))
    kept = max(min(max(1, count // _HELDOUT_SHARE), len(heldout)), count - len(train))
    return np.sort(np.concatenate([heldout[:kept], train[: count - kept]]))
