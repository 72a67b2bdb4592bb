"""Files that are complete or absent."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.core.code import ROOT
from pipeline.core.errors import UserError
from pipeline.core.files import (
    LITTER,
    digest_file,
    digest_model,
    digest_of,
    digest_tree,
    file_inside,
    files_below,
    inside,
    locked,
    read_json,
    stamps,
    write_json,
)

HOLD_LOCK = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.flock(f,fcntl.LOCK_EX); print('held',flush=True); sys.stdin.read()"


def test_a_digest_notices_a_changed_a_renamed_and_a_new_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    digests = [digest_tree(tmp_path)]
    (tmp_path / "a" / "x").write_bytes(b"2")
    digests.append(digest_tree(tmp_path))
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    digests.append(digest_tree(tmp_path))
    (tmp_path / "z").write_bytes(b"")
    digests.append(digest_tree(tmp_path))
    assert len(set(digests)) == 4


def test_a_digest_does_not_depend_on_where_the_folder_lies_or_in_which_order_it_was_filled(tmp_path):
    for folder, names in (("one", "ab"), ("two", "ba")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(name)
    assert digest_tree(tmp_path / "one") == digest_tree(tmp_path / "two")
    assert digest_tree(tmp_path / "one" / "a") == digest_file(tmp_path / "two" / "a")


def test_a_digest_of_parameters_ignores_their_order_but_not_their_values():
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_json_is_read_as_it_was_written_and_has_the_same_bytes_twice(tmp_path):
    value = {"name": "Zoë", "scores": [0.1, 2], "none": None}
    write_json(tmp_path / "new" / "one.json", value)
    write_json(tmp_path / "two.json", value)
    assert read_json(tmp_path / "new" / "one.json") == value
    assert (tmp_path / "new" / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["one.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_json_cannot_hold_leaves_the_old_file_as_it_was(tmp_path, value):
    write_json(tmp_path / "scores.json", {"CIDEr": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "scores.json", {"CIDEr": value})
    assert read_json(tmp_path / "scores.json") == {"CIDEr": 1.0}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_missing_and_broken_json_is_named(tmp_path, user_error, content):
    assert "log.json is missing" in user_error(read_json, tmp_path / "log.json")
    (tmp_path / "log.json").write_bytes(content)
    assert "log.json is not valid JSON" in user_error(read_json, tmp_path / "log.json")


def test_two_processes_never_work_in_one_folder(tmp_path, user_error):
    folder = tmp_path / "scratch"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD_LOCK, str(folder / ".lock")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert f"{folder} is in use by another process" in user_error(locked(folder).__enter__)
        other.stdin.close()
    with locked(folder):
        pass  # free again once the other process has ended


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "link/secret", "a\0b"])
def test_a_record_cannot_name_a_file_outside_its_data_set(tmp_path, name):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="leaves its folder"):
        inside(folder, name)


def test_a_name_below_its_folder_is_found(tmp_path):
    assert inside(tmp_path, "val/./00001.png") == (tmp_path / "val" / "00001.png").resolve()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "link/secret", "", ".", "..", "a/", "a/..", "a\0b", "a\nb"])
def test_a_record_cannot_name_what_is_no_file_of_its_data_set(tmp_path, user_error, name):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    assert str(folder) in user_error(file_inside, folder, name)


def test_a_file_may_be_a_link_to_elsewhere_as_caches_and_image_stores_make_them(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "cached").write_text("x")
    (tmp_path / "raw" / "00001.png").symlink_to(tmp_path / "cached")
    assert file_inside(tmp_path / "raw", "00001.png").read_text() == "x"
    with pytest.raises(UserError, match="leaves its folder"):
        inside(tmp_path / "raw", "00001.png")


def test_a_models_digest_is_of_what_decides_its_answers_alone(tmp_path):
    (tmp_path / "model.safetensors").write_text("weights")
    before = digest_model(tmp_path)
    for name in ("provenance.json", "pictures.json", "pictures-0.png"):
        (tmp_path / name).write_text("x")
    assert digest_model(tmp_path) == before
    (tmp_path / "model.safetensors").write_text("others")
    assert digest_model(tmp_path) != before


def test_what_desktops_and_editors_leave_is_no_part_of_a_folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"1")
    before = digest_tree(tmp_path), digest_model(tmp_path), stamps(tmp_path), files_below(tmp_path)
    for folder in (tmp_path, tmp_path / "images", tmp_path / "__MACOSX"):
        folder.mkdir(exist_ok=True)
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png", "1.png~", ".1.png.swp"):
            (folder / name).write_bytes(b"litter")
    assert (digest_tree(tmp_path), digest_model(tmp_path), stamps(tmp_path), files_below(tmp_path)) == before


def test_dvc_is_told_of_the_same_litter():
    told = [line for line in (ROOT / ".dvcignore").read_text().splitlines() if not line.startswith("#")]
    assert set(told) - {".work/", ".venv/"} == set(LITTER)
