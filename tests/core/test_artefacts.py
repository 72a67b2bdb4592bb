"""Artefacts prove themselves whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core import artefacts
from pipeline.core.artefacts import MANIFEST, publish, repair, seal, whole, whole_if_sealed
from pipeline.core.files import read_json

ROOT = Path("data/models/knight")
FILES = {"a.bin": bytes(range(256)), "deep/b.json": b"{}", "deep/deeper/c": b""}


@pytest.fixture(autouse=True)
def _published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        path = Path("filled", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    publish(Path("filled"), ROOT)


def test_publishing_makes_the_folders_above_the_target(tmp_path):
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "file").write_text("x")
    publish(tmp_path / "finished", tmp_path / "data" / "models" / "knight")
    assert (tmp_path / "data" / "models" / "knight" / "file").read_text() == "x"


def test_a_manifest_names_every_file_and_has_the_same_bytes_twice():
    listed = read_json(ROOT / MANIFEST)["files"]
    assert {name: entry[0] for name, entry in listed.items()} == {name: len(content) for name, content in FILES.items()}
    before = (ROOT / MANIFEST).read_bytes()
    seal(ROOT)
    assert (ROOT / MANIFEST).read_bytes() == before

LOCK = "schema: '2.0'\nstages:\n  train@knight:\n    cmd: x\n    outs: [{path: data/models/knight, md5: 0}]\n"


@pytest.mark.parametrize("path", [ROOT, ROOT / "a.bin", ROOT / "deep", ROOT / "deep/deeper/c"])
def test_an_artefact_as_it_was_published_is_whole_from_wherever_it_is_looked_at(path):
    assert whole(path) == path
    assert whole_if_sealed(path) == path


@pytest.mark.parametrize("position", [0, 17, 255])
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_flipped_byte_is_found_and_named(name, position, user_error):
    file = ROOT / name
    content = bytearray(file.read_bytes())
    if not content:
        content = bytearray(b"x")
    else:
        content[position % len(content)] ^= 0x40
    stamp = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    message = user_error(whole, ROOT / "deep/b.json")
    assert str(ROOT) in message
    assert name in message or name == MANIFEST


@pytest.mark.parametrize("damage", [
    lambda: (ROOT / "a.bin").unlink(), lambda: (ROOT / "a.bin").write_bytes(b""), lambda: (ROOT / "new").touch(),
    lambda: (ROOT / "a.bin").rename(ROOT / "z.bin"), lambda: (ROOT / MANIFEST).write_text("[]"), lambda: (ROOT / MANIFEST).write_text("{}"),
    lambda: (ROOT / MANIFEST).write_text('{"files": 3}'), lambda: (ROOT / MANIFEST).write_text('{"files": {"a.bin": null}}'),
])
def test_a_missing_an_empty_a_renamed_and_a_foreign_file_are_found(damage, user_error):
    Path("dvc.lock").write_text(LOCK)
    whole(ROOT)
    damage()
    message = user_error(whole, ROOT)
    assert "dvc repro --force --single-item train@knight" in message or "does not belong there: remove it" in message


def test_what_has_no_manifest_is_believed_only_where_users_may_have_put_it(user_error):
    (ROOT / MANIFEST).unlink()
    assert "earlier version" in user_error(whole, ROOT)
    assert whole_if_sealed(ROOT) == ROOT
    assert "data/other is missing" in user_error(whole, Path("data/other"))


def test_every_file_is_read_once_in_a_process(monkeypatch):
    read = []
    real = artefacts.digest_file
    monkeypatch.setattr(artefacts, "digest_file", lambda path: (read.append(path), real(path))[1])
    for _ in range(3):
        whole(ROOT)
        whole(ROOT / "deep")
    assert len(read) == len(set(read)) == len(FILES)


def test_a_link_in_the_targets_place_goes_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/precious").touch()
    link = Path("data/models/link")
    link.symlink_to(tmp_path / "mine")
    Path("again").mkdir()
    publish(Path("again"), link)
    assert not link.is_symlink()
    assert [path.name for path in link.iterdir()] == [MANIFEST]
    assert (tmp_path / "mine/precious").exists()


def test_the_advice_names_the_stage_that_makes_the_artefact():
    assert "if it is yours" in repair(ROOT)
    Path("dvc.lock").write_text(LOCK)
    assert "--single-item train@knight" in repair(ROOT)
    assert "git checkout" in repair(Path("data/foundation/micro"))
