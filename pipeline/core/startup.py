"""How processes begin and end in less time, and without a traceback when they are interrupted."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

_code: int | None = None


def rest_collector() -> Callable[[], None]:
    """Let the garbage collector rest while libraries are imported; the function that comes back wakes it again.

    Importing torch makes a million objects, none of them garbage: a fifth of its time went on looking.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(200_000)
    return lambda: gc.set_threshold(*thresholds)


def leave(code: object) -> NoReturn:
    """End the process with this code once its threads have ended and its exit functions have run.

    Python would take torch apart for 2 s more.
    """
    global _code
    _code = code if isinstance(code, int) else int(code is not None)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads any more, or there is no room: not all was said
            _code = _code or 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    raise SystemExit(_code)


@atexit.register  # before the libraries' own, which run in opposite order: this is the last
def _end() -> None:
    if _code is not None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_code)


def quiet_interrupts() -> None:
    """Have Ctrl-C end the process in one line, also during imports."""
    signal.signal(signal.SIGINT, _interrupted)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one ends at once
    print("interrupted: the same command goes on from what is finished", file=sys.stderr)
    raise SystemExit(128 + number)
