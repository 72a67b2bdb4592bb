"""Captions are cleaned, the bad ones sorted out, some drawn, some held out."""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.errors import UserError
from ..core.files import UNWANTED
from .parameters import ExtractParams
from .records import Caption

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")


@dataclass(frozen=True)
class Cleaned:
    """Captions of one table after cleaning, in source order, and what happened on the way."""

    kept: list[Caption]
    skipped: list[dict[str, str]]
    read: int
    normalised: int
    unescaped: int


def clean(captions: Iterable[Caption], noun: str, params: ExtractParams) -> Cleaned:
    """Write out HTML's entities, strip the captions, make each run of whitespace, newlines included, one space, and sort out the bad ones.

    Entities are those that end in a semicolon, also escaped twice (`&amp;#39;`): the tokenizers of metrics and of CLIP write them out too.
    Whitespace is what `str.split` takes for it: Unicode's, with U+2028, U+2029, VT, FF, \\x85 and the separators \\x1c to \\x1f.
    Raises `UserError` for the first bad caption unless `params.bad_captions` is "skip".
    """
    kept, skipped, read, normalised, unescaped = [], [], 0, 0, 0
    for caption in captions:
        read += 1
        written = caption.text or ""
        text = " ".join((plain := unescape(written)).split())
        normalised += text != plain
        unescaped += plain != written
        reason = "the caption is null" if caption.text is None else _fault(text, params.max_characters)
        if reason is None:
            kept.append(caption if text == written else caption._replace(text=text))
        elif params.bad_captions == "skip":
            skipped.append({"source": params.source, "record": caption.caption_id, "reason": reason})
        else:
            raise UserError(f"{params.source}, {noun} {caption.caption_id}: {reason}: "
                            "correct it, or set bad_captions to 'skip' to leave such captions out")
    return Cleaned(kept, skipped, read, normalised, unescaped)


def unescape(text: str) -> str:
    """The text with HTML's entities written out, twice, as CLIP's own tokenizer does."""
    for _ in range(2 if "&" in text else 0):
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    return text


def draw(captions: list[Caption], limit: int | None, seed: int) -> list[Caption]:
    """At most `limit` captions, in their order; the draw for a smaller limit is part of the draw for a larger one."""
    if limit is None or limit >= len(captions):
        return captions
    order = _shuffled([caption.caption_id for caption in captions], f"limit {seed}")
    chosen = set(order[:limit])
    return [caption for caption in captions if caption.caption_id in chosen]


def hold_out(captions: Sequence[Caption], share: float, seed: int) -> list[Caption]:
    """The same captions with split "train" or "heldout"; captions of one image stay together, and so do equal sentences of none.

    Groups are held out until they make up `share` of the captions; the last one may exceed it.
    """
    # A sentence that is also trained on would make the held-out loss look better than it is.
    groups = Counter(_group(caption) for caption in captions)
    target, count = share * len(captions), 0
    held: set[str] = set()
    for group in _shuffled(groups, f"heldout {seed}")[:-1]:
        if count >= target:
            break
        held.add(group)
        count += groups[group]
    splits = ("heldout" if _group(caption) in held else "train" for caption in captions)
    return [caption if caption.split == own else caption._replace(split=own) for caption, own in zip(captions, splits, strict=True)]


def _group(caption: Caption) -> str:
    return (caption.text or "") if caption.image_id is None else caption.image_id


def _shuffled(names: Iterable[str], purpose: str) -> list[str]:
    # Hashes, because the order of a library's random draw may change with its version and this one must not.
    key = purpose.encode()
    return sorted(names, key=lambda name: hashlib.blake2b(name.encode(), key=key[:64], digest_size=16).digest())


def _fault(text: str, max_characters: int) -> str | None:
    if not text:
        return "the caption is empty"
    if len(text) > max_characters:
        return f"the caption has {len(text)} characters, more than max_characters = {max_characters}"
    if found := UNWANTED.search(text):
        return f"the caption holds the character U+{ord(found[0]):04X}, which is no text"
    if not any(character.isalnum() for character in text):
        return "the caption has no word"
    return None
