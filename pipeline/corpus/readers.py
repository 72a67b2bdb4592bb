"""The caption formats in use, each read into the same plain records.

A reader takes the decoded text of one file, the name to give that file in errors, and `Options` for what the file
leaves open; it returns `Records` in source order. Whatever it cannot take as it stands is a `UserError` of one line.
"""

from __future__ import annotations

import gzip
import importlib.util
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..core.errors import UserError
from ..core.files import file_inside, regular
from ..core.params import suggest
from .records import (
    TRAIN_SPLITS,
    Caption,
    ClipList,
    Image,
    Options,
    Records,
    field,
    identifier,
    lines_of,
    parse_json,
    require_unique,
    shown,
    split_of,
)
from .sentences import LOOKED_AT, require_sentences
from .video_readers import read_msrvtt, read_msvd, read_table

MAX_BYTES = 2**32
_RATIO, _SMALL = 100, 2**26  # English text packs to a tenth; below 64 MB nobody is harmed
_CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


def read_source(raw: Path, source: str, limit: int = MAX_BYTES) -> str:
    """The text of `source` below `raw`, in an archive (`a.zip!member`, `a.jar!member`) or in a package (`package:name/file`).

    A name that ends in .gz is unpacked. limit: bytes that the text may have. Raises `UserError` for what is missing, broken, too large,
    or not UTF-8 (with line and byte offset).
    """
    archive = re.fullmatch(r"(.+?\.(?:zip|jar))!(.+)", source, flags=re.IGNORECASE)
    name, member = archive.groups() if archive else (source, None)
    path = _in_package(name.removeprefix("package:")) if name.startswith("package:") else _below(raw, name)
    try:
        with regular(path).open("rb") as file, _member(file, path, member) as stream:
            content = _bounded(gzip.GzipFile(fileobj=stream) if source.lower().endswith(".gz") else stream, path, limit)
        # Windows tools put a byte order mark in front, which is no part of the first caption.
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: put the file there, or correct source {source!r}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        found = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        raise UserError(f"{source}, line {line}: {found} is not UTF-8: convert the file to UTF-8") from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read ({error}): replace the file by a whole and readable one") from None


def _in_package(name: str) -> Path:
    package, _, rest = name.partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"source names the package {package!r}, which is not installed: install it, or correct source")
    return file_inside(Path(spec.submodule_search_locations[0]), rest)


def _below(raw: Path, name: str) -> Path:
    """The file of this name; a link may lead to DVC's cache, wherever that is, and else must stay below `raw`, perhaps a link itself."""
    with suppress(UserError):
        target = (path := file_inside(raw, name)).resolve()
        if target.is_relative_to(raw.resolve()) or _CACHED.search(target.as_posix()):
            return path
    raise UserError(f"source {name!r} names no file of {raw}, or is a link that leaves it: put the file itself there, or have {raw} itself "
                    "be a link, to a folder with captions and pictures")


@contextmanager
def _member(file: IO[bytes], path: Path, member: str | None) -> Iterator[IO[bytes]]:
    """The file itself, or a file in it where it is an archive."""
    if member is None:
        yield file
        return
    with zipfile.ZipFile(file) as archive:
        if member not in archive.namelist():
            alike = [name for name in archive.namelist() if Path(name).suffix == Path(member).suffix]
            raise UserError(f"{path} holds no file {member!r}{suggest(member, alike)}")
        with archive.open(member) as stream:
            yield stream


def _bounded(stream: IO[bytes] | gzip.GzipFile, path: Path, limit: int) -> bytes:
    """All bytes of a stream that comes out of `path`; `UserError` where they are more than a text plausibly unpacks to."""
    most = min(limit, max(_SMALL, _RATIO * path.stat().st_size))
    content = stream.read(most + 1)
    if len(content) > most:
        why = f"more than max_bytes = {limit}" if most == limit else f"more than {_RATIO} times its size, which no text does"
        raise UserError(f"{path} unpacks to over {most} bytes, {why}: raise max_bytes, or replace the file")
    return content


def read_karpathy(text: str, source: str, options: Options) -> Records:
    """Karpathy's `dataset_*.json`; image ids are `cocoid` where present, else `imgid`. It leaves nothing open."""
    captions, images, ids = [], [], []
    for i, record in enumerate(field(parse_json(text, source), "images", list, source, "top level")):
        own = split_of(record, source, "images", i)
        image_id = identifier(record, "cocoid" if "cocoid" in record else "imgid", source, "images", i)
        ids.append(image_id)
        if own not in TRAIN_SPLITS or "filename" in record:  # a corpus may do without pictures
            folder = field(record, "filepath", str, source, "images", i) + "/" if record.get("filepath") else ""
            images.append(Image(image_id, folder + field(record, "filename", str, source, "images", i), own))
        if own == "unlabelled":
            if record.get("sentences"):
                raise UserError(f"{source}: images[{i}] (image {image_id}) is unlabelled and yet has sentences: "
                                "remove them, or give it another split")
            continue
        where = f"images[{i}].sentences"
        for j, sentence in enumerate(field(record, "sentences", list, source, "images", i)):
            captions.append(Caption(identifier(sentence, "sentid", source, where, j), image_id,
                                    field(sentence, "raw", str, source, where, j), own))
    require_unique(ids, "image", source)
    return Records(captions, images, own_splits=True)


