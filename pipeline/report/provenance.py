"""What systems were made from, as their models' records have it, and which libraries wrote the report."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from .data import RunSystem

LIBRARIES = ("torch", "open_clip_torch", "transformers", "diffusers", "numpy", "matplotlib")


@dataclass(frozen=True)
class Origin:
    """A model or corpus by its digest, and the systems that were made from it."""

    name: str
    digest: str
    systems: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A decoder or recipe with its parameters, and the systems that have it."""

    kind: str
    name: str
    params: dict[str, Any]
    systems: tuple[str, ...]


def origins(systems: Sequence[RunSystem]) -> list[Origin]:
    """Of all trained systems, by name."""
    found: dict[tuple[str, str], list[str]] = {}
    for run in systems:
        named = dict(run.model.get("models", {}))
        if digest := run.model.get("corpus_digest"):
            named[f"corpus {run.system.corpus}"] = digest
        for key in named.items():
            found.setdefault(key, []).append(run.name)
    return [Origin(*key, tuple(its)) for key, its in sorted(found.items())]


def choices(systems: Sequence[RunSystem]) -> list[Choice]:
    """Decoders and recipes of all trained systems, by name."""
    found: dict[tuple[str, str], tuple[dict[str, Any], list[str]]] = {}
    for run in systems:
        for kind, name in (("decoder", run.system.decoder), ("recipe", run.system.recipe)):
            if params := run.model.get(f"{kind}_params"):
                found.setdefault((kind, name), (params, []))[1].append(run.name)
    return [Choice(*key, params, tuple(its)) for key, (params, its) in sorted(found.items(), key=lambda each: each[0])]


def versions() -> dict[str, str]:
    """Of Python and the libraries that decide what comes out."""
    return {"Python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
