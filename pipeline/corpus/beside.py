"""Pictures with their captions beside them: `a.jpg` and `a.txt` or `a.json`, in a folder or in tar files (WebDataset).

A reader as `readers.py` describes them, of a folder or a tar file.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..core.errors import UserError
from ..core.files import UNWANTED, files_below, inside, regular
from ..images import SUFFIXES
from ..videos import is_video
from .records import Caption, Image, Options, Records, lines_of, parse_json, sentence_of, shown
from .sources import Source


class _File(NamedTuple):
    """A file of a folder, or a part of a tar file there. name: below the raw folder, as image tables have it. read: its bytes, now."""

    name: str
    read: Callable[[], bytes]


def read_beside(source: Source, options: Options) -> Records:
    """A folder (`.` for the whole of it) or a tar file: pictures or videos, each with a text of the same name up to its suffix.

    A `.txt` holds a caption a line; a `.json`, read where there is no `.txt`, an object with a `caption` or a list of them. A picture
    without any is "unlabelled"; a `.txt` without its picture is a `UserError`. Other files are left out. Ids of images are their names
    below the raw folder, those of captions `name#k`, k from 0.
    """
    pictures: dict[str, str] = {}
    texts: dict[str, tuple[str, list[str | None]]] = {}
    for file in _files(source):
        stem, _, suffix = file.name.rpartition(".")
        suffix = suffix.lower()
        if f".{suffix}" in SUFFIXES or is_video(file.name):
            if stem in pictures:
                raise UserError(f"{source}: {shown(file.name)} and {shown(pictures[stem])} would share one text: rename one of them")
            pictures[stem] = file.name
        elif suffix == "txt" or (suffix == "json" and stem not in texts):
            texts[stem] = file.name, _sentences(file, suffix)
    if lone := [name for stem, (name, _) in texts.items() if stem not in pictures and name.lower().endswith(".txt")]:
        raise UserError(f"{source}: {lone[0]} has no picture beside it, as {len(lone)} texts in all have none: put it there, or take the "
                        "text away")
    captions, images = [], []
    for stem, name in pictures.items():
        _, sentences = texts.get(stem, ("", []))
        images.append(Image(name, name, options.split if sentences else "unlabelled"))
        captions += [Caption(f"{name}#{k}", name, sentence, options.split) for k, sentence in enumerate(sentences)]
    return Records(captions, images)


def _sentences(file: _File, suffix: str) -> list[str | None]:
    try:
        text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file.name}: byte 0x{error.object[error.start]:02x} is not UTF-8: convert the file to UTF-8") from None
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{file.name} cannot be read ({error}): replace it by a whole one") from None
    if suffix == "txt":
        return [line for line in lines_of(text) if line.strip()]
    data = parse_json(text, file.name)
    found = data.get("caption", []) if isinstance(data, dict) else []
    return [sentence_of({"caption": each}, "caption", file.name, "top level") for each in (found if isinstance(found, list) else [found])]


def _files(source: Source) -> Iterator[_File]:
    """Every file of the folder or tar file, those in tar files of the folder too."""
    place = inside(source.raw, source.name)
    if not place.exists():
        raise UserError(f"{place} is missing: put a folder or a tar file there, or correct source {source.name!r}")
    root = inside(source.raw, ".")
    for path in files_below(place) if place.is_dir() else [regular(place)]:
        name = path.relative_to(root).as_posix()
        if UNWANTED.search(name):
            raise UserError(f"{source}: {shown(name)} is no file's name that can be kept: rename it")
        if path.suffix.lower() == ".tar":
            yield from _members(path, name)
        else:
            yield _File(name, path.read_bytes)


def _members(path: Path, name: str) -> Iterator[_File]:
    try:
        with tarfile.open(path, "r:") as file:
            for member in file:
                if member.isreg():
                    if UNWANTED.search(member.name):
                        raise UserError(f"{name}: {shown(member.name)} is no file's name that can be kept: rename it")
                    stream = file.extractfile(member)
                    yield _File(f"{name}!{member.name}", stream.read if stream else bytes)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(f"{name} is no readable tar file ({error}): replace it by a whole one") from None