def read_coco(text: str, source: str, options: Options) -> Records:
    """COCO's `captions_*.json`: {images: [{id, file_name}], annotations: [{id, image_id, caption}]}, all of one split."""
    data, split = parse_json(text, source), options.split
    records = field(data, "images", list, source, "top level")
    ids = [identifier(record, "id", source, "images", i) for i, record in enumerate(records)]
    require_unique(ids, "image", source)
    images = [
        Image(image_id, field(record, "file_name", str, source, "images", i), split)
        for i, (image_id, record) in enumerate(zip(ids, records, strict=True)) if split not in TRAIN_SPLITS or "file_name" in record
    ]
    captions, known = [], set(ids)
    for i, record in enumerate(field(data, "annotations", list, source, "top level")):
        image_id = identifier(record, "image_id", source, "annotations", i)
        if image_id not in known:
            raise UserError(f"{source}: annotations[{i}] is of image {image_id}, which `images` does not list: correct either")
        captions.append(Caption(identifier(record, "id", source, "annotations", i), image_id,
                                field(record, "caption", str, source, "annotations", i), split))
    return Records(captions, images)


def read_lines(text: str, source: str, options: Options) -> Records:
    """One sentence a line; caption ids are line numbers from 1. Blank lines are counted and left out."""
    lines = lines_of(text)
    captions = [Caption(str(i), None, line, options.split) for i, line in enumerate(lines, 1) if line and not line.isspace()]
    require_sentences([caption.text for caption in captions[:LOOKED_AT]], source)
    return Records(captions, [], noun="line", blank=len(lines) - len(captions))


def read_json_list(text: str, source: str, options: Options) -> Records:
    """A JSON list of strings, as DeCap and MacCap have it; caption ids are positions in the list from 0."""
    sentences = _list(parse_json(text, source), source)
    for i, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise UserError(f"{source}: list[{i}] is {shown(sentence)}, not a string: correct it, or choose another format")
    return Records([Caption(str(i), None, sentence, options.split) for i, sentence in enumerate(sentences)], [], noun="item")


def read_maccap(text: str, source: str, options: Options) -> Records:
    """MAGIC's and MacCap's list of {split, image_name, captions}; caption ids are `image_name#k`, k from 0. It leaves nothing open."""
    captions, images, ids = [], [], []
    for i, record in enumerate(_list(parse_json(text, source), source)):
        own = split_of(record, source, "list", i)
        if own == "unlabelled":
            raise UserError(f"{source}: list[{i}] is 'unlabelled', which only the karpathy format and tables can say: use one of them")
        name = identifier(record, "image_name", source, "list", i)
        ids.append(name)
        images.append(Image(name, name, own))
        for j, sentence in enumerate(field(record, "captions", list, source, "list", i)):
            if not isinstance(sentence, str):
                raise UserError(f"{source}: list[{i}].captions[{j}] is {shown(sentence)}, not a string: correct it")
            captions.append(Caption(f"{name}#{j}", name, sentence, own))
    require_unique(ids, "image", source)
    return Records(captions, images, own_splits=True)


Reader = Callable[[str, str, Options], Records]
READERS: dict[str, Reader] = {
    "karpathy": read_karpathy, "coco": read_coco, "lines": read_lines, "json": read_json_list, "maccap": read_maccap,
    "msrvtt": read_msrvtt, "msvd": read_msvd, "table": read_table,
}


def read_records(raw: Path, source: str, format: str, split: str, limit: int = MAX_BYTES, suffix: str = "",
                 lists: Iterable[tuple[str, str]] = ()) -> Records:
    """Read one source in one of READERS' formats; caption ids are unique among the records returned, image ids too.

    split, suffix: see `Options`. lists: splits, each with the file that lists its clips, found like `source`.
    """
    listed = tuple(ClipList(own, name, _read_list(raw, own, name, limit)) for own, name in lists)
    records = READERS[format](read_source(raw, source, limit), source, Options(split, suffix, listed))
    require_unique([caption.caption_id for caption in records.captions], "caption", source)
    return records


def _read_list(raw: Path, split: str, name: str, limit: int) -> str:
    try:
        return read_source(raw, name, limit)
    except UserError as error:
        raise UserError(f"lists: {split}: {error}") from None


def _list(value: Any, source: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{source}: found {shown(value)} at the top level, expected a list: choose the format that it has")
    return value
