"""The methods by name, imported only when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..core.errors import UserError

if TYPE_CHECKING:
    from .base import Method

METHODS = {
    "raw": ".raw:Raw",
    "clipcap": ".clipcap:ClipCap",
    "clipre": ".clipre:ClipRe",
    "close": ".close:Close",
    "capdec": ".capdec:CapDec",
    "decap": ".decap:DeCap",
    "knight": ".knight:Knight",
    "maccap": ".maccap:MacCap",
    "magic": ".magic:Magic",
    "self-supervised": ".self_supervised:SelfSupervised",
    "syntic": ".syntic:SynTIC",
    "zerocap": ".zerocap:ZeroCap",
}


def find_method(name: str) -> type[Method]:
    """The class behind a method's name; an unknown name is a `UserError` with the nearest known one."""
    from ..core.params import suggest

    if name not in METHODS:
        raise UserError(f"params.yaml: there is no method {name!r}{suggest(name, METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(import_module(module, __name__), attribute)
    return found
