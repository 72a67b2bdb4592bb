"""CHAIR: which things of a caption the picture does not show (Rohrbach et al., EMNLP 2018, arXiv:1809.02156); beside it recall of things,
colours, and captions that are right in everything they name.

A picture's record says what it shows; a vocabulary says which words name which object. Captions are tokenized, in lower case. As in the
published protocol an object that any reference of a picture names counts as shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "couple": 2}
# what never stands between a number and its noun
_NOT_BETWEEN = frozenset({"a", "an", "the", "and", "or", "with", "in", "on", "at", "by", "near", "to", "under", "above", "behind",
                          "beside"})
_QUALIFIERS = frozenset({"baby", "adult", "passenger"})  # of what follows: a baby elephant shows no person
_PLURALS = {"man": "men", "woman": "women", "person": "people", "child": "children", "human": "humans", "calf": "calves",
            "mouse": "mice", "goose": "geese", "ox": "oxen",
            "fish": "fish", "sheep": "sheep", "aircraft": "aircraft", "sunshine": "sunshine"}


class Mention(NamedTuple):
    """A caption names a number of things of one of these objects, of a colour where it says so."""

    objects: tuple[str, ...]
    number: int
    colour: str | None


class Located(NamedTuple):
    """A mention, where its noun stands among the caption's words, and where the word that says its colour does."""

    mention: Mention
    noun: range
    colour: int | None


class Verdict(NamedTuple):
    """there: whether the picture shows what a mention names. colour: whether one of these is in the colour that it says; None where it
    says none, or one of theirs is not recorded."""

    there: bool
    colour: bool | None


@dataclass(frozen=True)
class Shown:
    """What a picture shows: its things, each an object and a colour where that is recorded, and objects of which there may be any
    number."""

    things: tuple[tuple[str, str | None], ...]
    unbounded: frozenset[str] = frozenset()

    @cached_property
    def objects(self) -> frozenset[str]:
        """Every object that is there."""
        return self.unbounded | {name for name, _ in self.things}


@dataclass(frozen=True)
class Vocabulary:
    """Words and phrases, each divided by single spaces, in lower case.

    objects: what may name each object; a phrase that several list means any of them. colours: likewise; without any, colours are not
    scored. nothing: phrases that name no object though a word of theirs does ("at home").
    """

    objects: Mapping[str, Sequence[str]]
    colours: Mapping[str, Sequence[str]]
    nothing: Sequence[str] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Vocabulary:
        """From its JSON."""
        return cls(record["objects"], record["colours"], record["nothing"])

    def mentions(self, caption: str) -> list[Mention]:
        """What a tokenized caption names, in its order."""
        return [found.mention for found in self.located(caption)]

    def located(self, caption: str) -> list[Located]:
        """The same and where it stands; of overlapping phrases the longest counts.

        A colour belongs to the noun right behind it, or before it in the manner of "a man in red". A plural means two or more.
        """
        words = caption.split()
        found: list[tuple[int, int, tuple[str, ...], bool]] = []
        start = 0
        while start < len(words):
            end, objects, plural = self._longest(words, start)
            follows = end > start and bool(self._longest(words, end)[1])
            if objects and not (follows and (words[start] in _QUALIFIERS or words[start] in self._colour)):
                found.append((start, end, objects, plural))
            start = max(end, start + 1)
        starts, ends = {start for start, *_ in found}, [0, *(end for _, end, *_ in found)]
        located = []
        for before, (start, end, objects, plural) in zip(ends, found, strict=False):
            colour = self._colour_of(words, start, end, starts)
            mention = Mention(objects, _number(words[max(before, start - 3) : start], plural),
                              None if colour is None else self._colour[words[colour]])
            located.append(Located(mention, range(start, end), colour))
        return located

    def _longest(self, words: Sequence[str], start: int) -> tuple[int, tuple[str, ...], bool]:
        """Where the longest phrase from `start` on ends, its objects (none where it names nothing), and whether it is a plural."""
        for phrase in self._phrases.get(words[start], ()) if start < len(words) else ():
            if tuple(words[start : start + len(phrase)]) == phrase:
                return start + len(phrase), *self._meaning[phrase]
        return start, (), False

    def _colour_of(self, words: Sequence[str], start: int, end: int, starts: set[int]) -> int | None:
        """Where the word stands that says the colour of a noun."""
        if start and words[start - 1] in self._colour:
            return start - 1
        if words[end : end + 1] == ["in"] and end + 2 not in starts and end + 1 < len(words) and words[end + 1] in self._colour:
            return end + 1
        return None

    @cached_property
    def _meaning(self) -> dict[tuple[str, ...], tuple[tuple[str, ...], bool]]:
        named: dict[tuple[str, ...], tuple[tuple[str, ...], bool]] = {}
        listed = [(phrase, name) for name, phrases in self.objects.items() for phrase in phrases]
        for plural, pairs in ((False, listed), (True, [(_plural(phrase), name) for phrase, name in listed])):
            for phrase, name in pairs:
                objects, is_plural = named.get(words := tuple(phrase.split()), ((), plural))
                if is_plural == plural:  # what is listed itself is no plural
                    named[words] = tuple(dict.fromkeys((*objects, name))), plural
        return named | {tuple(phrase.split()): ((), False) for phrase in self.nothing}

    @cached_property
    def _phrases(self) -> dict[str, list[tuple[str, ...]]]:
        """By first word, the longest first."""
        phrases: dict[str, list[tuple[str, ...]]] = {}
        for phrase in sorted(self._meaning, key=len, reverse=True):
            phrases.setdefault(phrase[0], []).append(phrase)
        return phrases

    @cached_property
    def _colour(self) -> dict[str, str]:
        return {word: colour for colour, words in self.colours.items() for word in words}


