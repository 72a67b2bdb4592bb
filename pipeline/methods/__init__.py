"""The methods by name, imported only when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.methods.base import Method

METHODS = {
    "raw": "pipeline.methods.raw:Raw",
    "clipcap": "pipeline.methods.clipcap:ClipCap",
    "clipre": "pipeline.methods.clipre:ClipRe",
    "capdec": "pipeline.methods.capdec:CapDec",
    "decap": "pipeline.methods.decap:DeCap",
    "knight": "pipeline.methods.knight:Knight",
    "maccap": "pipeline.methods.maccap:MacCap",
    "self-supervised": "pipeline.methods.self_supervised:SelfSupervised",
    "syntic": "pipeline.methods.syntic:SynTIC",
}


def find_method(name: str) -> type[Method]:
    """The class behind a method's name; an unknown name is a `UserError` with the nearest known one."""
    from pipeline.core.params import suggest

    if name not in METHODS:
        raise UserError(f"params.yaml: there is no method {name!r}{suggest(name, METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(import_module(module), attribute)
    return found
