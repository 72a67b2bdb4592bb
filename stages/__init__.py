"""One typer command per DVC stage, run as `python -m stages.<name>`: reads params.yaml, calls pipeline/."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.core import recorded
from pipeline.core.errors import one_line_errors
from pipeline.core.startup import leave, quiet_interrupts, rest_collector

_wake_collector = rest_collector()
if sys.argv[0] == "-m":  # what Python says while it looks for `stages.<name>`
    quiet_interrupts()


def run(stage: Callable[..., Any]) -> None:
    """Run a stage as a command; an expected error is one line and exit code 1, and so is a change of what DVC will record of it."""
    _wake_collector()  # the imports are behind us

    @functools.wraps(stage)
    def command(*arguments: Any, **options: Any) -> None:
        recorded.begin()
        stage(*arguments, **options)
        recorded.require_unchanged()

    try:
        with one_line_errors():
            typer.run(command)
    except SystemExit as end:
        leave(end.code)