@dataclass(frozen=True)
class Truth:
    """Shares, 0 to 1. corpus: CHAIRi, ObjectRecall, ColourAccuracy, pooled over all captions; one over nothing is left out.
    per_image: CHAIRs and Correct, 0 or 1, and the counts that are pooled, each (N,)."""

    corpus: dict[str, float]
    per_image: dict[str, NDArray[np.float64]]


def chair(captions: Sequence[str], shown: Sequence[Shown], vocabulary: Vocabulary) -> Truth:
    """Scores of tokenized captions, one per picture.

    CHAIRs: share of captions that name a thing that is not there. CHAIRi: share of such among all mentions. ObjectRecall: of the objects
    that pictures show, those that captions name. ColourAccuracy: of the mentions with a colour whose object is there, in colours that are
    all recorded, those in whose colour one is. Correct: share of captions whose every mention can be given things of its own, as many as it
    says, in its colour; one that names nothing is so where nothing is shown.
    """
    rows = [_counts(vocabulary.mentions(caption), what) for caption, what in zip(captions, shown, strict=True)]
    columns = dict(zip(("CHAIRs", "Correct", "mentioned", "hallucinated", "shown", "named", "coloured", "coloured_right"),
                       np.array(rows, np.float64).reshape(-1, 8).T, strict=True))
    sums = {name: float(values.sum()) for name, values in columns.items()}
    shares = {"CHAIRi": ("hallucinated", "mentioned"), "ObjectRecall": ("named", "shown"), "ColourAccuracy": ("coloured_right", "coloured")}
    return Truth({name: sums[part] / sums[whole] for name, (part, whole) in shares.items() if sums[whole]}, columns)


def with_references(shown: Shown, references: Sequence[str], vocabulary: Vocabulary) -> Shown:
    """The same with what tokenized references name besides, in any number."""
    named = {mention.objects[0] for text in references for mention in vocabulary.mentions(text) if len(mention.objects) == 1}
    return Shown(shown.things, shown.unbounded | (named - shown.objects))


def verdict(mention: Mention, shown: Shown) -> Verdict:
    """Whether a picture shows what is said of it."""
    there = not shown.objects.isdisjoint(mention.objects)
    colours = {colour for name, colour in shown.things if name in mention.objects}
    known = mention.colour and colours and None not in colours and shown.unbounded.isdisjoint(mention.objects)
    return Verdict(there, mention.colour in colours if known else None)


def _counts(mentions: Sequence[Mention], shown: Shown) -> tuple[float, ...]:
    verdicts = [verdict(mention, shown) for mention in mentions]
    absent = sum(not its.there for its in verdicts)
    named = {name for mention in mentions for name in mention.objects} & shown.objects
    colours = [its.colour for its in verdicts if its.colour is not None]
    correct = _given(mentions, shown) if mentions else not shown.objects
    return (float(absent > 0), float(correct), len(mentions), absent, len(shown.objects), len(named), len(colours), sum(colours))


def _given(mentions: Sequence[Mention], shown: Shown) -> bool:
    """Whether every mention can be given as many things of its own as it says: augmenting paths from each to a free thing."""
    wanted = [mention for mention in mentions if shown.unbounded.isdisjoint(mention.objects) for _ in range(mention.number)]
    owner: dict[int, int] = {}

    def assign(unit: int, tried: set[int]) -> bool:
        mention = wanted[unit]
        for number, (name, colour) in enumerate(shown.things):
            if number not in tried and name in mention.objects and (mention.colour == colour or None in (mention.colour, colour)):
                tried.add(number)
                if number not in owner or assign(owner[number], tried):
                    owner[number] = unit
                    return True
        return False

    return all(assign(unit, set()) for unit in range(len(wanted)))


def _number(before: Sequence[str], plural: bool) -> int:
    """Said by the words before a noun."""
    for word in reversed(before):
        if word in _NUMBERS:
            return _NUMBERS[word]
        if word in _NOT_BETWEEN:
            break
    return 2 if plural else 1


def _plural(phrase: str) -> str:
    """Of its last word, by rule but for `_PLURALS`."""
    head, space, last = phrase.rpartition(" ")
    if last in _PLURALS:
        return head + space + _PLURALS[last]
    if last.endswith("man"):
        return f"{head}{space}{last[:-3]}men"
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return f"{head}{space}{last}es"
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return f"{head}{space}{last[:-1]}ies"
    return f"{head}{space}{last[:-2]}ves" if last.endswith("fe") else f"{head}{space}{last}s"
