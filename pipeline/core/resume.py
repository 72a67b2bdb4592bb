"""Work that survives a kill: a scratch folder per fingerprint, a ledger of finished shards, one rename at the end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.core.files import digest_of, digest_tree, locked, publish


class Work:
    """A scratch folder. `output` becomes the artefact; `done` maps each finished shard to what was recorded of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self._ledger = folder / "ledger.jsonl"
        if not self.output.exists():  # never begun, or killed right after its output was published
            self._ledger.unlink(missing_ok=True)
        self.output.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, Any] = {}
        if self._ledger.exists():
            for line in self._ledger.read_text(encoding="utf-8").split("\n")[:-1]:  # what follows the last newline was cut off by a kill
                entry = json.loads(line)
                self.done[entry["shard"]] = entry["value"]
            self._rewrite()

    def record(self, shard: str, value: Any = None) -> None:
        """Note a shard as finished. Call it only after the shard's files are closed."""
        with self._ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"shard": shard, "value": value}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[shard] = value

    def _rewrite(self) -> None:
        """Drop a half-written last line, so that the next entry starts on a line of its own."""
        partial = self._ledger.with_suffix(".partial")
        lines = [json.dumps({"shard": shard, "value": value}) + "\n" for shard, value in self.done.items()]
        partial.write_text("".join(lines), encoding="utf-8")
        os.replace(partial, self._ledger)


@contextmanager
def resumable(target: Path, **identity: Any) -> Iterator[Work]:
    """Scratch for the artefact `target`; when the block ends well, its `output` takes the target's place.

    identity: whatever decides the artefact's bytes (parameters, digests of inputs and models); the code's digest is added here.
    An interrupted run with the same identity finds its finished shards again; work of another identity is left behind and
    swept away when this one succeeds. Raises `UserError` if another process works on the same artefact.
    """
    prefix = "-".join(target.parts)
    folder = paths.WORK / prefix / digest_of({**identity, "code": _code_digest()})[:16]
    with locked(paths.WORK / prefix):
        work = Work(folder)
        yield work
        publish(work.output, target)
        for stale in (paths.WORK / prefix).iterdir():
            if stale.is_dir():
                shutil.rmtree(stale)


@cache
def _code_digest() -> str:
    """Digest of this package's source: scratch of older code is never resumed."""
    package = Path(__file__).parent
    return digest_of([(str(p.relative_to(package)), digest_tree(p)) for p in sorted(package.rglob("*.py"))])
