"""One rule for the names that users give: they become paths, keys that DVC looks up, and words of its commands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RULE = "a name has letters, digits, - and _ only, begins with a letter or digit, and has at most 64 of them"

PLACES = (
    "world.*", "extract.*", "clips.*", "detectors.*", "decoders.*", "recipes.*", "systems.*", "settings.*", "settings.*.*", "sweeps.*",
    "projection.temperature.*", "embed.text.clips[]", "embed.text.corpora[]", "embed.images.clips[]", "embed.images.datasets[]",
    "index.corpora[]", "tag.detectors[]", "tag.datasets[]", "tag.clips[]", "synthesis.corpora[]", "synthesis.clips[]",
    "synthesis.detectors[]", "synthesis.generator", "evaluation.judge", "evaluation.datasets[]", "systems.*.method", "systems.*.clip",
    "systems.*.corpus", "systems.*.decoder", "systems.*.recipe", "systems.*.suite", "systems.*.starts_from/", "systems.*.learns_from/",
    "systems.*.looks_at/", "systems.*.looks_up/",
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
    """Raise `UserError` for the first name in params.yaml that is none. Sections that are missing or of another shape are left to those
    who read them."""
    for place in PLACES:
        for name in _found(params, place.split(".")):
            checked(name, f"params.yaml: {place.split('.*')[0].rstrip('[]/')}")


def _found(value: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == "*":
        if isinstance(value, Mapping):
            yield from value if len(path) == 1 else (name for inner in value.values() for name in _found(inner, path[1:]))
    elif isinstance(value, Mapping) and (inner := value.get(path[0].rstrip("[]/"))) is not None:
        if path[0].endswith("[]"):
            yield from inner if isinstance(inner, list) else ()
        elif path[0].endswith("/"):
            yield from inner.split("/", 1) if isinstance(inner, str) else (inner,)
        else:
            yield from _found(inner, path[1:])
