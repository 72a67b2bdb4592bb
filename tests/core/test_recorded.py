"""What DVC records of a stage is what the stage was told: an edit while it is at work ends it, and nothing of it lands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo

from pipeline.core import code, recorded
from pipeline.core.artefacts import MANIFEST
from pipeline.core.code import ROOT
from pipeline.core.files import files_below
from pipeline.core.params import load
from pipeline.core.recorded import Watched
from tests.project import Project


@pytest.mark.parametrize("params", [ROOT / "params.yaml", *sorted((ROOT / "presets").iterdir())], ids=lambda file: file.stem)
def test_what_is_watched_is_what_dvc_takes_it_for(params: Path, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copyfile(params, tmp_path / "params.yaml")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        for stage in repo.index.stages:
            watched = Watched.of(stage.name, load(ROOT / "dvc.yaml")["stages"], load(params))
            theirs = {key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params}
            assert set(watched.params) == theirs
            assert {str(path) for path in watched.paths} == {dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)}


def with_another(value: Any, key: list[str]) -> Any:
    """The same with another value at a dotted key, at its last leaf where a mapping is there."""
    if isinstance(value, dict) and (key or value):
        first = key[0] if key else list(value)[-1]
        return {**value, first: with_another(value[first], key[1:])}
    return [value, "another"]


def test_an_edit_of_anything_that_is_watched_ends_any_stage_in_one_line_and_no_other_edit_does(
        finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, user_error) -> None:
    project = finished.copy(tmp_path / "copy")
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(recorded, "_told", None)
    for known in (code.closure, code.imports, code._tree, code._code):  # of edited files, which later tests have not
        request.addfinalizer(known.cache_clear)
    for module in (recorded, code):
        monkeypatch.setattr(module, "ROOT", project.folder)
    params, stages = load(), load(Path("dvc.yaml"))["stages"]
    held = {Path("params.yaml"): params, Path("dvc.yaml"): {"stages": stages}}
    monkeypatch.setattr(recorded, "load", lambda file=Path("params.yaml"): held[file])
    every = {name.partition("@")[0]: name for name in load(Path("dvc.lock"))["stages"]}
    for stage in sorted(every.values(), key="report".__eq__):
        monkeypatch.setenv("DVC_STAGE", stage)
        recorded.begin()
        recorded.require_unchanged()
        watched = Watched.of(stage, stages, params)
        for key in watched.params:
            held[Path("params.yaml")] = with_another(params, key.split("."))
            message = user_error(recorded.require_unchanged)
            assert message.startswith(f"params.yaml: {key}")
            assert "when the stage began" in message
        held[Path("params.yaml")] = {**params, "unheard": {"of": "it"}}
        recorded.require_unchanged()
        for path in watched.paths:
            file = path if path.is_file() else files_below(path)[0]
            content = file.read_bytes()
            file.write_bytes(content + b" ")
            assert user_error(recorded.require_unchanged).startswith(f"{path} changed meanwhile")
            file.write_bytes(content)
            held[Path("params.yaml")] = params
            recorded.begin()
            if path.is_dir():
                (path / ".DS_Store").write_bytes(stage.encode())
        recorded.require_unchanged()
    with (project.folder / "pipeline/report/page.py").open("a") as file:  # behind the last of them, `report`
        file.write("CHANGED = 1\n")
    assert user_error(recorded.require_unchanged).startswith("pipeline/report/page.py changed meanwhile")
    assert user_error(recorded.begin).startswith("pipeline/report/page.py changed since the stage `code` noted it")


# what a user's editor does while the stage is at work
_EDITED = """
_as_it_was = {function}
def {function}(*arguments, **options):
    from pathlib import Path
    file = Path({file!r})
    if {old!r} in (text := file.read_text()):
        file.write_text(text.replace({old!r}, {new!r}))
    return _as_it_was(*arguments, **options)
"""


@pytest.mark.parametrize(("stage", "module", "function", "file", "old", "new", "says"), [
    ("caption@decap", "captioning", "caption_settings", "params.yaml", "beams: 2", "beams: 1", "params.yaml: captioning.beams was 2"),
    ("train@knight", "training", "train_system", "params.yaml", "k: 5", "k: 3", "params.yaml: systems.knight.train.k was 5"),
    ("caption@decap", "captioning", "caption_settings", "pipeline/language/decoding.py", "-1e9", "-1e8",
     "pipeline/language/decoding.py changed"),
    ("extract@scenes", "corpus/extract", "extract", "data/raw/scenes/dataset.json", " the ", " one ", "data/raw/scenes changed"),
], ids=["captioning", "training", "code", "input"])
def test_what_was_edited_while_dvc_ran_does_not_land_and_a_model_is_then_trained_as_edited(
        finished: Project, tmp_path: Path, stage: str, module: str, function: str, file: str, old: str, new: str, says: str) -> None:
    project = finished.copy(tmp_path / "copy")
    if file.startswith("data/raw"):  # as a user's own, which has no manifest
        (project.folder / "data/raw/scenes" / MANIFEST).unlink()
        project.run("dvc", "commit", "--force", "world@scenes")
    source = project.folder / "pipeline" / f"{module}.py"
    source.write_text(source.read_text() + _EDITED.format(function=function, file=file, old=old, new=new))
    before = project.lock()[stage]
    ended = project.run("dvc", "repro", "--single-item", "code", stage, check=False)
    assert ended.returncode != 0
    assert [says in line for line in ended.stderr.splitlines() if line.startswith("error: ")] == [True]
    assert project.lock()[stage] == before, "DVC noted what was not made"
    assert not any((project.folder / out["path"]).exists() for out in before["outs"] if not out["path"].endswith(".json"))
    if stage == "train@knight":
        project.run("dvc", "repro", "--single-item", "code", stage)
        assert project.lock()[stage] != before
        assert json.loads((project.folder / "data/models/knight/system.json").read_text())["train"]["k"] == 3
