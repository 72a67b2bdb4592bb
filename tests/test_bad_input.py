"""Bad input and full disks: one line that says what to do, exit code 1, and nothing lost that was done before."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.artefacts import MANIFEST
from pipeline.core.files import digest_tree
from tests.artefacts import seal_again
from tests.project import Project, patched, tiny_params


def raw_file(project: Project) -> Path:
    """The data set's records, as a user's own that have no manifest."""
    file = project.folder / "data/raw/scenes/dataset.json"
    (file.parent / MANIFEST).unlink(missing_ok=True)
    return file


def change_first_caption(text: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        content = json.loads(raw_file(project).read_text())
        content["images"][0]["sentences"][0]["raw"] = text
        raw_file(project).write_text(json.dumps(content))
    return change


def no_sentences(project: Project) -> None:
    raw_file(project).write_text('{"dataset": "scenes", "images": []}')


def not_utf8(project: Project) -> None:
    raw_file(project).write_bytes(raw_file(project).read_bytes().replace(b"dataset", b"datas\xff\xfe", 1))


def duplicate_id(project: Project) -> None:
    content = json.loads(raw_file(project).read_text())
    content["images"][1]["sentences"][0]["sentid"] = content["images"][0]["sentences"][0]["sentid"]
    raw_file(project).write_text(json.dumps(content))


def leaves_its_folder(project: Project) -> None:
    content = json.loads(raw_file(project).read_text())
    content["images"][-1]["filename"] = "../../../../../../etc/passwd"
    raw_file(project).write_text(json.dumps(content))


def truncated_image(project: Project) -> None:
    file = project.folder / "data/raw/scenes/images/test/00003.png"
    file.write_bytes(file.read_bytes()[:100])


def judged_by_its_own(project: Project) -> None:
    """The system's CLIP under the judge's name."""
    shutil.rmtree(project.folder / "data/features/judge/image/scenes")
    shutil.copytree(project.folder / "data/features/micro/image/scenes", project.folder / "data/features/judge/image/scenes")


def not_an_image(project: Project) -> None:
    (project.folder / "data/raw/scenes/images/val/00001.png").write_text("not a picture")


def no_weights(project: Project) -> None:
    (project.folder / "data/foundation/micro/open_clip_model.safetensors").unlink()


def foreign_weights(project: Project) -> None:
    shutil.copy(project.folder / "data/foundation/judge/open_clip_model.safetensors", project.folder / "data/foundation/micro")


def other_clip(project: Project) -> None:
    attributes = project.folder / "data/features/micro/text/scenes/features/zarr.json"
    content = json.loads(attributes.read_text())
    content["attributes"]["clip_digest"] = "0" * 64
    attributes.write_text(json.dumps(content))
    seal_again(attributes)


def edit(key: str, value: object) -> Callable[[Project], None]:
    return lambda project: project.edit(key, value)


@pytest.mark.parametrize(("damage", "stage", "arguments", "named"), [
    (no_sentences, "extract", "scenes", "dataset.json"),
    (change_first_caption("word " * 2000), "extract", "scenes", "dataset.json"),
    (change_first_caption("a cat\0 on a mat"), "extract", "scenes", "dataset.json"),
    (change_first_caption(" \u2028 "), "extract", "scenes", "dataset.json"),
    (not_utf8, "extract", "scenes", "dataset.json"),
    (duplicate_id, "extract", "scenes", "dataset.json"),
    (leaves_its_folder, "extract", "scenes", "passwd"),
    (truncated_image, "embed_images", "micro scenes", "00003.png"),
    (not_an_image, "embed_images", "micro scenes", "00001.png"),
    (no_weights, "embed_text", "micro scenes", "data/foundation/micro"),
    (foreign_weights, "embed_text", "micro scenes", "data/foundation/micro"),
    (other_clip, "train", "knight", "text/scenes/neighbours was made from another corpus or CLIP"),
    (other_clip, "caption", "decap", "text/scenes/features was made with another CLIP"),
    (edit("systems.knight.train.kk", 3), "train", "knight", "did you mean 'k'"),
    (edit("systems.knight.train.k", "three"), "train", "knight", "'three'"),
    (edit("systems.knight.train.k", 100), "train", "knight", "index.neighbours"),
    (edit("systems.knight.method", "nite"), "train", "knight", "available"),
    (edit("settings.pictures.in-domain.split", "exam"), "caption", "knight", "'exam'"),
    (edit("recipes.small.steps", -1), "train", "knight", "recipes.small.steps is -1"),
    (edit("recipes.small.steps", 0), "train", "knight", "0 steps"),
    (edit("systems.knight.recipe", "smal"), "train", "knight", "did you mean 'small'"),
    (edit("systems.knight.decoder", "smal"), "train", "knight", "did you mean 'small'"),
    (edit("systems.knight.suite", "picture"), "caption", "knight", "did you mean 'pictures'"),
    (edit("systems.knight.looks_at", "judge/image"), "train", "knight", "the system's clip is 'micro'"),
    (edit("systems.knight.looks_up", "micro/image"), "train", "knight", "name text there"),
    (edit("systems.syntic.looks_at", "micro/image"), "caption", "syntic", "name tagged there"),
    (edit("systems.raw.starts_from", "models/deca"), "train", "raw", "data/models/deca"),
    (edit("settings.pictures.in-domain.test", "album"), "caption", "knight", "data/corpus/album"),
    (edit("settings.pictures.in-domain.captioning", {"beam": 1}), "caption", "knight", "did you mean 'beams'"),
    (edit("settings.pictures.in-domain.detector", "other"), "caption", "syntic", "micro/tagged/scenes/other"),
    (edit("evaluation.judge", "micro"), "evaluate", "knight", "evaluation.judge"),
    (judged_by_its_own, "evaluate", "knight", "the judge judge has the weights of micro"),
    (edit("evaluation.prompt", "a picture of "), "evaluate", "knight", "references/scenes was made from another table"),
])
def test_bad_input_is_one_line_that_names_it(finished: Project, tmp_path: Path, damage: Callable[[Project], None], stage: str,
                                             arguments: str, named: str) -> None:
    project = finished.copy(tmp_path / "copy")
    damage(project)
    kept = digest_tree(project.folder / "data/models"), digest_tree(project.folder / "data/captions")
    result = project.run_module(f"stages.{stage}", *arguments.split())
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, result.stderr
    assert named in errors[0]
    assert (digest_tree(project.folder / "data/models"), digest_tree(project.folder / "data/captions")) == kept


def test_separators_inside_captions_move_nothing_and_are_counted(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    change_first_caption("a cat\u2028on a\r\nmat")(project)
    assert project.run_module("stages.extract", "scenes").returncode == 0
    assert json.loads((project.folder / "data/corpus/scenes/report.json").read_text())["corpus"]["normalised"] == 1


def test_skipped_captions_are_counted_and_listed(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    change_first_caption("a cat\0 on a mat")(project)
    project.edit("extract.scenes.bad_captions", "skip")
    assert project.run_module("stages.extract", "scenes").returncode == 0
    report = json.loads((project.folder / "data/corpus/scenes/report.json").read_text())
    assert report["corpus"]["skipped"] == len(report["skipped"]) == 1
    assert report["corpus"]["read"] == report["corpus"]["kept"] + 1


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


@pytest.mark.parametrize(("stage", "arguments", "artefact", "target", "calls"), [
    ("world", "scenes", "raw/scenes", "pipeline.world.dataset:write_json", 0),
    ("embed_text", "micro scenes", "features/micro/text/scenes/features", "zarr.storage._local:_put", 3),
    ("train", "knight", "models/knight", "torch:save", 1),
    ("caption", "decap", "captions/decap", "pipeline.captioning:write_json", 1),
])
def test_a_full_disk_is_one_line_and_the_older_artefact_stays(finished: Project, tmp_path: Path, stage: str, arguments: str,
                                                              artefact: str, target: str, calls: int) -> None:
    project = finished.copy(tmp_path / "copy")
    assert project.run_module(f"stages.{stage}", *arguments.split()).returncode == 0
    before = digest_tree(project.folder / "data" / artefact)
    shutil.rmtree(project.folder / ".work")  # what is published lies there still
    result = project.run_module(f"stages.{stage}", *arguments.split(), before=patched(target, calls, full))
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: the disk is full")
    assert digest_tree(project.folder / "data" / artefact) == before
    assert not list((project.folder / "data").rglob("*.partial"))
    assert project.run_module(f"stages.{stage}", *arguments.split()).returncode == 0
    assert digest_tree(project.folder / "data" / artefact) == before


@pytest.mark.parametrize(("section", "name"), [
    ("systems", "../../x"), ("world", ".."), ("systems", "OUTSIDE"), ("world", "a;touch pwned"), ("systems", "x'; touch pwned; '"),
])
def test_a_name_that_leads_elsewhere_stops_repro_before_anything_is_touched(finished: Project, tmp_path: Path, section: str,
                                                                            name: str) -> None:
    project = finished.copy(tmp_path / "copy")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious.txt").write_text("mine")
    entries = tiny_params()[section]
    project.edit(section, {**entries, name.replace("OUTSIDE", str(tmp_path / "outside")): entries[min(entries)]})
    shutil.rmtree(project.folder / "data/code")  # which DVC removes before it runs the stage that checks names
    before = digest_tree(project.folder / "data")
    result = project.run("dvc", "repro", check=False)
    assert result.returncode != 0
    assert name in ("", "..", "../../x") or "cannot be a name" in result.stderr  # to some DVC objects by itself
    assert digest_tree(project.folder / "data") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "outside"]
    assert (tmp_path / "outside/precious.txt").read_text() == "mine"
    assert not list(project.folder.rglob("pwned"))
