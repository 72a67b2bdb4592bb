"""Work that survives a kill: a scratch folder per fingerprint, a ledger of finished shards, one rename at the end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import paths
from .artefacts import publish
from .code import code_digest
from .errors import UserError
from .files import digest_file, digest_of, locked, replace, sync
from .progress import track

_PUBLISHED = "published"


class Ledger:
    """Which shards of a piece of work are finished: `done` maps each to what was recorded of it. One JSON line a shard in `file`.

    files: that the shards found there consist of.
    A shard is believed only if its line and its files are as they were recorded: a power cut, or a hand in the scratch, costs that shard.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.done: dict[str, Any] = {}
        self.files: set[Path] = set()
        self._lines: dict[str, str] = {}
        if file.exists():
            for line in file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:  # behind the last newline a kill cut it off
                if (entry := _read_line(line)) is not None and _as_recorded(file.parent, entry["files"]):
                    self.done[entry["shard"]] = entry["value"]
                    self.files |= {file.parent / name for name in entry["files"]}
                    self._lines[entry["shard"]] = line + "\n"
            self._rewrite()

    def shards(self, count: int, size: int, label: str, unit: str) -> Iterator[tuple[int, int]]:
        """Start and stop of every shard of `size` out of `count` items that is not yet recorded as `str(start)`; progress counts items.

        The seam for distributed work (Ray): a worker object that loads its model once and makes shard n.
        """
        missing = [(start, min(start + size, count)) for start in range(0, count, size) if str(start) not in self.done]
        return track(missing, label, count, unit, done=count - sum(stop - start for start, stop in missing), size=size)

    def record(self, shard: str, value: Any = None, files: Iterable[Path] = ()) -> None:
        """Note a shard as finished. files: what it consists of, closed, beside the ledger or below; they are synced first."""
        stamps = {}
        for path in files:
            sync(path)
            sync(path.parent)
            stamps[path.relative_to(self.file.parent).as_posix()] = _stamp(path)
        line = _line({"shard": shard, "value": value, "files": stamps})
        self._write(line)
        self.done[shard] = value
        self._lines[shard] = line

    def _write(self, line: str) -> None:
        new = not self.file.exists()
        with self.file.open("a", encoding="utf-8") as file:
            file.write(line)
        sync(self.file)
        if new:
            sync(self.file.parent)

    def _rewrite(self) -> None:
        """Drop lines that are not believed, and a half-written last one, so that the next entry starts on a line of its own."""
        partial = self.file.with_suffix(".partial")
        partial.write_text("".join(self._lines.values()), encoding="utf-8")
        replace(partial, self.file)


def _line(entry: dict[str, Any]) -> str:
    return json.dumps({**entry, "digest": digest_of(entry)}) + "\n"


def _read_line(line: str) -> dict[str, Any] | None:
    """The entry of a ledger's line, None where it is not what `_line` wrote."""
    try:
        entry = json.loads(line)
        digest = entry.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return entry if digest == digest_of(entry) else None


def _stamp(path: Path) -> list[Any]:
    return [path.stat().st_size, digest_file(path)]


def _as_recorded(folder: Path, files: dict[str, list[Any]]) -> bool:
    return all((folder / name).is_file() and _stamp(folder / name) == stamp for name, stamp in files.items())


class Work(Ledger):
    """A scratch folder. `output` becomes the artefact."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.output.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "ledger.jsonl")
        for path in self.output.rglob("*"):
            if path.is_file() and path not in self.files:  # of a shard that was never finished
                path.unlink()


@contextmanager
def resumable(target: Path, *code: str, **identity: Any) -> Iterator[Work]:
    """Scratch for the artefact `target`; when the block ends well, its `output` takes the target's place.

    code: names of the modules that make the artefact; what they import counts with them. identity: whatever else decides the artefact's
    bytes (parameters, digests of inputs and models). An interrupted run with the same code and identity finds its finished shards
    again; work of another one is left behind and swept away when this one succeeds. Raises `UserError` if another process works on the
    same artefact.

    What is published below data/ shares its bytes on the disk with the scratch, which stays until another artefact is begun: DVC, ended
    before it noted the artefact, removes it and runs its stage again.
    """
    with held(target) as place:
        work = Work(place / digest_of({**identity, "code": code_digest(*code)})[:16])
        yield work
        finished = place / "finished"
        shutil.rmtree(finished, ignore_errors=True)
        shutil.copytree(work.output, finished, copy_function=os.link)
        publish(finished, target)
        (work.folder / _PUBLISHED).touch()
        for other in place.iterdir():
            if other.is_dir() and (other != work.folder or not _is_ours(target)):
                shutil.rmtree(other)


@contextmanager
def finished_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, that becomes `target` in one rename when the block ends well, and vanishes when it does not.

    Raises `UserError` if another process works on the same artefact.
    """
    with held(target) as place, _filled(place, target) as folder:
        yield folder


class Ledgers:
    """Ledgers by fingerprint, below one folder. `folder` becomes the artefact."""

    def __init__(self, place: Path, folder: Path) -> None:
        self.folder = folder
        self._place = place
        self._opened: set[Path] = set()

    def open(self, fingerprint: str) -> Ledger:
        """The ledger of what has this fingerprint, empty if there is none yet."""
        ledger = Ledger(self._place / f"{fingerprint}.jsonl")
        self._opened.add(ledger.file)
        return ledger

    def sweep(self) -> None:
        """Remove those that were not opened."""
        for stale in set(self._place.glob("*.jsonl")) - self._opened:
            stale.unlink()


@contextmanager
def kept_ledgers(target: Path) -> Iterator[Ledgers]:
    """A finished folder with small ledgers that are kept, so that parts of the artefact which did not change are not made again.

    Those of other fingerprints are swept away when the block ends well. Raises `UserError` if another process works on the same artefact.
    """
    with held(target) as place:
        with _filled(place, target) as folder:
            ledgers = Ledgers(place, folder)
            yield ledgers
        ledgers.sweep()


@contextmanager
def held(target: Path) -> Iterator[Path]:
    """The scratch folder of an artefact, for this process alone, else a `UserError`: below `.work` for what lies in data/, or beside it."""
    place = paths.WORK / "+".join(target.parts) if _is_ours(target) else target.with_name(target.name + ".scratch")  # no name has a +
    with locked(place):
        _forget_published(place)
        yield place


def _is_ours(target: Path) -> bool:
    return target.parts[:1] == paths.DATA.parts


def _forget_published(current: Path) -> None:
    """Remove the scratch of other artefacts that are published, unless a process is at it."""
    for mark in paths.WORK.glob(f"*/*/{_PUBLISHED}"):
        place = mark.parent.parent
        if place != current:
            with suppress(UserError), locked(place):
                shutil.rmtree(mark.parent)


@contextmanager
def _filled(place: Path, target: Path) -> Iterator[Path]:
    folder = place / "filled"
    shutil.rmtree(folder, ignore_errors=True)  # of a killed process: nobody else is here
    folder.mkdir()
    try:
        yield folder
        publish(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
