"""One typer command per DVC stage, run as `python -m stages.<name>`: reads params.yaml, calls pipeline/."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.errors import UserError


def run(stage: Callable[..., Any]) -> None:
    """Run a stage as a command: a `UserError` or a full disk is one line and exit code 1; UNPAIRED_DEBUG=1 shows the traceback."""
    try:
        typer.run(stage)
    except (UserError, OSError) as error:
        if os.environ.get("UNPAIRED_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
