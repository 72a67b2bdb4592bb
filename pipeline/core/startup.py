"""How processes begin and end in less time: most of a short command goes on taking libraries up and apart."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable


def rest_collector() -> Callable[[], None]:
    """Let the garbage collector rest while libraries are imported; the function that comes back wakes it again.

    Importing torch makes a million objects, none of them garbage: a fifth of its time went on looking.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(200_000)
    return lambda: gc.set_threshold(*thresholds)


def leave(code: int | str | None) -> None:
    """End the process as soon as its exit functions have run: Python would take torch apart for 2 s more."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))
