"""Which words of captions are right, by the record of what each image shows: what CHAIR and ColourAccuracy count, word by word."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..core import paths
from ..core.artefacts import whole
from ..core.files import read_object
from ..metrics.captions import tokenize
from ..metrics.chair import Shown, Vocabulary, verdict
from ..tasks.caption import shown_in

MEANINGS = {"right": "there", "wrong": "not there", "colour": "another colour"}
"""Of what is said of a word, by kind, in words."""


@dataclass(frozen=True)
class Piece:
    """A run of a caption's text. kind: of `MEANINGS`; "" where nothing is said of it."""

    text: str
    kind: str = ""


def mark(dataset: str, references: Mapping[str, Sequence[str]], captions: Mapping[str, Sequence[str]]) -> dict[str, list[list[Piece]]]:
    """Captions of a data set's images, in pieces that put together are the caption: one piece where the data set has no record of what its
    images show, none of an empty caption."""
    if not paths.vocabulary(dataset).exists():
        return {image_id: [[Piece(text)] if text else [] for text in texts] for image_id, texts in captions.items()}
    vocabulary = Vocabulary.of(read_object(whole(paths.vocabulary(dataset))))
    tokenized = tokenize({image_id: [*references[image_id], *texts] for image_id, texts in captions.items()})
    counts = {image_id: len(references[image_id]) for image_id in captions}
    shown = shown_in(dataset, {image_id: tokenized[image_id][:count] for image_id, count in counts.items()}, vocabulary)
    return {image_id: [_pieces(text, tokens, its, vocabulary)
                       for text, tokens in zip(captions[image_id], tokenized[image_id][count:], strict=True)]
            for (image_id, count), its in zip(counts.items(), shown, strict=True)}


def _pieces(text: str, tokens: str, shown: Shown, vocabulary: Vocabulary) -> list[Piece]:
    kinds: dict[int, tuple[int, str]] = {}  # of words: number of the mention that they belong to, and what is said of them
    for number, (mention, noun, colour) in enumerate(vocabulary.located(tokens)):
        there, coloured = verdict(mention, shown)
        kinds |= dict.fromkeys(noun, (number, "right" if there else "wrong"))
        if colour is not None and coloured is not None:
            kinds[colour] = number, "right" if coloured else "colour"
    spans = _spans(text, tokens.split())
    pieces, end = [], 0
    for key, words in groupby(range(len(spans)), lambda word: kinds.get(word)):
        if key and (found := [span for word in words if (span := spans[word])]):
            pieces += [Piece(text[end : found[0][0]]), Piece(text[found[0][0] : found[-1][1]], key[1])]
            end = found[-1][1]
    return [piece for piece in (*pieces, Piece(text[end:])) if piece.text]


def _spans(text: str, tokens: Sequence[str]) -> list[tuple[int, int] | None]:
    """Where each token stands in the text, in any case; None for one that the tokenizer wrote otherwise."""
    spans: list[tuple[int, int] | None] = []
    end = 0
    for token in tokens:
        found = re.compile(re.escape(token), re.IGNORECASE).search(text, end)
        spans.append(found.span() if found else None)
        end = found.end() if found else end
    return spans
