"""The errors that users are meant to see, and how commands end on them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """What is wrong, where, and what to do, in one line; commands print it and exit with 1."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line and exit code 1 on an expected error; UNPAIRED_DEBUG=1 shows the traceback."""
    try:
        yield
    except (UserError, OSError, RuntimeError, ValueError) as error:
        message = _message(error)
        if message is None or os.environ.get("UNPAIRED_DEBUG"):
            raise
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(1) from None


def _message(error: Exception) -> str | None:
    """One line for an error that a user can mend, None for one that is our own mistake."""
    # faiss and safetensors report a full disk as errors of their own, with the system's words in them
    if getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
        where = getattr(error, "filename", None)
        return f"the disk is full{f' ({where})' if where else ''}: free space and run the same command again; finished shards are kept"
    return " ".join(str(error).split()) if isinstance(error, UserError | OSError) else None
