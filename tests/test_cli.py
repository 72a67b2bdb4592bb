"""The `unpaired` command as people use it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.methods import METHODS, find_method
from pipeline.sweep_table import read_rows
from pipeline.tasks.caption import TASK
from tests.project import Project


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with pictures of several kinds and one broken file."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (64, 64), "green").save(folder / "a.png")
    Image.new("CMYK", (300, 200)).save(folder / "b.jpg")
    (folder / "c.jpg").write_bytes((folder / "b.jpg").read_bytes()[:200])
    Image.new("L", (1, 1), 128).save(folder / "d.png")
    Image.new("RGBA", (40, 900), (255, 0, 0, 80)).save(folder / "e.webp")
    return folder


def unpaired(project: Project, *arguments: str, check: bool = True):
    result = project.run_module("pipeline.cli", *arguments)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def test_help_answers_at_once_because_torch_is_not_imported(finished: Project) -> None:
    code = ("import atexit, sys; sys.argv = ['unpaired', '--help']; from pipeline.cli import main\n"
            "atexit.register(lambda: print('torch' in sys.modules)); main()")
    output = finished.run("python", "-c", code).stdout
    assert "caption" in output
    assert output.rstrip().endswith("False")


def test_methods_lists_each_method_with_paper_and_supervision(finished: Project) -> None:
    lines = unpaired(finished, "methods").stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(METHODS)
    assert [line.split()[1] for line in lines] == [find_method(name).supervision for name in sorted(METHODS)]
    assert all(len(line.split()) > 4 for line in lines)


def test_one_broken_picture_does_not_keep_the_others_from_being_captioned(finished: Project, pictures: Path) -> None:
    result = unpaired(finished, "caption", str(pictures), "--system", "knight", "--json", check=False)
    assert result.returncode == 1
    captioned = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(entry["image"]).name for entry in captioned] == ["a.png", "b.jpg", "d.png", "e.webp"]
    assert all(isinstance(entry["caption"], str) for entry in captioned)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "c.jpg" in errors[0]


def test_explain_shows_the_nearest_captions_best_first(finished: Project, pictures: Path) -> None:
    result = unpaired(finished, "caption", str(pictures / "a.png"), "--system", "decap", "--explain", "--json")
    entry = json.loads(result.stdout)
    similarities = [near["similarity"] for near in entry["nearest"]]
    assert similarities == sorted(similarities, reverse=True)
    assert len({near["caption"] for near in entry["nearest"]}) == len(similarities) == 5
    assert -1 <= entry["clip_similarity"] <= 1
    assert "drawn scenes only" in result.stderr


@pytest.mark.parametrize(("arguments", "named"), [
    (["caption", "nowhere.png"], "nowhere.png"),
    (["caption", "data/sweeps"], "no pictures"),
    (["caption", "x.png", "--system", "knigth"], "did you mean 'knight'"),
    (["sweep", "sedes"], "did you mean 'seeds'"),
    (["foundation", "mikro"], "did you mean 'micro'"),
])
def test_a_wrong_argument_is_one_line_and_exit_code_1(finished: Project, arguments: list[str], named: str) -> None:
    result = unpaired(finished, *arguments, check=False)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert named in errors[0]
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(finished: Project) -> None:
    assert "Traceback" in unpaired(finished, "--debug", "caption", "x.png", "--system", "knigth", check=False).stderr


def test_doctor_finds_everything_in_a_finished_project_and_names_what_a_damaged_one_lacks(finished: Project, tmp_path: Path) -> None:
    assert "knight: ready" in unpaired(finished, "doctor").stdout
    damaged = finished.copy(tmp_path / "copy")
    (damaged.folder / "data/foundation/micro/open_clip_model.safetensors").unlink()
    result = unpaired(damaged, "doctor", check=False)
    assert result.returncode == 1
    assert "data/foundation/micro" in result.stdout
    assert "git checkout" in result.stdout
    assert "MISSING" not in result.stdout
    (damaged.folder / ".git").rename(tmp_path / "git")
    named = damaged.copy(tmp_path / "Übung")
    without_git = unpaired(named, "doctor", check=False).stdout
    assert "git        MISSING: DVC needs a git repository: run `git init" in without_git
    assert "`dvc exp run` with --temp or --queue fails" in without_git


def test_a_sweep_resumes_and_compares_its_systems(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    where = {"settings": ["pictures.in-domain"], "split": "val"}
    project.edit("sweeps", {"tiny": {"systems": ["raw", "decap"], "seeds": [0, 1], **where}})
    unpaired(project, "sweep", "tiny")
    table = project.folder / "data/sweeps/tiny.csv"
    whole = table.read_text()
    assert len(whole.splitlines()) == 5
    table.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    again = unpaired(project, "sweep", "tiny")
    assert table.read_text() == whole
    assert again.stdout.count("pictures.in-domain: CIDEr") == 1, "finished rows were computed again"
    project.edit("sweeps", {"part": {"systems": ["decap"], "vary": {"seed": [1]}, **where}})
    assert "CIDEr" not in unpaired(project, "sweep", "part").stdout, "another sweep's rows were computed again"
    (row,) = read_rows(project.folder / "data/sweeps/part.csv", TASK)
    assert row.values == {"seed": 1}
    assert repr(replace(row, variant="{}")) in map(repr, read_rows(table, TASK))
    assert re.search("pictures.in-domain, CIDEr: (decap - raw|raw - decap) = ", again.stdout)
