"""dvc.yaml against the code: what a stage imports is among its dependencies, and what it declares exists."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.methods import METHODS, find_method

ROOT = Path(__file__).parent.parent
# They move bytes and report, but decide none: a change here does not make an artefact stale.
PLUMBING = {f"pipeline/core/{file.name}" for file in (ROOT / "pipeline/core").iterdir()} | {
    "pipeline/" + name for name in ("systems.py", "__init__.py", "features/__init__.py", "synthetic/__init__.py", "methods/__init__.py")}
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def module_file(name: str) -> str | None:
    for candidate in (name.replace(".", "/") + ".py", name.replace(".", "/") + "/__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate
    return None


def imports(file: str) -> set[str]:
    """Files of our own that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {path for name in names if name.startswith(("pipeline", "stages")) and (path := module_file(name))}
    return found


def closure(file: str) -> set[str]:
    seen: set[str] = set()
    todo = {file}
    while todo:
        current = todo.pop()
        seen.add(current)
        if current not in PLUMBING:
            todo |= imports(current) - seen
    return seen


def template(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_every_module_that_decides_its_bytes(name: str) -> None:
    stage = template(name)
    script = stage["cmd"].split()[2].replace(".", "/") + ".py"
    declared = stage["deps"]
    missing = {
        file for file in closure(script) - PLUMBING - {"stages/__init__.py"}
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
    declared = template("caption_text")["deps"]
    extra = closure(f"pipeline/methods/{name}.py") - PLUMBING - {f"pipeline/methods/{name}.py"}
    assert not [file for file in extra if file not in declared]


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").iterdir()), ids=lambda preset: preset.stem)
def test_the_graph_stands_with_the_parameters_of_a_preset(preset: Path, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copyfile(preset, tmp_path / "params.yaml")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        stages = {stage.name.split("@")[0] for stage in repo.index.stages}
    assert {"extract", "embed_text", "index", "train_text"} <= stages
    assert not {"synthesize", "refine", "project", "train_synthetic"} & stages
