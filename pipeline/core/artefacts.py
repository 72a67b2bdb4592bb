"""Artefacts that prove themselves whole: a manifest with the size and digest of every file is written last, and checked on reading.

Cost: every byte that is read is hashed once per process, at a gigabyte a second or more.
"""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path

from ruamel.yaml import YAML

from .errors import UserError
from .files import Stamps, digest_file, read_json, stamps, sync, write_json
from .recorded import require_unchanged

MANIFEST = "unpaired-manifest.json"


def seal(folder: Path) -> None:
    """Write the manifest of a finished folder."""
    files = {name: [size, digest_file(folder / name)] for name, size, *_ in stamps(folder) if name != MANIFEST}
    write_json(folder / MANIFEST, {"files": files}, indent=None)


def publish(finished: Path, target: Path) -> None:
    """Seal a finished folder and put it in `target`'s place, its bytes on the disk first. Both must lie on one file system.

    Raises `UserError` if what DVC will record of the artefact is not what its stage was told.
    """
    require_unchanged()
    seal(finished)
    for folder, _, names in os.walk(finished, topdown=False):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()  # what it leads to is not ours
    elif target.exists():
        shutil.rmtree(target)
    os.replace(finished, target)
    sync(target.parent)


def whole(path: Path) -> Path:
    """`path`, once all files of the artefact that it is, or lies in, are as they were published; else a `UserError` that names the file."""
    if (root := _root(path)) is None:
        raise UserError(f"{path} is missing, or was made by an earlier version: {again(path)}")
    _check(root, stamps(root))  # remembered within a process
    return path


def whole_if_sealed(path: Path) -> Path:
    """The same for what may come from a user, without a manifest: raw data and models."""
    return path if _root(path) is None else whole(path)


def _root(path: Path) -> Path | None:
    return next((folder for folder in (path, *path.parents) if (folder / MANIFEST).is_file()), None)


@lru_cache(maxsize=256)
def _check(root: Path, found: Stamps) -> None:
    try:
        listed: dict[str, list[object]] = dict(read_json(root / MANIFEST)["files"])
    except (KeyError, TypeError, ValueError, UserError):
        raise UserError(f"{root / MANIFEST} is damaged: {repair(root)}") from None
    for name, size, *_ in found:
        if name == MANIFEST:
            continue
        if name not in listed:
            raise UserError(f"{root / name} does not belong there: remove it")
        if listed.pop(name) != [size, digest_file(root / name)]:
            raise UserError(f"{root / name} is not as it was made: {repair(root)}")
    if listed:
        raise UserError(f"{root / min(listed)} is missing: {repair(root)}")


def repair(root: Path) -> str:
    """What to do about a damaged artefact: DVC may hold it unharmed, but looks at neither; its stage makes it anew."""
    if root.parts[:2] == ("data", "foundation"):
        return f"restore it with `git checkout -- {root}`, or put a whole one there"
    if stage := _stage_of(root):
        return f"delete it and run `dvc checkout {root}`; where that brings the same, run `dvc repro --force --single-item {stage}`"
    return "replace it, if it is yours; else delete it and run the same command again"


def again(*paths: Path) -> str:
    """What to do about artefacts that do not fit others: DVC makes them anew where it knows of it, and by force where not."""
    stages = " ".join(filter(None, (_stage_of(_root(path) or path) for path in paths)))
    by_force = f"; where that changes nothing, run `dvc repro --force --single-item {stages}`, then `dvc repro`" if stages else ""
    return f"run `dvc repro`{by_force}"


def _stage_of(path: Path) -> str | None:
    """The stage whose output a path is, or lies in, as dvc.lock has it."""
    try:
        stages = YAML(typ="safe", pure=True).load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"]
        return next((name for name, stage in stages.items() for out in stage.get("outs", ()) if path.is_relative_to(out["path"])), None)
    except (OSError, KeyError, TypeError, AttributeError, ValueError):
        return None
