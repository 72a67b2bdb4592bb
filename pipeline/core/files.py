"""Files that are complete or absent, and digests of what lies on disk."""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError

# Control characters (category Cc), the mark of a failed decoding, and halves of surrogate pairs, which no UTF-8 file can hold.
UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\ufffd\ud800-\udfff]")

LITTER = (
    "__pycache__", "*.partial", ".DS_Store", "._*", ".AppleDouble", ".Spotlight-V100", ".Trashes", ".fseventsd", "__MACOSX", "Thumbs.db",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "$RECYCLE.BIN", ".directory", ".Trash-*", ".nfs*", ".ipynb_checkpoints", "*.swp", "*~",
)
"""Names of files and folders that desktops, editors and Python leave wherever they have been: no part of any data or model. `.dvcignore`
holds the same."""
_LITTER = re.compile("|".join(map(fnmatch.translate, LITTER)))


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is none of anybody's data."""
    return _LITTER.match(name) is not None


def files_below(folder: Path) -> list[Path]:
    """Every regular file below a folder, or link to one, sorted; litter and what lies in linked folders left out, as DVC does."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_litter(name)]
        found += [path for name in names if not is_litter(name) and (path := Path(place, name)).is_file()]
    return sorted(found)


Stamps = tuple[tuple[str, int, int, int], ...]


def stamps(place: Path) -> Stamps:
    """Name, size, time of change and inode of every file below a folder, or of the one file that it is; () where nothing is."""
    found = []
    for path in [place] if place.is_file() else files_below(place):
        about = path.stat()
        found.append((path.relative_to(place).as_posix(), about.st_size, about.st_mtime_ns, about.st_ino))
    return tuple(found)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; a missing one is a `UserError`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None


def file_stamp(path: Path) -> tuple[str, int, int]:
    """Name, size and time of change: enough to notice that a picture was exchanged between a kill and the resumed run."""
    about = path.stat() if path.exists() else None
    return path.name, about.st_size if about else -1, about.st_mtime_ns if about else 0


def digest_tree(folder: Path) -> str:
    """SHA-256 over the sorted relative names and the bytes of all files below `folder`; of the bytes alone for one file."""
    if folder.is_file():
        return digest_file(folder)
    total = hashlib.sha256()
    for path in files_below(folder):
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest_file(path)}\n".encode())
    return total.hexdigest()


def digest_model(folder: Path) -> str:
    """SHA-256, in hex, of what decides a model's answers: all files below `folder` but its provenance, manifest and sample pictures."""
    beside = ("provenance.json", "unpaired-manifest.json")
    files = [path for path in files_below(folder) if path.name not in beside and not path.name.startswith("pictures")]
    return digest_of([(path.relative_to(folder).as_posix(), digest_file(path)) for path in files])


def digest_of(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write JSON whose bytes depend on the value alone. NaN and infinity are refused (ValueError)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    replace(partial, path)


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is a `UserError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the stage that writes it (`dvc repro`)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): restore it or run its stage again") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; a missing or broken file, or one of another shape, is a `UserError` that names it."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object: restore it, or remove it if it is your own")
    return value


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's list of names, on the disk before this returns: what a power cut must not undo."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(finished: Path, target: Path) -> None:
    """Put a finished file in `target`'s place, in one step that survives a power cut."""
    sync(finished)
    os.replace(finished, target)
    sync(target.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; raises `UserError` when another process works in it. It goes at the end if it is empty."""
    lock = folder / ".lock"
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(lock.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                raise BlockingIOError  # its holder has just taken it away, and perhaps another has made it anew
        except (BlockingIOError, FileNotFoundError):
            raise UserError(f"{folder} is in use by another process that is still running: wait for it, or end it") from None
        try:
            yield
        finally:
            if [path.name for path in folder.iterdir()] == [lock.name]:
                lock.unlink()
                with suppress(OSError):  # another process has just come
                    folder.rmdir()


def regular(path: Path) -> Path:
    """The path, unless a pipe, a device or a socket lies there, which would be waited for without end: a `UserError`."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is no regular file: put one there")
    return path


def inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`; a name that leaves the folder, itself or by a link, raises `UserError`.

    `folder` may be a link, or lie behind one. Links in it to other folders are refused even where the user made them: DVC does not look
    behind them, so that a changed picture would go unseen. It does see what lies behind `folder`, and behind links to files.
    """
    # Not Path.resolve, which raises RuntimeError on a link to itself.
    if "\0" not in name and (path := Path(os.path.realpath(folder / name))).is_relative_to(os.path.realpath(folder)):
        return path
    raise UserError(f"file name {name!r} leaves its folder {folder}{_way_back(folder, name)}")


def _way_back(folder: Path, name: str) -> str:
    """What to do about a name that leaves its folder."""
    parts = Path(os.path.normpath(name)).parts
    below = [] if name.startswith("/") or ".." in parts else [folder.joinpath(*parts[: end + 1]) for end in range(len(parts))]
    for link in below:
        if os.path.islink(link) and not (target := Path(os.path.realpath(link))).is_relative_to(os.path.realpath(folder)):
            here, there = shlex.quote(str(link)), shlex.quote(str(target))
            return (f" by the link {link} to another folder, where DVC would see no change: link its files instead (`rm {here} && "
                    f"cp -rs {there} {here}`), or have data/raw/<name> itself be a link, to a folder with captions and pictures")
    return f": correct what holds the name; `cp -rs /path/to/folder {shlex.quote(str(folder))}` links the files of another folder"


def file_inside(folder: Path, name: str, resolve: Callable[[Path, str], Path] = inside) -> Path:
    """The file `name` below `folder`; a name that leaves it, or that no file can have, raises `UserError`.

    Only the folder part is resolved: the file itself may be a symbolic link, as DVC's caches and large image stores make them.
    resolve: `inside`, perhaps with a memory.
    """
    head, _, last = name.rpartition("/")
    if name.startswith("/") or last in ("", ".", "..") or UNWANTED.search(name):
        raise UserError(f"file name {name!r} leaves its folder {folder}, or names no file: correct the record that holds it")
    try:
        return resolve(folder, head) / last
    except UserError:
        raise UserError(f"file name {name!r} leaves its folder {folder}{_way_back(folder, head)}") from None
