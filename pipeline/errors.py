"""The one error that users are meant to see."""

from __future__ import annotations


class UserError(Exception):
    """What is wrong, where, and what to do, in one line; commands print it and exit with 1."""
