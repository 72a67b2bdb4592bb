"""Unpaired: image captioners from sentences alone.

    from unpaired import Captioner
    Captioner.load("captioner/").caption(["photo.jpg"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .captioner import Captioner
    from .core.errors import UserError

__all__ = ["Captioner", "UserError"]


def __getattr__(name: str) -> object:
    """What the package offers, imported when it is asked for: torch takes seconds, and most commands need none."""
    if name == "Captioner":
        from .captioner import Captioner

        return Captioner
    if name == "UserError":
        from .core.errors import UserError

        return UserError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
