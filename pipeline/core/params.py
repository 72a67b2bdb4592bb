"""Loading and checking params.yaml: a wrong key or value is one line that names the key, the value and what is allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from .errors import UserError

T = TypeVar("T")
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Whole = Annotated[int, Field(ge=0, le=10**9)]
Size = Annotated[int, Field(ge=1, le=2**16)]  # of a part of a model
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Spread = Annotated[float, Field(ge=0, le=1e3, allow_inf_nan=False)]  # of noise on unit rows
Temperature = Annotated[float, Field(ge=1e-4, le=1e4, allow_inf_nan=False)]  # of a softmax over cosines: below, float32 overflows
Rate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
PARAMS_FILE = Path("params.yaml")


class StrictParams:
    """Base of parameter classes (frozen data classes): no unknown keys, and no text where a number belongs."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)


def load(file: Path = PARAMS_FILE) -> dict[str, Any]:
    """The whole of params.yaml, unchecked. Read with YAML 1.2, so that `1e-4` is a number as it is for DVC."""
    try:
        content = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} is missing: run this from the project's root") from None
    except (YAMLError, ValueError, KeyError, RecursionError) as error:  # ruamel lets what a value cannot be through
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} must hold a mapping of parameters")
    return content


def pick(params: dict[str, Any], key: str) -> Any:
    """The value at a dotted key, such as `systems.knight`."""
    value: Any = params
    walked: list[str] = []
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            here = ".".join(walked) or PARAMS_FILE.name
            raise UserError(f"{PARAMS_FILE}: {here} has no {part!r}{suggest(part, value if isinstance(value, dict) else ())}")
        walked.append(part)
        value = value[part]
    return value


def entries(params: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The mapping at a key, empty where it is missing or null; anything else there is a `UserError`."""
    value = params.get(key)
    if not isinstance(value, dict | None):
        raise UserError(f"{PARAMS_FILE}: {key} is {value!r:.80}, expected a mapping")
    return value or {}


def check(cls: type[T], value: Any, where: str) -> T:
    """Build a parameter class from the mapping found at `where`, or raise a one-line `UserError`."""
    adapter: TypeAdapter[T] = TypeAdapter(cls)
    try:
        # JSON mode: strict about types, yet a YAML list may become a tuple
        return adapter.validate_json(json.dumps({} if value is None else value))
    except (ValueError, TypeError, RecursionError) as error:  # what pydantic, or JSON, refuses
        raise UserError(_one_line(error, cls, value, where)) from None


def section(cls: type[T], params: dict[str, Any], key: str) -> T:
    """The parameter class at a dotted key of params.yaml, such as `decoders.small`; `UserError` when it is missing or wrong."""
    return check(cls, pick(params, key), key)


def suggest(word: str, known: Any) -> str:
    """': did you mean ...? available: ...' for a word that is not among the known ones."""
    names = sorted(str(name) for name in known)
    close = difflib.get_close_matches(word, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} available: {', '.join(names[:20]) or 'nothing'}{', ...' if len(names) > 20 else ''}"


def _one_line(error: Exception, cls: type, value: Any, where: str) -> str:
    if not isinstance(error, ValidationError):
        return f"{PARAMS_FILE}: {where} cannot be read: {error}"
    first = error.errors()[0]
    key = ".".join([where, *(str(part) for part in first["loc"])])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        fields = getattr(cls, "__dataclass_fields__", {})
        return f"{PARAMS_FILE}: {key} is not a parameter{suggest(str(first['loc'][-1]), fields)}"
    if first["type"] in ("missing", "missing_argument"):
        return f"{PARAMS_FILE}: {key} is missing"
    if first["type"] == "literal_error":
        allowed = re.findall("'([^']*)'", first["ctx"]["expected"])
        return f"{PARAMS_FILE}: {key} is {first['input']!r:.80}{suggest(str(first['input']), allowed)}"
    return f"{PARAMS_FILE}: {key} is {first['input']!r:.80}: {first['msg'][0].lower()}{first['msg'][1:]}"
