"""Where the text of a data set lies: a file below its folder, packed or not, in an archive, or in an installed package."""

from __future__ import annotations

import gzip
import importlib.util
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..core.errors import UserError
from ..core.files import file_inside, regular
from ..core.params import suggest

MAX_BYTES = 2**32
_RATIO, _SMALL = 100, 2**26  # English text packs to a tenth; below 64 MB nobody is harmed
_BUFFER = 2**20
_CACHED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


@dataclass(frozen=True)
class Source:
    """The file `name` below `raw`, or one in an archive (`a.zip!member`, `a.jar!member`) or in a package (`package:name/file`).

    A name that ends in .gz is unpacked. limit: bytes that it may unpack to. Reading raises `UserError` for what is missing, broken, too
    large, or not UTF-8 (with line and byte offset). As text it is its name, for errors.
    """

    raw: Path
    name: str
    limit: int = MAX_BYTES

    def __str__(self) -> str:
        return self.name

    def text(self) -> str:
        """All of it, without a byte order mark."""
        with self.opened() as stream:
            content = stream.read()
        # Windows tools put the mark in front, which is no part of the first caption.
        return self._decoded(content, "utf-8-sig")

    def lines(self, ends: bool = False) -> Iterator[str]:
        """Its lines, one at a time: 3 million captions are never in memory twice. ends: whether with what ends them, \\n, \\r\\n or \\r."""
        # Not str.splitlines: U+2028, VT, FF and \x85 are whitespace inside a sentence here, not the end of one.
        with self.opened() as stream:
            offset = 0
            for number, line in enumerate(stream):
                text = self._decoded(line, "utf-8" if offset else "utf-8-sig", number, offset)
                offset += len(line)
                one = text.count("\r") == text.endswith("\r\n")
                for part in (text,) if one else io.StringIO(text, newline=""):
                    if part:
                        yield part if ends else part.removesuffix("\n").removesuffix("\r")

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Its bytes, unpacked, and never more of them than a text plausibly unpacks to."""
        path, member = self._place()
        try:
            with regular(path).open("rb") as file, _member(file, path, member) as stream:
                unpacked = gzip.GzipFile(fileobj=stream) if self.name.lower().endswith(".gz") else stream
                yield io.BufferedReader(_Bounded(unpacked, path, self.limit), _BUFFER)
        except FileNotFoundError:
            raise UserError(f"{path} is missing: put the file there, or correct source {self.name!r}") from None
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError) as error:
            raise UserError(f"{path} cannot be read ({error}): replace the file by a whole and readable one") from None

    def path(self) -> Path:
        """The file itself, for formats that are not read from front to back; `UserError` where it is packed or missing."""
        path, member = self._place()
        if member is not None or self.name.lower().endswith(".gz"):
            raise UserError(f"{self.name} is packed, and its format is read in place: unpack it")
        if not path.exists():
            raise UserError(f"{path} is missing: put the file there, or correct source {self.name!r}")
        return regular(path)

    def _place(self) -> tuple[Path, str | None]:
        archive = re.fullmatch(r"(.+?\.(?:zip|jar))!(.+)", self.name, flags=re.IGNORECASE)
        name, member = archive.groups() if archive else (self.name, None)
        return (_in_package(name.removeprefix("package:")) if name.startswith("package:") else _below(self.raw, name)), member

    def _decoded(self, content: bytes, encoding: str, lines: int = 0, offset: int = 0) -> str:
        """The text of these bytes, before which so many lines and bytes lie."""
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            start = error.start + len(content) - len(error.object)  # the decoder of "utf-8-sig" counts from behind the mark
            line = lines + content[:start].count(b"\n") + 1
            found = f"byte 0x{content[start]:02x} at offset {offset + start}"
            raise UserError(f"{self.name}, line {line}: {found} is not UTF-8: convert the file to UTF-8") from None


class _Bounded(io.RawIOBase):
    """A stream that comes out of `path`; `UserError` where it has more bytes than a text plausibly unpacks to."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, path: Path, limit: int) -> None:
        self._stream, self._path, self._limit, self._count = stream, path, limit, 0
        self._most = min(limit, max(_SMALL, _RATIO * path.stat().st_size))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        content = self._stream.read(len(buffer))
        self._count += len(content)
        if self._count > self._most:
            why = (f"more than max_bytes = {self._limit}" if self._most == self._limit
                   else f"more than {_RATIO} times its size, which no text does")
            raise UserError(f"{self._path} unpacks to over {self._most} bytes, {why}: raise max_bytes, or replace the file")
        buffer[: len(content)] = content
        return len(content)


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
