"""One rule for the names that users give: they become paths, keys that DVC looks up, and words of its commands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RULE = "a name has letters, digits, - and _ only, begins with a letter or digit, and has at most 64 of them"

PLACES = (
    "world.*", "extract.*", "questions.*", "questions.*.raw", "questions.*.about", "clips.*", "detectors.*", "decoders.*", "recipes.*",
    "systems.*",
    "settings.*", "settings.*.*", "sweeps.*", "answering.*", "answering.*.method", "answering.*.clip", "answering.*.looks_at/",
    "answering.*.looks_up/", "answering.*.settings.*",
    "projection.temperature.*", "embed.text.clips[]", "embed.text.corpora[]", "embed.images.clips[]", "embed.images.datasets[]",
    "embed.regions.clips[]", "embed.regions.datasets[]", "embed.frames.clips[]", "embed.frames.datasets[]",
    "index.corpora[]", "tag.detectors[]", "tag.datasets[]", "tag.clips[]", "synthesis.corpora[]", "synthesis.clips[]",
    "synthesis.generator", "evaluation.judge", "evaluation.language_model", "evaluation.datasets[]",
    "systems.*.method", "systems.*.clip", "systems.*.corpus", "systems.*.decoder", "systems.*.recipe", "systems.*.suite",
    "systems.*.starts_from/", "systems.*.learns_from/", "systems.*.learns_with/", "systems.*.looks_at/", "systems.*.looks_up/",
)
"""Where params.yaml holds names: `*` are a mapping's keys, `[]` a list's entries, `/` two names with a slash between them."""


def checked(name: object, where: str = "") -> str:
    """The name, if it is one; else a `UserError`. where: what holds it."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    quoted = f"{name!r:.80}"
    raise UserError(f"{where}{': ' if where else ''}{quoted} cannot be a name: {_RULE}"
                    + ("" if isinstance(name, str) else "; put it in quotes"))


def check_names(params: Mapping[str, Any]) -> None:
    """Raise `UserError` for the first name in params.yaml that is none, and for names that are not held as they should be: DVC takes
    the keys of a mapping where a list belongs."""
    for place in PLACES:
        for name in _found(params, place.split("."), "params.yaml"):
            checked(name, f"params.yaml: {place.split('.*')[0].rstrip('[]/')}")


def _found(value: Any, path: list[str], walked: str) -> Iterator[Any]:
    """The names at a place below `value`; nothing where there is none."""
    if not path or value is None:
        yield from () if path else (value,)
        return
    if not isinstance(value, Mapping):
        raise UserError(f"{walked} is {value!r:.80}, expected a mapping")
    if path[0] == "*":
        yield from value if len(path) == 1 else (name for key in value for name in _found(value[key], path[1:], f"{walked}.{key}"))
        return
    inner = value.get(key := path[0].rstrip("[]/"))
    if path[0].endswith("[]"):
        if not isinstance(inner, list | None):
            raise UserError(f"{walked}.{key} is {inner!r:.80}, expected a list")
        yield from inner or ()
    elif path[0].endswith("/"):
        yield from inner.split("/", 1) if isinstance(inner, str) else () if inner is None else (inner,)
    elif inner is not None:
        yield from _found(inner, path[1:], f"{walked}.{key}".replace("params.yaml.", "params.yaml: "))
