"""The errors that users are meant to see, and how commands end on them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext


class UserError(Exception):
    """What is wrong, where, and what to do, in one line; commands print it and exit with 1."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line and exit code 1 on an expected error; UNPAIRED_DEBUG=1 shows the traceback."""
    try:
        yield
    except Exception as error:
        message = _exhausted(error) or (" ".join(str(error).split()) if isinstance(error, UserError | OSError) else None)
        if message is None or os.environ.get("UNPAIRED_DEBUG"):
            raise
        print(f"error: {printable(message)}", file=sys.stderr)
        raise SystemExit(1) from None


@contextmanager
def loading(folder: object, what: str, advice: str | Callable[[], str], hub: bool = False) -> Iterator[None]:
    """Turn whatever libraries raise on files that are missing, damaged or of another shape into one `UserError`.

    what: that the folder should hold. advice: what to do. An exhausted disk or memory is left as it is. hub: whether the hub of Hugging
    Face may be asked; if not, libraries that want something from there are refused at once, whatever the network.
    """
    try:
        with nullcontext() if hub else _without_hub():
            yield
    except Exception as error:
        if isinstance(error, UserError) or _exhausted(error):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if not hub and _wanted_hub(error):
            reason = "it names a part that is on the hub of Hugging Face, not in the folder"
        told = advice if isinstance(advice, str) else advice()
        raise UserError(f"{folder} holds no {what} that can be loaded ({reason}): {told}") from None


@contextmanager
def _without_hub() -> Iterator[None]:
    """As if HF_HUB_OFFLINE were set: huggingface_hub, through which all libraries here ask, reads this constant before every request."""
    from huggingface_hub import constants  # it takes time, and few commands load models

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _wanted_hub(error: BaseException | None) -> bool:
    """Whether an error goes back to a request that the hub was kept from; libraries wrap it in errors about the connection."""
    while error and type(error).__name__ not in ("OfflineModeIsEnabled", "LocalEntryNotFoundError"):
        error = error.__cause__ or error.__context__
    return error is not None


def printable(text: str) -> str:
    """The text with every character that a terminal would act upon, rather than show, in Python's escapes: file names may hold any."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _exhausted(error: Exception) -> str | None:
    """The line for a full disk or memory, None for any other error."""
    # faiss and safetensors report a full disk as errors of their own, with the system's words in them
    if getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
        where = getattr(error, "filename", None)
        return f"the disk is full{f' ({where})' if where else ''}: free space and run the same command again; finished shards are kept"
    # torch's are recognised without importing it
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return f"the memory is full: lower `batch` in params.yaml ({' '.join(str(error).split())[:120] or 'no more is free'})"
    return None
