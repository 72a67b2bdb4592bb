"""Markers that language models leave in captions, such as `<|endoftext|>` and `</s>`: counted, or taken out.

`<unk>` is none: it stands for a word that the captioner said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_NAMES = r"(?:s|pad|bos|eos|sos|sot|eot|cls|sep|mask|go|start|end|(?:start|end)_?of_?(?:text|sentence|sequence))"
# `<-pad->` is MAGIC's. Inside `<|` and `|>` any name is a marker, as in `<|im_end|>`.
_MARKER = re.compile(rf"<[/-]?{_NAMES}-?>|<\|[a-z\d_]+\|>|\[{_NAMES}\]", re.I)


def count_markers(texts: Iterable[str]) -> dict[str, int]:
    """How often each marker occurs, as it is written there, the commonest first."""
    return dict(Counter(marker for text in texts for marker in _MARKER.findall(text)).most_common())


def without_markers(text: str) -> str:
    """The text with a blank for each marker."""
    return _MARKER.sub(" ", text)
