"""dvc.yaml against the code: what a stage imports is among its dependencies, and what it declares exists."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.core.code import ROOT, closure
from pipeline.methods import METHODS, find_method

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def template(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_every_module_that_decides_its_bytes(name: str) -> None:
    stage = template(name)
    script = stage["cmd"].split()[2].replace(".", "/") + ".py"
    declared = stage["deps"]
    missing = {
        file for file in closure(script) - {script, "stages/__init__.py"}
        if not any(file == dep or file.startswith(f"{dep}/") for dep in declared)
    }
    assert not missing, f"{name} imports {sorted(missing)}, which its deps in dvc.yaml do not name"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_names_no_code_that_is_not_there(name: str) -> None:
    named = [dep for dep in template(name)["deps"] if dep.startswith(("pipeline/", "stages/")) and "$" not in dep]
    assert named
    assert [dep for dep in named if not (ROOT / dep).exists()] == []


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_own_module_is_the_one_that_its_systems_depend_on(name: str) -> None:
    """Systems depend on `pipeline/methods/${item.method}.py`, so what a method imports must be covered there or by the stage."""
    assert find_method(name).__module__ == f"pipeline.methods.{name}"
    declared = template("caption")["deps"]
    extra = closure(f"pipeline/methods/{name}.py") - {f"pipeline/methods/{name}.py"}
    assert not [file for file in extra if file not in declared]


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").iterdir()), ids=lambda preset: preset.stem)
def test_the_graph_stands_with_the_parameters_of_a_preset(preset: Path, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copyfile(preset, tmp_path / "params.yaml")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        stages = {stage.name.split("@")[0] for stage in repo.index.stages}
    assert {"extract", "embed_text", "index", "train"} <= stages
    assert not {"synthesize", "embed_drawn", "refine", "project"} & stages
