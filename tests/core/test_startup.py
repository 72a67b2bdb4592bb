"""How processes end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = {**{name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}, "PYTHONPATH": str(ROOT),
               "UNPAIRED_DEVICE": "cpu"}
PENDING = """
import atexit, sys, threading, time
from pathlib import Path
from pipeline.core.startup import leave

def write(name):
    time.sleep(0.5)
    Path(name).write_text("whole")

threading.Thread(target=write, args=["thread"]).start()
from concurrent.futures import ThreadPoolExecutor
ThreadPoolExecutor(1).submit(write, "pool")
atexit.register(lambda: Path("exit").write_text("whole"))
sys.stdout.write("said")
class Slow:
    def __del__(self):
        Path("taken apart").touch()
slow = Slow()
leave({code})
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("code", [0, 1, None])
def test_what_other_threads_still_write_is_waited_for_and_the_rest_is_not_taken_apart(tmp_path: Path, code: int | None) -> None:
    ended = run(PENDING.format(code=code), tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code or 0, "said", "")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(("thread", "pool", "exit"), "whole")


@pytest.mark.parametrize("code", ["0", "None", "'said'"])
def test_where_nothing_can_be_said_any_more_the_end_is_quiet(tmp_path: Path, code: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", f"from pipeline.core.startup import leave; print('x', end=''); leave({code})"]
        ended = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_an_uncaught_error_is_still_shown(tmp_path: Path) -> None:
    ended = run("import pipeline.core.startup; 1 / 0", tmp_path)
    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr


@pytest.mark.parametrize("after", [0.3, 1.5, 3.0])
def test_an_interrupt_is_one_line_also_during_imports(after: float) -> None:
    command = [sys.executable, "-m", "stages.train", "nobody"]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as child:
        time.sleep(after)
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        said = child.stderr.read()
    assert "Traceback" not in said, said
    assert len(said.splitlines()) <= 1
