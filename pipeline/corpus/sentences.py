"""Whether lines are sentences, or a table, subtitles, a list or markup that somebody took for them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from ..core.errors import UserError

LOOKED_AT, _LONGEST = 200, 300
_OPENED, _CLOSED = r"""\s*["'(\[<]?""", r"""["')\]>]?\s*"""
_SUFFIX = r"\.(?:jpe?g|png|gif|bmp|webp|tiff?|svg|heic|avif|mp4|m4v|avi|mkv|webm|mov|mpe?g|flv|wmv)(?:#\w+)?"
_ID = r"(?=[\w/-]*\d)(?=[\w/-]*_)[\w/-]+|\d{6,}|(?:img|image|photo|pic|picture|vid|video|clip|frame)-?\d+|[\w/-]+#\d+|" \
      r"[a-z]{2,}\w*/[\w/-]*\d[\w/-]*"
_NAME = rf"""(?:(?:[^\s,;|"']+ ){{0,2}}[^\s,;|"']*{_SUFFIX}|(?:https?://|www\.)[^\s|"']+?|{_ID})"""
_YEAR = r"(?:1\d|20)\d\d\b"
_NUMBER = r"(?:[+-]?\d+(?:\.\d+)?|(?=[a-z_./:#-]*\d)[a-z\d_./:#-]+|train|restval|val|test)"
_QUOTED = r"""(?:"(?:[^"\\]|""|\\.)*"|'(?:[^'\\]|''|\\.)*')"""
_TEXT = r"(?:captions?|comments?|description|raw|sentences?|text|title)"
_FIELD = rf"(?:(?:{_TEXT}|alt|category|end|files?|frames?|images?|img|index|key|labels?|lang|language|name|number|path|sent|split|start|" \
         r"tags|tokens|url|videos?|id)_?(?:ids?|names?|path|no|url|\d+)?|ids)"
_COLUMNS = (  # a sentence has a space after its commas and semicolons, and digits right beside them only in numbers such as 1,000
    rf"^{_OPENED}[^,;|\t\"']{{1,80}}{_SUFFIX}{_CLOSED}(?P<by>[,;](?!\s)|[|\t])",  # my photo.jpg,A dog runs
    rf"^{_OPENED}{_NAME}{_CLOSED}(?P<by>[,;|:=]|(?<=\s))\s*\S",  # mv89psg6zh4_33_46 A dog runs
    rf"(?P<by>[,;|\s]){_OPENED}{_NAME}{_CLOSED}$",  # A dog runs, http://dogs.org/1
    rf"(?P<by>[,;|]){_OPENED}{_NAME}{_CLOSED}[,;|]",  # dog, 1.jpg, A dog runs
    rf"(?P<by>[,;](?!\s)|\|){_OPENED}[^,;|\t\"']{{1,80}}{_SUFFIX}{_CLOSED}(?:$|[,;|])",  # A dog runs,my photo.jpg
    rf"^{_OPENED}{_NUMBER}(?:[,;]{_NUMBER})*{_CLOSED}(?P<by>,(?![\s\d])|;(?!\s)|\|)\s*\S",  # 0,A dog runs; but not: 12,000 people run
    rf"^(?!{_YEAR})\d+(?:\.\d+)?(?P<by>[,;])\s+[^\s\d]",  # 0, A dog runs; but not: 1984, a dog runs
    rf"(?P<by>\||(?<=[^\s\d])[,;](?!\s)){_OPENED}{_NUMBER}(?:[,;]{_NUMBER})*{_CLOSED}(?:$|\||[,;](?![\s\d]))",  # A dog runs,0
    r"^(?P<by>\|).*\|$|\S(?P<beside>\|)\S",  # | dog | A dog runs |
    rf"^[^\"']*[^\s\"'](?P<by>[,;|]){_QUOTED}$|^{_QUOTED}(?P<beside>[,;|])[^\s\"'][^\"']*$",  # dog,"A dog runs"
    r"\S.*(?P<by>\t|\|\|\|).*\S",
)
"""What divides a name, an id, a number or a quoted value from the caption beside it. The first one is plain in a single line, too."""
_BEGINNINGS = {
    r"(?:\d+:)?\d?\d:\d\d[.,]\d+\s*(?:-->|,\s*\d+:\d\d)|\[\d+:\d\d[.:]\d+\]|WEBVTT|Dialogue: \d": ("subtitles: keep their text alone", 0.1),
    rf"(?:[-*+•]|[a-z]\)|(?:{_FIELD} )?(?!{_YEAR})(?:#\d+|[(\[]?\d+[.):\]]|\d+\s+-|\d+\s))\s+\S":
        ("a list: remove its numbers or marks", 0.5),
    r"[\[{]\s*(?:[\"'\[{]|$)|\[.*\],?$|\{.*\},?$|\(\s*[\"'].*\),?$|[\]}],?$|\"[^\"]*\"\s*(?::|,$)":
        ("JSON or a list of Python: choose format json, jsonl, karpathy, coco, maccap or msrvtt, or keep the captions alone", 0.5),
    r"<[/?!a-z][^<>]*>": ("XML, HTML or a text with marks: keep the captions alone", 0.5),
    rf"(?:-\s+)?{_FIELD}(?:_{_FIELD})?\s*[:=]\s*\S": ("names of fields before their values: keep the captions alone", 0.5),
    rf"{_QUOTED}(?:\s*[,;|]\s*{_QUOTED})*$": ("a table of quoted values: keep the column of captions, without quotation marks", 0.7),
}
"""By how a line begins: what a file looks like, and the share of such lines from which it does."""


def require_sentences(lines: Sequence[str], source: str) -> None:
    """`UserError` if most of the first lines are plainly of another format."""
    if found := _looks_like([_short(line) for line in lines]):
        raise UserError(f"{source} is read as lines, but looks like {found}, a sentence a line; `unpaired inspect` names the format of "
                        "most files")


def _short(line: str) -> str:
    """Both ends of a line with no more than two spaces in a row, so that no pattern takes long."""
    return re.sub(r"[^\S\t]{3,}", "  ", line if len(line) <= _LONGEST else line[: _LONGEST // 2] + line[-_LONGEST // 2 :]).strip()


def _looks_like(lines: Sequence[str]) -> str | None:
    """What else than sentences these lines plainly are, and what to do about it; None for sentences."""
    for pattern, (name, share) in _BEGINNINGS.items():
        count = sum(bool(re.match(pattern, line, re.IGNORECASE)) for line in lines)
        if count > share * len(lines) and (count > 1 or "JSON" in name):
            return name
    columns = [found for line in lines if (found := _divider(line, _COLUMNS if len(lines) > 1 else _COLUMNS[:1]))]
    if len(columns) > len(lines) / 2:
        by = Counter(columns).most_common(1)[0][0]
        what = f"a table with columns separated by {by!r}" if by.strip() or by == "\t" else "a table with names or ids beside captions"
        return f"{what}: keep the column of captions alone"
    if len(lines) > 1 and _is_header(lines[0]):
        return f"a table under the header {lines[0]!r}: keep the column of captions alone, without its header"
    numbers = [int(begin[1]) if (begin := re.match(r"(\d{1,9})\s+\S", line)) else -1 for line in lines]
    if sum(after == number + 1 > 0 for number, after in itertools.pairwise(numbers)) > max(1, len(lines) / 2):
        return "a list: remove its numbers"  # 0 A dog runs, 1 A cat sits, 2 ...
    quoted = [re.fullmatch(_QUOTED, line) is not None for line in lines]
    if sum(quoted) > 4 and quoted == ["," in line or '""' in line for line in lines]:
        return "a table that has quotation marks around what holds a comma: remove them"
    return None


def _divider(line: str, patterns: Sequence[str]) -> str | None:
    """What stands between the caption in this line and something that is none; None where all is caption."""
    found = next((found for pattern in patterns if (found := re.search(pattern, line, re.IGNORECASE))), None)
    by = (found["by"] or found.groupdict().get("beside") or "") if found else None
    return by if by is None or by.strip() else "\t" if "\t" in line else " "


def _is_header(line: str) -> bool:
    """Whether this line names the columns of a table, of captions among others, or the one column of captions."""
    words = [word for word in re.split(r"[\W_]+", line.lower()) if word]
    named = [re.fullmatch(_TEXT, word) is not None for word in words]
    return (any(named) and all(re.fullmatch(_FIELD, word) for word in words)
            and (re.search(r"[\t,;|]", line) is not None or line.strip("\"'").lower() == words[0]))
