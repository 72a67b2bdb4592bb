"""Templates of pages, in which every placeholder is escaped: captions and names are text, whatever they hold. How numbers are printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).parent


def environment() -> Environment:
    """What finds a template by its name, and fails on a placeholder that has no value."""
    found = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"score": score, "signed": signed, "decimal": decimal, "settings_text": settings_text, "lower_first": lower_first}
    return found


def style() -> Markup:
    """The sheet that a page holds, so that it needs nothing else."""
    return Markup((_FOLDER / "style.css").read_text("utf-8"))


def score(value: float, digits: int = 1) -> str:
    """A score with the digits of its metric: one for the primary one."""
    return f"{value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with that many digits behind the point; a dash for none."""
    return "—" if value is None else f"{value:.{digits}f}".replace("-", "−")


def settings_text(values: dict[str, Any]) -> str:
    """Parameters as `name=value, ...`, in their order."""
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "none"


def lower_first(text: str) -> str:
    """A sentence that goes on behind another's colon."""
    return text[:1].lower() + text[1:]
