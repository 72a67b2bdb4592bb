"""Worker processes for what Python computes by itself."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def workers() -> ProcessPoolExecutor:
    """One process per core, gone when this one is, however it ends."""
    return ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_follow, initargs=(os.getpid(),))


def _follow(parent: int) -> None:
    """End this worker with its parent: workers hold each other's pipes open, and would wait forever for one that was killed."""
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
