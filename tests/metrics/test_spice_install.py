"""CoreNLP comes whole or not at all, from Maven's client or from a file that people name, and only the right one."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.files import locked
from pipeline.metrics import spice_install

CONTENTS = {jar.name: f"stands for {jar.name}".encode() * 100 for jar in spice_install.JARS}
NAMES = list(CONTENTS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, small jars, and no Maven."""
    small = tuple(spice_install.Jar(jar.name, jar.artifact, len(CONTENTS[jar.name]),
                                    hashlib.sha256(CONTENTS[jar.name]).hexdigest()) for jar in spice_install.JARS)
    monkeypatch.setattr(spice_install, "JARS", small)
    monkeypatch.setenv("UNPAIRED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "cache" / "spice"


def folder_of(place: Path, contents: dict[str, bytes] = CONTENTS) -> Path:
    """A folder that holds these jars."""
    place.mkdir(parents=True)
    for name, content in contents.items():
        (place / name).write_bytes(content)
    return place


def zip_of(file: Path, contents: dict[str, bytes] = CONTENTS) -> Path:
    """A zip of them, in a folder as in Stanford's."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("stanford-corenlp-full-2015-12-09/README.txt", "CoreNLP")
        for name, content in contents.items():
            archive.writestr(f"stanford-corenlp-full-2015-12-09/{name}", content)
    return file


def maven(place: Path, script: str) -> None:
    """A client of that name on PATH. `artifact` and `folder` are what it is asked for."""
    place.mkdir()
    lines = ["import pathlib, sys", "options = dict(each.split('=', 1) for each in sys.argv if '=' in each)",
             "artifact, folder = options['-Dartifact'], pathlib.Path(options['-DoutputDirectory'])", script]
    (place / "mvn").write_text("\n".join([f"#!{sys.executable}", *lines, ""]))
    (place / "mvn").chmod(0o755)


def there(home: Path) -> list[str]:
    """What lies below the cache folder, but the lock."""
    return sorted(path.name for path in home.rglob("*") if path.name != ".lock")


WHOLE = sorted(["stanford-corenlp-3.6.0", *NAMES])


@pytest.mark.parametrize("make", [
    lambda base: folder_of(base / "jars"), lambda base: folder_of(base / "unpacked" / "stanford-corenlp").parent,
    lambda base: zip_of(base / "stanford.zip")], ids=["folder", "folder in a folder", "zip"])
def test_a_folder_or_a_zip_is_enough(tmp_path: Path, home: Path, make: Callable[[Path], Path]) -> None:
    files = spice_install.install(make(tmp_path))
    assert [file.read_bytes() for file in files] == list(CONTENTS.values())
    assert files == spice_install.installed()
    assert there(home) == WHOLE


def test_mavens_client_fetches_what_nobody_names(tmp_path: Path, home: Path) -> None:
    maven(tmp_path / "bin", f"name = 'stanford-corenlp-3.6.0' + ('-models' if 'models' in artifact else '') + '.jar'\n"
                            f"(folder / name).write_bytes({CONTENTS!r}[name])\n"
                            f"pathlib.Path({str(tmp_path)!r}, 'ran').open('a').write('.')")
    spice_install.install()
    assert there(home) == WHOLE
    spice_install.install()
    assert (tmp_path / "ran").read_text() == "..", "what is whole was fetched again"


@pytest.mark.parametrize(("script", "said"), [
    ("print('[ERROR] no such artifact [Help 1]'); sys.exit(1)", "no such artifact"), ("sys.exit(3)", "exit code 3"),
    ("pass", "did not fetch edu.stanford.nlp:stanford-corenlp:3.6.0 ")])
def test_a_maven_that_fails_is_one_line_and_leaves_nothing(tmp_path: Path, home: Path, user_error, script: str,
                                                          said: str) -> None:
    maven(tmp_path / "bin", script)
    assert said in user_error(spice_install.install)
    assert there(home) == []


def test_without_maven_people_are_told_what_to_name(home: Path, user_error) -> None:
    message = user_error(spice_install.install)
    assert "--from" in message
    assert "stanford-corenlp-full-2015-12-09.zip" in message
    assert there(home) == []


def test_another_file_of_that_name_is_refused(tmp_path: Path, home: Path, user_error) -> None:
    same_size = {**CONTENTS, NAMES[1]: CONTENTS[NAMES[1]][::-1]}
    longer = {**CONTENTS, NAMES[1]: b"x" * 100_000}
    for source in (folder_of(tmp_path / "a", same_size), zip_of(tmp_path / "a.zip", same_size),
                   folder_of(tmp_path / "b", longer), zip_of(tmp_path / "b.zip", longer)):
        message = user_error(spice_install.install, source)
        assert f"{NAMES[1]} of {source} is another file" in message
        assert "edu.stanford.nlp:stanford-corenlp:3.6.0:jar:models" in message
        assert there(home) == []


def test_a_source_that_holds_none_is_one_line(tmp_path: Path, home: Path, user_error) -> None:
    half = folder_of(tmp_path / "half", {NAMES[0]: CONTENTS[NAMES[0]]})
    assert f"holds no {NAMES[1]}" in user_error(spice_install.install, half)
    assert "is missing" in user_error(spice_install.install, tmp_path / "none")
    (tmp_path / "text.zip").write_text("no zip")
    assert "no zip that can be unpacked" in user_error(spice_install.install, tmp_path / "text.zip")
    damaged = bytearray(zip_of(tmp_path / "damaged.zip").read_bytes())
    damaged[damaged.index(NAMES[0].encode()) + len(NAMES[0]) + 3] ^= 255
    (tmp_path / "damaged.zip").write_bytes(damaged)
    assert "no zip that can be unpacked" in user_error(spice_install.install, tmp_path / "damaged.zip")
    assert there(home) == []


def test_an_interrupted_install_leaves_nothing_half(tmp_path: Path, home: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    source, bring = folder_of(tmp_path / "jars"), spice_install._bring

    def interrupted(jar: spice_install.Jar, *rest) -> None:
        bring(jar, *rest)
        if jar.name == NAMES[1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(spice_install, "_bring", interrupted)
    with pytest.raises(KeyboardInterrupt):
        spice_install.install(source)
    assert there(home) == []


def test_what_a_killed_install_left_is_no_install_and_in_nobodys_way(tmp_path: Path, home: Path, user_error) -> None:
    folder_of(home / "stanford-corenlp-3.6.0.partial", {NAMES[0]: b"half"})
    assert "`unpaired spice install`" in user_error(spice_install.installed)
    spice_install.install(folder_of(tmp_path / "jars"))
    assert there(home) == WHOLE


def test_a_damaged_install_is_named_and_made_anew(tmp_path: Path, home: Path, user_error) -> None:
    source = folder_of(tmp_path / "jars")
    for damage in (b"", CONTENTS[NAMES[0]][::-1]):
        spice_install.install(source)[0].write_bytes(damage)
        assert f"{NAMES[0]} is damaged: run `unpaired spice install`" in user_error(spice_install.installed)
    spice_install.install(source)[1].unlink()
    assert "SPICE is not installed" in user_error(spice_install.installed)
    assert spice_install.install(source) == spice_install.installed()


def test_two_installs_at_once_do_not_mix(tmp_path: Path, home: Path, user_error) -> None:
    with locked(home):
        assert "in use by another process" in user_error(spice_install.install, folder_of(tmp_path / "jars"))
    assert there(home) == []


def test_a_cache_folder_that_cannot_be_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user_error) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNPAIRED_CACHE", str(tmp_path / "file"))
    assert "name another folder by UNPAIRED_CACHE" in user_error(spice_install.install, folder_of(tmp_path / "jars"))


def test_the_cache_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNPAIRED_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert spice_install.cache_folder() == tmp_path / "unpaired"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert spice_install.cache_folder() == Path.home() / ".cache" / "unpaired"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert spice_install.cache_folder() == Path.home() / "Library" / "Caches" / "unpaired"


def test_the_command_says_where_it_is_and_under_which_licences(tmp_path: Path, home: Path) -> None:
    result = CliRunner().invoke(app, ["spice", "install", "--from", os.fspath(folder_of(tmp_path / "jars"))])
    assert result.exit_code == 0, result.output
    assert "GPL" in result.stdout
    assert "AGPL" in result.stdout
    assert str(home) in result.stdout
