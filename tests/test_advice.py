"""Whoever does what an error says gets rid of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import zarr

from pipeline.core.artefacts import MANIFEST, seal
from tests.project import Project


def of_another_training(project: Project) -> str:
    path = project.folder / "data/models/knight/system.json"
    path.write_text(json.dumps({**(about := json.loads(path.read_text())), "train": {**about["train"], "k": 3}}))
    return "models/knight"


def of_another_clip(project: Project) -> str:
    zarr.open_group(project.folder / "data/features/micro/image/scenes", mode="r+").attrs["clip_digest"] = "0" * 64
    return "features/micro/image/scenes"


def of_other_pictures(project: Project) -> str:
    path = project.folder / "data/tags/detector/scenes/tags.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "source_digest": "0" * 64}))
    return "tags/detector/scenes"


def of_an_earlier_version(project: Project) -> str:
    (project.folder / "data/corpus/scenes" / MANIFEST).unlink()
    return "corpus/scenes"


def with_other_figures(project: Project) -> str:
    path = project.folder / "data/curves/decap.json"
    path.write_text(path.read_text().replace("heldout_loss\": ", "heldout_loss\": 9"))
    return "curves/decap.json"


@pytest.mark.parametrize(("harm", "stage"), [
    (of_another_training, "caption knight"), (of_another_clip, "caption decap"),
    (of_other_pictures, "embed_tags micro detector scenes"), (of_an_earlier_version, "embed_text micro scenes"),
    (with_other_figures, "report"),
], ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_what_does_not_fit_is_gone_after_what_the_error_says(finished: Project, tmp_path: Path, harm: Callable[[Project], str],
                                                              stage: str) -> None:
    """DVC may have noted an artefact that does not fit as right: then `dvc repro` alone would go in circles."""
    project = finished.copy(tmp_path / "copy")
    folder = project.folder / "data" / harm(project)
    if (folder / MANIFEST).exists():
        seal(folder)
    name, *arguments = stage.split()
    ended = project.run_module(f"stages.{name}", *arguments)
    (error,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    by_force = re.findall("`(dvc repro --force [^`]+)`", error)
    assert by_force, error
    for command in by_force:
        project.run(*command.split())
    again = project.run_module(f"stages.{name}", *arguments)
    assert again.returncode == 0, again.stderr
