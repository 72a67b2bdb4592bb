"""One typer command per DVC stage, run as `python -m stages.<name>`: reads params.yaml, calls pipeline/."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.core.errors import one_line_errors

_THRESHOLDS = gc.get_threshold()
gc.set_threshold(200_000)  # importing torch makes a million objects, none of them garbage: a fifth of its time went on looking


def run(stage: Callable[..., Any]) -> None:
    """Run a stage as a command; an expected error is one line and exit code 1.

    The process leaves as soon as its exit functions have run: Python would take torch apart for 2 s more.
    """
    gc.set_threshold(*_THRESHOLDS)  # the imports are behind us
    try:
        with one_line_errors():
            typer.run(stage)
    except SystemExit as end:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))
