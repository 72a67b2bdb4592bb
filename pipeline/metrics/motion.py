"""Motions: what captions of films say that things do, against a record of what they do. Ours; in the manner of CHAIR's colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .chair import Truth, Vocabulary

Doing = tuple[str, frozenset[str]]
"""A thing's object, and the motions that it makes."""


@dataclass(frozen=True)
class MotionWords:
    """Phrases of single spaces, in lower case, for each motion. vocabulary: the words for things."""

    phrases: Mapping[str, Sequence[str]]
    vocabulary: Vocabulary

    def said(self, caption: str) -> list[tuple[tuple[str, ...], str]]:
        """The motions that a tokenized caption names, in its order, of overlapping phrases the longest; each with the objects that may be
        meant: those of the last thing named before it, none where none is."""
        meaning = {tuple(phrase.split()): motion for motion, its in self.phrases.items() for phrase in its}
        longest = max(map(len, meaning), default=0)
        words, found, start = caption.split(), [], 0
        while start < len(words):
            length = next((size for size in range(longest, 0, -1) if tuple(words[start : start + size]) in meaning), 0)
            if length:
                before = self.vocabulary.mentions(" ".join(words[:start]))
                found.append((before[-1].objects if before else (), meaning[tuple(words[start : start + length])]))
            start += max(length, 1)
        return found


def motions(captions: Sequence[str], done: Sequence[Sequence[Doing]], words: MotionWords) -> Truth:
    """Scores of tokenized captions, one per film.

    MotionAccuracy: of the motions that are named of things that are there, those that one of these makes. MotionCorrect: share of
    captions that name a motion and are right in every one that they name; one of a thing that is not there is wrong.
    """
    rows = [_counts(words.said(caption), doing) for caption, doing in zip(captions, done, strict=True)]
    columns = dict(zip(("MotionCorrect", "moved", "moved_right"), np.array(rows, np.float64).reshape(-1, 3).T, strict=True))
    named = float(columns["moved"].sum())
    return Truth({"MotionAccuracy": float(columns["moved_right"].sum()) / named} if named else {}, columns)


def _counts(said: Sequence[tuple[tuple[str, ...], str]], doing: Sequence[Doing]) -> tuple[float, ...]:
    judged = []
    for objects, motion in said:
        meant = [motions for name, motions in doing if not objects or name in objects]
        judged.append((bool(meant), any(motion in motions for motions in meant)))
    return float(bool(judged) and all(right for _, right in judged)), sum(there for there, _ in judged), sum(right for _, right in judged)
