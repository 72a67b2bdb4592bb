"""How expected errors end: one line that says what to do; what is our own mistake keeps its traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from pipeline.core.errors import UserError, loading, one_line_errors, printable


class OutOfMemoryError(RuntimeError):
    """By its name, torch's."""


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/x")


@pytest.mark.parametrize(("error", "told"), [
    (UserError("params.yaml: k is -1"), "error: params.yaml: k is -1"),
    (FULL, "error: the disk is full (data/x): free space"),
    (RuntimeError(f"write failed: {os.strerror(errno.ENOSPC)}"), "error: the disk is full: free space"),
    (MemoryError(), "error: the memory is full: lower `batch`"),
    (OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), "error: the memory is full: lower `batch` in params.yaml (CUDA"),
    (PermissionError(errno.EACCES, "Permission denied", "data/x"), "error: [Errno 13] Permission denied: 'data/x'"),
    (UserError("name\x1b[31m\nsecond"), "error: name\\x1b[31m second"),
])
def test_an_expected_error_is_one_line_and_exit_code_1(error: Exception, told: str, capsys: pytest.CaptureFixture[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNPAIRED_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise error
    printed = capsys.readouterr().err
    assert ended.value.code == 1
    assert printed.startswith(told)
    assert printed.count("\n") == 1


def test_torch_that_gets_no_memory_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        torch.empty(2**50)
    assert capsys.readouterr().err.startswith("error: the memory is full")


def test_a_mistake_of_our_own_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0


@pytest.mark.parametrize("error", [KeyError("mean"), AssertionError(), Exception("no variant"), OSError("no such file"), EOFError()])
def test_whatever_a_library_raises_while_it_loads_is_one_line_with_advice(error: Exception, user_error) -> None:
    def load() -> None:
        with loading(Path("data/foundation/x"), "CLIP", "restore it"):
            raise error

    message = user_error(load)
    assert message.startswith("data/foundation/x holds no CLIP that can be loaded (")
    assert message.endswith("restore it")


@pytest.mark.parametrize("error", [UserError("known"), FULL, MemoryError()])
def test_what_says_enough_by_itself_goes_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, loading("x", "CLIP", "restore it"):
        raise error
    assert caught.value is error


def test_characters_that_terminals_act_upon_are_shown_as_escapes() -> None:
    assert printable("a\x1b[31m\u202e\udcff é 猫") == "a\\x1b[31m\\u202e\\udcff é 猫"
