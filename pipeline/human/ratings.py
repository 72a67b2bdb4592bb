"""What raters' answers to a blind sheet say: whose captions they prefer, and how far they agree."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np

from ..core.errors import UserError
from ..core.files import read_object
from ..metrics import bootstrap
from .sheet import CHOICES, CRITERIA


@dataclass(frozen=True)
class Answers:
    """One rater's. choices: by item and criterion, one of `CHOICES`; what was not answered is left out."""

    rater: str
    choices: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Preference:
    """One criterion over all raters.

    shares: of each system and of "neither", over answers, 0 to 1. preferred: mean over pictures, and over the raters of each, of 1
    where the first system is chosen, 1/2 where neither is; low, high: its 95 % bootstrap interval over pictures, NaN with one
    picture. alpha: Krippendorff's, nominal; 1 is agreement, 0 chance; NaN where no two raters answered the same picture, or all
    answers are alike. answers: how many there are.
    """

    criterion: str
    shares: dict[str, float]
    preferred: float
    low: float
    high: float
    alpha: float
    answers: int


def score(key_file: Path, files: Sequence[Path], seed: int = 0, samples: int = 1000) -> tuple[list[Preference], dict[str, Any]]:
    """Preferences by criterion, and the key's record. Raises `UserError` for a file that is no answer to this sheet, that was changed
    after it was saved, or that is there twice."""
    key = _read_key(key_file)
    raters = _read_all(key, files)
    return [_preference(criterion, key, raters, seed, samples) for criterion in CRITERIA], key


def table(preferences: Sequence[Preference], key: Mapping[str, Any]) -> str:
    """As Markdown."""
    first, second = key["systems"]
    head = ["criterion", "answers", first, second, "neither", f"{first} preferred [95 %]", "Krippendorff's alpha"]
    rows = [head, ["---"] * len(head)]
    for each in preferences:
        interval = "" if isnan(each.low) else f" [{each.low:.3f}, {each.high:.3f}]"
        rows.append([each.criterion, str(each.answers), *(f"{each.shares[name]:.3f}" for name in (first, second, "neither")),
                     f"{each.preferred:.3f}{interval}", "—" if isnan(each.alpha) else f"{each.alpha:.2f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def checksum(sheet: str, rater: str, copy: str, choices: Mapping[str, Mapping[str, str]], ids: Sequence[str]) -> str:
    """CRC-32 of all answers, as the page computes it: against slips, not against those who want to cheat."""
    lines = [sheet, rater, copy, *(":".join([item, *(choices.get(item, {}).get(name, "") for name in CRITERIA)]) for item in ids)]
    return f"{zlib.crc32(chr(10).join(lines).encode()):08x}"


def _read_key(file: Path) -> dict[str, Any]:
    key = read_object(file)
    try:
        systems, items = key["systems"], key["items"]
        known = all(isinstance(item["id"], str) and item["a"] in systems for item in items)
        different = len({item["id"] for item in items}) == len(items) > 0 and len({*systems}) == len(systems) == 2
        if not (isinstance(key["sheet"], str) and all(isinstance(system, str) for system in systems) and different and known):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{file} is no key of a sheet: name the key.json that `unpaired judge export` wrote") from None
    return key


def _read_all(key: Mapping[str, Any], files: Sequence[Path]) -> list[Answers]:
    seen: dict[str, Path] = {}
    raters = []
    for file in files:
        found, copy = _read(key, file)
        for what, name in (("the same copy of the page", f"copy {copy}"), (f"rater {found.rater!r}", f"rater {found.rater}")):
            if name in seen:
                raise UserError(f"{file} is of {what} as {seen[name]}: keep the one that counts")
            seen[name] = file
        raters.append(found)
    if not raters:
        raise UserError("no answers: name the files that raters saved")
    return raters


def _read(key: Mapping[str, Any], file: Path) -> tuple[Answers, str]:
    """A rater's answers, and which copy of the page they were given in."""
    record = read_object(file)
    ids = [item["id"] for item in key["items"]]
    sheet, rater, copy, check = (record.get(name) for name in ("sheet", "rater", "copy", "check"))
    choices: Any = record.get("answers")
    if not (isinstance(sheet, str) and isinstance(rater, str) and isinstance(copy, str) and _are_answers(choices)):
        raise UserError(f"{file} holds no answers to a sheet: name the file that a rater saved")
    if sheet != key["sheet"]:
        raise UserError(f"{file} is of another sheet ({sheet}; the key is of {key['sheet']}): leave it out, or name its key")
    try:
        whole = check == checksum(sheet, rater, copy, choices, ids) and set(choices) <= set(ids)
    except UnicodeEncodeError:  # half a character, which no page writes
        whole = False
    if not whole:
        raise UserError(f"{file} was changed after it was saved: ask its rater to save it again")
    if not any(choices.values()):
        raise UserError(f"{file} answers nothing: leave it out")
    return Answers(rater, choices), copy


def _are_answers(choices: Any) -> bool:
    return isinstance(choices, dict) and all(
        isinstance(its, dict) and all(name in CRITERIA and choice in CHOICES for name, choice in its.items())
        for its in choices.values())


def _preference(criterion: str, key: Mapping[str, Any], raters: Sequence[Answers], seed: int, samples: int) -> Preference:
    first, second = key["systems"]
    codes = np.full((len(raters), len(key["items"])), nan)  # 0 the second system, 1/2 neither, 1 the first
    for row, rater in enumerate(raters):
        for column, item in enumerate(key["items"]):
            choice = rater.choices.get(item["id"], {}).get(criterion)
            if choice == "neither":
                codes[row, column] = 0.5
            elif choice:
                codes[row, column] = float((choice == "a") == (item["a"] == first))
    answered = codes[~np.isnan(codes)]
    if not len(answered):
        raise UserError(f"nobody says which caption is more {criterion}: collect answers to both questions")
    counts = Counter(answered.tolist())
    shares = {name: counts[code] / len(answered) for name, code in ((first, 1.0), (second, 0.0), ("neither", 0.5))}
    means = np.nanmean(codes[:, ~np.isnan(codes).all(axis=0)], axis=0)
    low, high = bootstrap.interval(means, seed, samples) if len(means) > 1 else (nan, nan)
    return Preference(criterion, shares, float(means.mean()), low, high, _alpha(codes), len(answered))


def _alpha(codes: np.ndarray) -> float:
    paired = codes[:, (~np.isnan(codes)).sum(axis=0) > 1]
    if len(set(paired[~np.isnan(paired)].tolist())) < 2:
        return nan
    return float(krippendorff.alpha(reliability_data=paired, level_of_measurement="nominal"))
