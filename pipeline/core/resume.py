"""Work that survives a kill: a scratch folder per fingerprint, a ledger of finished shards, one rename at the end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.core.code import code_digest
from pipeline.core.files import digest_of, locked, publish


class Ledger:
    """Which shards of a piece of work are finished: `done` maps each to what was recorded of it. One JSON line a shard in `file`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.done: dict[str, Any] = {}
        if file.exists():
            for line in file.read_text(encoding="utf-8").split("\n")[:-1]:  # what follows the last newline was cut off by a kill
                entry = json.loads(line)
                self.done[entry["shard"]] = entry["value"]
            self._rewrite()

    def record(self, shard: str, value: Any = None) -> None:
        """Note a shard as finished. Call it only after the shard's files are closed."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"shard": shard, "value": value}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[shard] = value

    def _rewrite(self) -> None:
        """Drop a half-written last line, so that the next entry starts on a line of its own."""
        partial = self.file.with_suffix(".partial")
        lines = [json.dumps({"shard": shard, "value": value}) + "\n" for shard, value in self.done.items()]
        partial.write_text("".join(lines), encoding="utf-8")
        os.replace(partial, self.file)


class Work(Ledger):
    """A scratch folder. `output` becomes the artefact."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        if not self.output.exists():  # never begun, or killed right after its output was published
            (folder / "ledger.jsonl").unlink(missing_ok=True)
        self.output.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "ledger.jsonl")


@contextmanager
def resumable(target: Path, *code: str, **identity: Any) -> Iterator[Work]:
    """Scratch for the artefact `target`; when the block ends well, its `output` takes the target's place.

    code: names of the modules that make the artefact; what they import counts with them. identity: whatever else decides the artefact's
    bytes (parameters, digests of inputs and models). An interrupted run with the same code and identity finds its finished shards
    again; work of another one is left behind and swept away when this one succeeds. Raises `UserError` if another process works on the
    same artefact.
    """
    place = _scratch(target)
    with locked(place):
        work = Work(place / digest_of({**identity, "code": code_digest(*code)})[:16])
        yield work
        publish(work.output, target)
        for stale in place.iterdir():
            if stale.is_dir():
                shutil.rmtree(stale)


class Ledgers:
    """Ledgers by fingerprint, below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: set[Path] = set()

    def open(self, fingerprint: str) -> Ledger:
        """The ledger of what has this fingerprint, empty if there is none yet."""
        ledger = Ledger(self._folder / f"{fingerprint}.jsonl")
        self._opened.add(ledger.file)
        return ledger

    def sweep(self) -> None:
        """Remove those that were not opened."""
        for stale in set(self._folder.glob("*.jsonl")) - self._opened:
            stale.unlink()


@contextmanager
def kept_ledgers(target: Path) -> Iterator[Ledgers]:
    """Small ledgers that are kept when `target` is finished, so that parts of it which did not change are not made again.

    Those of other fingerprints are swept away when the block ends well. Raises `UserError` if another process works on the same artefact.
    """
    place = _scratch(target)
    with locked(place):
        ledgers = Ledgers(place)
        yield ledgers
        ledgers.sweep()


def _scratch(target: Path) -> Path:
    return paths.WORK / "-".join(target.parts)
