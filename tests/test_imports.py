"""The import graph: no cycle, also not for typing alone, and nothing imports what stands above it."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

from pipeline.core.code import ROOT, imported_from, module_file

# lowest first; a name stands for a module, or for all of a package but what is named by itself
LAYERS = [
    ["pipeline.core"],
    ["pipeline.images", "pipeline.videos"],
    ["pipeline.world", "pipeline.corpus", "pipeline.metrics"],
    ["pipeline.features", "pipeline.optimisation", "pipeline.language.condition"],
    ["pipeline.synthetic", "pipeline.needs", "pipeline.language"],
    ["pipeline.foundation", "pipeline.methods"],
    ["pipeline.systems"],
    ["pipeline.training", "pipeline.captioning", "pipeline.tasks"],
    ["pipeline.answers"],
    ["pipeline.answering", "pipeline.answer_evaluation"],
    ["pipeline.evaluation"],
    ["pipeline.sweep_table", "pipeline.sweeps", "pipeline.photographs", "pipeline.doctor", "pipeline.scoring", "pipeline.portable",
     "pipeline.model_card", "pipeline.fit", "pipeline.fit_estimate", "pipeline.captioner"],
    ["pipeline.report"],
    ["pipeline.human"],
    ["pipeline.cli", "stages"],
]
FILES = sorted(file.relative_to(ROOT).as_posix() for folder in ("pipeline", "stages") for file in (ROOT / folder).rglob("*.py"))


def imports(file: str) -> set[str]:
    """Files of the project that a file imports, anywhere in it, for typing too; empty packages left out."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom):
            module = imported_from(node, file)
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if module_file(name)} or {module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {path for name in found if name.startswith(("pipeline", "stages")) and (path := module_file(name))}


def layer(file: str) -> int:
    """Of the longest name that a module's own begins with."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    named = [(len(name), number) for number, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}.")]
    return max(named)[1]


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({file: imports(file) for file in FILES}).prepare()
    except CycleError as error:
        pytest.fail(f"imported in a circle: {' -> '.join(error.args[1])}")


def test_a_circle_would_be_found() -> None:
    assert "pipeline/core/errors.py" in imports("pipeline/core/files.py")
    assert "pipeline/features/encoders.py" in imports("pipeline/needs/base.py")  # for typing alone


@pytest.mark.parametrize("file", [file for file in FILES if file != "pipeline/__init__.py"])
def test_a_module_imports_nothing_that_stands_above_it(file: str) -> None:
    assert [other for other in sorted(imports(file)) if layer(other) > layer(file)] == []
