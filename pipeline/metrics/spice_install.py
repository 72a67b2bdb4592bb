"""Stanford CoreNLP 3.6.0, which SPICE needs and pycocoevalcap lacks: fetched when asked, kept in the user's cache.

CoreNLP is under the GPL and SPICE under the AGPL: they run as a process of their own, and no part of them is in this
project.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..core.errors import UserError
from ..core.files import digest_file, locked, regular, sync

CACHE_VARIABLE = "UNPAIRED_CACHE"
LICENCES = ("Stanford CoreNLP is under the GPL and SPICE under the AGPL: they run as a process of their own, and are "
            "no part of this project, which is under the MIT licence")
ARCHIVE = "stanford-corenlp-full-2015-12-09.zip"
_INSTALL = "run `unpaired spice install`"


@dataclass(frozen=True)
class Jar:
    """A file of CoreNLP. artifact: Maven's name for it. size: in bytes. digest: SHA-256 in hex."""

    name: str
    artifact: str
    size: int
    digest: str


# Of the files on Maven Central, which agree with the SHA-1 that it publishes beside them.
JARS = (
    Jar("stanford-corenlp-3.6.0.jar", "edu.stanford.nlp:stanford-corenlp:3.6.0", 7_270_741,
        "d341d5863276f55782c5ef73212222d6b3b48e02ae1951ab6de7618d28b12742"),
    Jar("stanford-corenlp-3.6.0-models.jar", "edu.stanford.nlp:stanford-corenlp:3.6.0:jar:models", 378_116_526,
        "d285157bd7887ee3018094b5dbae092e49088b023361ccdb550ee1daf9b2c9bd"),
)


def cache_folder() -> Path:
    """UNPAIRED_CACHE where it is set, else `unpaired` where the platform keeps what can be fetched again."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "unpaired"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unpaired"


def installed() -> tuple[Path, ...]:
    """The jars, whole; `UserError` where one is missing or damaged."""
    files = tuple(_folder() / jar.name for jar in JARS)
    if not all(file.is_file() for file in files):
        raise UserError(f"SPICE is not installed (no Stanford CoreNLP in {_folder()}): {_INSTALL}")
    for jar, file in zip(JARS, files, strict=True):
        if not _is_whole(jar, file):
            raise UserError(f"{file} is damaged: {_INSTALL}")
    return files


def install(source: Path | None = None) -> tuple[Path, ...]:
    """Bring both jars into the cache folder, all or nothing; one that is whole already is left as it is.

    source: a folder or a zip that holds them; without one Maven's client fetches them. Raises `UserError` where they
    cannot be had, or are others.
    """
    try:
        return installed()
    except UserError:
        pass
    home, partial = _folder().parent, _folder().with_name(f"{_folder().name}.partial")
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{home} cannot be made ({error.strerror}): name another folder by {CACHE_VARIABLE}") from None
    with locked(home):
        try:
            _make_empty(partial)
            for jar in JARS:
                _bring(jar, source, partial)
                sync(partial / jar.name)
            shutil.rmtree(_folder(), ignore_errors=True)  # a damaged one
            partial.rename(_folder())
            sync(home)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return installed()


def _folder() -> Path:
    return cache_folder() / "spice" / "stanford-corenlp-3.6.0"


def _make_empty(folder: Path) -> None:
    """What an ended process left there goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _bring(jar: Jar, source: Path | None, folder: Path) -> None:
    """Put a jar into a folder; `UserError` if it is another one."""
    file = folder / jar.name
    if source is None:
        _fetch(jar, folder)
    else:
        _copy(jar, source, file)
    if not _is_whole(jar, file):
        found = digest_file(file)
        raise UserError(f"{jar.name} of {source or 'Maven'} is another file (SHA-256 {found}, expected {jar.digest}): "
                        f"take it from Maven Central, where it is {jar.artifact}")


def _is_whole(jar: Jar, file: Path) -> bool:
    return file.stat().st_size == jar.size and digest_file(file) == jar.digest


def _fetch(jar: Jar, folder: Path) -> None:
    """By Maven's client, through whatever it is set up to use; it keeps a copy in its own repository."""
    client = shutil.which("mvn")
    if client is None:
        raise UserError("Maven's client `mvn` is not on PATH: install Maven, or name a folder or zip by --from that "
                        f"holds {JARS[0].name} and {JARS[1].name}, such as Stanford's {ARCHIVE}")
    command = [client, "--batch-mode", "--quiet", "--strict-checksums", "-Dstyle.color=never", "dependency:copy",
               f"-Dartifact={jar.artifact}", f"-DoutputDirectory={folder}"]
    # in that folder, since a project of Maven's in the current one would have its say
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode or not (folder / jar.name).is_file():
        output = (done.stdout + done.stderr).decode(errors="replace")
        lines = [line for line in output.splitlines() if line.startswith("[ERROR]")]
        said = lines[0].removeprefix("[ERROR]").strip()[:300] if lines else f"exit code {done.returncode}"
        raise UserError(f"Maven did not fetch {jar.artifact} ({said}): see that `mvn` reaches Maven Central, or name a "
                        "folder or zip that holds the jars by --from")


def _copy(jar: Jar, source: Path, target: Path) -> None:
    """Out of a folder, one below it, or a zip."""
    try:
        with ExitStack() as stack, target.open("wb") as copy:
            shutil.copyfileobj(_opened(jar, source, stack), copy, 1 << 20)
    # RuntimeError: a zip with a password, or by an algorithm that is not known here
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{source} is no zip that can be unpacked ({error}): name a folder or zip that holds "
                        f"{jar.name}") from None


def _opened(jar: Jar, source: Path, stack: ExitStack) -> IO[bytes]:
    """The jar's bytes in a folder or zip, open until the stack is left."""
    if not regular(source).exists():
        raise UserError(f"{source} is missing: name a folder or zip that holds {jar.name}")
    if source.is_dir():
        for file in (source / jar.name, *sorted(source.glob(f"*/{jar.name}"))):
            if file.is_file():
                return stack.enter_context(file.open("rb"))
    else:
        archive = stack.enter_context(zipfile.ZipFile(source))
        members = [member for member in archive.infolist() if member.filename.rpartition("/")[2] == jar.name]
        if members and members[0].file_size == jar.size:
            return stack.enter_context(archive.open(members[0]))
        if members:
            raise UserError(f"{jar.name} of {source} is another file ({members[0].file_size:,} bytes, expected "
                            f"{jar.size:,}): take it from Maven Central, where it is {jar.artifact}")
    raise UserError(f"{source} holds no {jar.name}: name a folder or zip that does, such as Stanford's {ARCHIVE}")
