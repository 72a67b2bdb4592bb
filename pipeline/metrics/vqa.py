"""The accuracy of answers about pictures, by the official evaluation of VQA (Antol et al. 2015, arXiv:1505.00468; Goyal et al. 2017).

The rules are those of GT-Vision-Lab/VQA as corrected in March 2021: answers of people and of systems go through the same ones, unless all
people say the same. Earlier versions normalised a system's answer always, and people's without digits and articles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PUNCTUATION = ";/[]\"{}()=+\\_-><@`,?!"
_COMMA_IN_NUMBER = re.compile(r"[0-9],[0-9]")
_PERIOD = re.compile(r"\.(?![0-9])")
_PERIODS = 32  # a flag of `re` stands where the official code would have a count, and is taken for one
_NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
            "eight": "8", "nine": "9", "ten": "10"}
_ARTICLES = ("a", "an", "the")
# Known without their apostrophe, and with one of several missing.
_ONE_APOSTROPHE = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't it'd it'll ma'am
    might've mightn't must've mustn't needn't not've o'clock oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll
    someone's something'd something'll that's there'd there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll
    what're what's what've when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd
    you'll you're you've"""
_SEVERAL_APOSTROPHES = """
    couldn't've hadn't've he'd've it'd've mightn't've 'ow's'at she'd've shouldn't've somebody'd've someone'd've something'd've there'd've
    they'd've we'd've who'd've wouldn't've y'all'd've y'all'll you'd've"""
_CONTRACTIONS = {
    "somebody'd": "somebodyd",  # as published
    **{word.replace("'", ""): word for word in _ONE_APOSTROPHE.split()},
    **{word[:place] + word[place + 1 :]: word for word in _SEVERAL_APOSTROPHES.split() for place, mark in enumerate(word) if mark == "'"},
}


def normalise(answer: str) -> str:
    """An answer in the form in which answers are compared: what VQA's rules take for the same becomes the same text.

    Line ends and tabs become spaces, outer whitespace goes. Each punctuation mark becomes a space; it vanishes instead, wherever it stands,
    if it touches a space somewhere, and every one does if a comma divides digits anywhere. A period vanishes unless a digit follows;
    colons and apostrophes stay. Then, word by word in lower case: "none" and "zero" to "ten" become digits, articles go, and known
    contractions get their apostrophe. Words end up with single spaces between them.
    """
    text = _stripped(answer)
    vanishing = {mark for mark in _PUNCTUATION if f"{mark} " in text or f" {mark}" in text or _COMMA_IN_NUMBER.search(text)}
    unmarked = text.translate({ord(mark): "" if mark in vanishing else " " for mark in _PUNCTUATION})
    words = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", unmarked, count=_PERIODS).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def accuracy(answer: str, answers: Sequence[str]) -> float:
    """How far people agree with an answer, 0 to 1: each of them left out in turn, the mean of min(1, how many others say the same / 3).

    answers: of one or more people, ten in VQA, where 0 to 4 who say the same make 0, 0.3, 0.6, 0.9 and 1. One person alone makes 0.
    All are normalised first; where all people say the same to the letter, only outer whitespace, line ends and tabs of any answer are.
    """
    assert answers
    ours, theirs = _stripped(answer), [_stripped(other) for other in answers]
    if len(set(theirs)) > 1:
        ours, theirs = normalise(answer), [normalise(other) for other in answers]
    people, same = len(theirs), theirs.count(ours)
    # in thirds, of which each person left out contributes at most three: one division, so that 0.3 is 0.3
    return (same * min(3, same - 1) + (people - same) * min(3, same)) / (3 * people)


def _stripped(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()
