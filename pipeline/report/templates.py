"""Templates of pages, in which every placeholder is escaped: captions and names are text, whatever they hold."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).parent


def environment() -> Environment:
    """What finds a template by its name, and fails on a placeholder that has no value."""
    return Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def style() -> Markup:
    """The sheet that a page holds, so that it needs nothing else."""
    return Markup((_FOLDER / "style.css").read_text("utf-8"))
