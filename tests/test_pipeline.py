"""The pipeline as people run it: a true `dvc repro` of a tiny configuration, edits, reverts, kills and resumption."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import networkx
import pytest
from dvc.repo import Repo

import pipeline.features.indexing
import pipeline.features.stores
import pipeline.synthetic.drawing
from pipeline.core import code
from pipeline.core.files import digest_tree
from tests.artefacts import seal_again
from tests.project import Project, patched, tiny_params

SYSTEMS = ("decap", "knight", "raw", "syntic")
ARTEFACTS = ("code", "raw", "corpus", "features", "tags", "models", "curves", "captions", "scores", "metrics", "report")


def digests(project: Project) -> dict[str, str]:
    return {name: digest_tree(project.folder / "data" / name) for name in ARTEFACTS}


def test_one_command_leads_from_nothing_to_metrics_and_a_report(finished: Project) -> None:
    for system in SYSTEMS:
        metrics = json.loads((finished.folder / f"data/metrics/{system}.json").read_text())
        assert 1 < metrics["in-domain.CLIPScore"] < 2.5  # captions of something else, or none, lie below
        assert {key.split(".")[0] for key in metrics} == {"in-domain", "validation"}
        assert 0 <= metrics["in-domain.CHAIRs"] <= 1
        assert metrics["validation.CIDEr_constant"] > metrics["validation.CIDEr_shuffled"]
    assert (finished.folder / "data/report/index.html").stat().st_size > 10_000


def test_a_second_repro_runs_nothing_and_status_is_clean(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    assert project.stages_run(project.run("dvc", "repro").stdout) == set()
    assert json.loads(project.run("dvc", "status", "--json").stdout) == {}


def test_a_fresh_clone_comes_to_the_same_bytes(finished: Project, tmp_path: Path) -> None:
    """Its stages in forks of this process, without DVC: in a fourth of the time."""
    finished.run("git", "clone", "--quiet", str(finished.folder), str(tmp_path / "clone"))
    project = Project(tmp_path / "clone")
    with Repo(str(project.folder)) as repo:
        commands = [shlex.split(stage.cmd) for stage in reversed(list(networkx.topological_sort(repo.index.graph)))]
    for _, _, module, *arguments in commands:
        ended = project.run_module(module, *arguments)
        assert ended.returncode == 0, ended.stderr
    assert digests(project) == digests(finished)
    project.run("dvc", "commit", "--force")
    assert project.run("git", "status", "--porcelain").stdout == "", "dvc.lock or metrics changed"


def test_reverting_a_parameter_or_checking_out_an_older_commit_brings_the_artefacts_back(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    before = digests(project)
    project.edit("systems.knight.train.k", 0)
    ran = project.stages_run(project.run("dvc", "repro").stdout)
    assert ran == KNIGHT | {"code"}
    changed = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
    assert "in-domain.CLIPScore" in changed["data/metrics/knight.json"]
    project.commit("another k")
    after = digests(project)
    assert after != before
    project.edit("systems.knight.train.k", 5)
    assert project.stages_run(project.run("dvc", "repro").stdout) == set()
    assert digests(project) == before
    for commit, its in (("main", after), ("main~1", before)):
        project.run("git", "checkout", "--quiet", "--force", commit)
        project.run("dvc", "checkout")
        assert digests(project) == its
    assert json.loads(project.run("dvc", "metrics", "diff", "main~1", "main", "--json").stdout)


def test_an_experiment_with_another_value_runs_in_the_users_way(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    project.run("dvc", "exp", "run", "--name", "other", "-S", "systems.decap.caption.temperature=0.3")
    shown = json.loads(project.run("dvc", "metrics", "diff", "HEAD", "other", "--json").stdout)
    assert [Path(file).name for file in shown] == ["decap.json"]


METHOD = '"""A method of a newcomer\'s own."""\nfrom pipeline.methods.decap import DeCap\n\n\nclass Mine(DeCap):\n    paper = "mine"\n'


def add_a_method(project: Project) -> None:
    (project.folder / "pipeline/methods/mine.py").write_text(METHOD)
    table = project.folder / "pipeline/methods/__init__.py"
    table.write_text(table.read_text().replace("METHODS = {\n", 'METHODS = {\n    "mine": ".mine:Mine",\n'))
    project.edit("systems.mine", {**tiny_params()["systems"]["decap"], "method": "mine"})


def append(file: str, line: str):
    def change(project: Project) -> None:
        with (project.folder / file).open("a") as text:
            text.write(f"\n{line}\n")

    return change


def edit(key: str, value: object):
    return lambda project: project.edit(key, value)


def docstring(file: str):
    """Another first line of a module's docstring."""
    def change(project: Project) -> None:
        path = project.folder / file
        path.write_text(path.read_text().replace('"""', '"""Anew: ', 1))

    return change


def add_a_data_set(project: Project) -> None:
    params = tiny_params()
    project.edit("world.other", {**params["world"]["scenes"], "seed": 5})
    project.edit("extract.other", params["extract"]["scenes"])
    project.edit("embed.images.datasets", ["scenes", "scenes-drawn", "other"])


def add_a_clip(project: Project) -> None:
    shutil.copytree(project.folder / "data/foundation/micro", project.folder / "data/foundation/mine")
    project.edit("clips.mine", {"batch": 256})
    project.edit("embed.text.clips", ["micro", "mine"])
    project.edit("embed.images.clips", ["micro", "mine"])


def leave_litter(project: Project) -> None:
    """As desktops and editors do, wherever somebody looked."""
    for folder in ("pipeline", *(f"data/{name}" for name in ("raw/scenes/images", "raw/scenes", "corpus/scenes", "foundation/micro",
                                                             "models/knight"))):
        for name in (".DS_Store", "Thumbs.db", "._dataset.json", "desktop.ini", "dataset.json~"):
            (project.folder / folder / name).write_text("litter")


def of(system: str, *stages: str) -> set[str]:
    found = {f"{stage}@{system}" for stage in stages or ("train", "caption", "evaluate")} | {"report"}
    return found | ANSWER if system == "decap" else found


ANSWER = {"answer@decap", "evaluate_answers@decap"}
JUDGED = {f"evaluate@{system}" for system in SYSTEMS} | {"report"}
EVALUATE = JUDGED | {"evaluate_answers@decap"}
CAPTION_ALONE = {f"caption@{system}" for system in SYSTEMS} | JUDGED
CAPTION = CAPTION_ALONE | ANSWER
TRAIN = {f"train@{system}" for system in SYSTEMS} | CAPTION
KNIGHT, DECAP, SYNTIC = of("knight"), of("decap") | of("raw"), of("syntic")
PROJECTED = {"project@micro-scenes"} | SYNTIC
REFINED = {"refine@micro-scenes"} | PROJECTED
EMBEDDED_TAGS = {"embed_tags@micro-detector-scenes", "embed_tags@micro-detector-scenes-drawn"} | SYNTIC
TAGGED = {"tag@detector-scenes", "tag@detector-scenes-drawn"} | EMBEDDED_TAGS
# captions and scores wait for whole folders; their ledgers find that nothing changed
EMBEDDED = {"embed_images@micro-scenes-drawn", "embed_tags@micro-detector-scenes-drawn"} | REFINED | CAPTION
DRAWN = {"synthesize@scenes", "tag@detector-scenes-drawn"} | EMBEDDED


@pytest.mark.parametrize(("change", "expected"), [
    (edit("systems.knight.train.k", 3), KNIGHT),
    (edit("systems.decap.seed", 1), DECAP),
    (edit("systems.decap.caption.temperature", 0.02), of("decap", "caption", "evaluate")),
    (edit("captioning.beams", 1), CAPTION),
    (edit("settings.pictures.other", {"test": "scenes", "support": "scenes", "split": "val"}), CAPTION_ALONE),
    (edit("evaluation.samples", 60), EVALUATE),
    (edit("evaluation.prompt", "a picture of "), {"embed_judged@scenes"} | EVALUATE),
    (edit("recipes.small.steps", 41), KNIGHT | DECAP),
    (edit("index.neighbours", 7), {"index@micro-scenes"} | KNIGHT | DECAP | of("syntic", "caption", "evaluate")),
    (edit("world.scenes.test", 11),
     {"world@scenes", "extract@scenes", "questions@scenes-questions", "embed_text@micro-scenes", "embed_images@micro-scenes",
      "embed_regions@micro-scenes", "embed_judged@scenes", "index@micro-scenes"} | TAGGED | DRAWN | TRAIN),
    (edit("clips.micro.batch", 64),
     {"embed_text@micro-scenes", "embed_images@micro-scenes", "embed_regions@micro-scenes", "index@micro-scenes"}
     | EMBEDDED_TAGS | EMBEDDED | TRAIN),
    (edit("regions.weights", "raw"), {"embed_regions@micro-scenes", "report"}),
    (edit("frames.count", 3), {"embed_judged@scenes"} | JUDGED),
    (edit("detectors.detector.threshold", 0.5), TAGGED),
    (edit("tag.prompt", "a drawing of a {}"), EMBEDDED_TAGS),
    (edit("synthesis.seed", 1), DRAWN),
    (edit("refinement.steps", 30), REFINED),
    (edit("projection.temperature.scenes", 0.02), PROJECTED),
    (edit("systems.syntic.train.objects", False), SYNTIC),
    (docstring("pipeline/methods/syntic.py"), set()),
    (docstring("pipeline/methods/base.py"), set()),
    (docstring("pipeline/methods/__init__.py"), set()),
    (append("pipeline/synthetic/drawing.py", "# a comment"), set()),
    (append("pipeline/methods/syntic.py", "CHANGED = 1"), SYNTIC),
    (append("pipeline/methods/knight.py", "CHANGED = 1"), KNIGHT),
    (append("pipeline/methods/base.py", "CHANGED = 1"), TRAIN),
    (append("pipeline/methods/__init__.py", "CHANGED = 1"), set()),
    (append("pipeline/metrics/bootstrap.py", "CHANGED = 1"), EVALUATE),
    (append("pipeline/core/errors.py", "CHANGED = 1"), set()),
    (append("pipeline/report/style.css", "p { margin: 0 }"), {"report"}),
    (append("pipeline/report/synthetic.html.j2", "<p>changed</p>"), {"report"}),
    (leave_litter, set()),
    (append("data/foundation/judge/provenance.json", ""), {"embed_judged@scenes"} | JUDGED),
    (append("pipeline/metrics/vqa.py", "CHANGED = 1"), {"evaluate_answers@decap", "report"}),
    (append("pipeline/language/decoding.py", "CHANGED = 1"), TRAIN),
    (add_a_method, of("mine")),
    (add_a_data_set, {"world@other", "extract@other", "embed_images@micro-other"} | CAPTION),
    (add_a_clip, {"embed_text@mine-scenes", "embed_images@mine-scenes", "embed_images@mine-scenes-drawn", "index@mine-scenes", "report"}),
])
def test_an_edit_reruns_what_depends_on_it_and_nothing_else(finished: Project, tmp_path: Path, change, expected: set[str]) -> None:
    project = finished.copy(tmp_path / "copy")
    change(project)
    project.run("python", "-m", "stages.code")  # what `dvc repro` runs first when a source file changed
    with Repo(str(project.folder)) as repo:
        changed = {name.split(":")[-1] for name in repo.status()} - {"code"}
        stages = {stage.name: stage for stage in repo.index.stages}
        downstream = {other.name for name in changed for other in networkx.ancestors(repo.index.graph, stages[name])}
    assert changed | downstream == expected


def test_without_systems_that_learn_from_drawn_pictures_no_stage_draws_tags_or_reads_any(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    project.edit("systems", {name: entry for name, entry in tiny_params()["systems"].items() if name != "syntic"})
    project.edit("synthesis.corpora", [])
    project.edit("embed.images.datasets", ["scenes"])
    project.edit("tag.datasets", [])
    with Repo(str(project.folder)) as repo:
        left = {stage.name.split("@")[0] for stage in repo.index.stages}
    assert left & {"synthesize", "refine", "project", "tag", "embed_tags"} == set()
    assert {"train", "report"} <= left
    for left_over in ("data/raw/scenes-drawn", "data/corpus/scenes-drawn", "data/tags/detector", "data/features/micro/tagged",
                      "data/features/micro/synthetic", "data/features/micro/image/scenes-drawn"):
        shutil.rmtree(project.folder / left_over)
    ran = project.stages_run(project.run("dvc", "repro").stdout)
    # captions and scores wait for whole folders; their ledgers find that nothing changed
    assert ran == {"code", "report"} | CAPTION - {"caption@syntic", "evaluate@syntic"}
    assert "Synthetic pairs" not in (project.folder / "data/report/index.html").read_text()


def small_shards() -> None:
    pipeline.features.stores.SHARD_ROWS = pipeline.features.indexing.SHARD_ROWS = 100
    pipeline.synthetic.drawing._SHARD = 16


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_stage(project: Project, stage: str, arguments: str, target: str | None = None, calls: int = 0):
    def before() -> None:
        small_shards()
        if target:
            patched(target, calls, kill)()

    return project.run_module(f"stages.{stage}", *arguments.split(), before=before)


@contextmanager
def without(folder: Path) -> Iterator[None]:
    """Take an artefact away, as DVC does before it runs the stage."""
    aside = folder.with_name(folder.name + ".aside")
    folder.rename(aside)
    yield
    assert not folder.exists(), f"{folder} appeared although its stage was killed"


@pytest.mark.parametrize(("stage", "arguments", "artefact", "target", "calls"), [
    ("world", "scenes", "raw/scenes", "pipeline.world.dataset:Image.Image.save", 15),
    ("answer", "decap", "answers/decap", "pipeline.core.resume:Ledger.record", 0),
    ("extract", "scenes", "corpus/scenes", "pipeline.corpus.extract:write_json", 0),
    ("questions", "scenes-questions", "corpus/scenes-questions", "pipeline.corpus.questions:write_json", 0),
    ("embed_text", "micro scenes", "features/micro/text/scenes/features", "pipeline.core.resume:Work.record", 1),
    ("embed_images", "micro scenes", "features/micro/image/scenes", "pipeline.images:_to_rgb", 5),
    ("embed_images", "micro scenes-drawn", "features/micro/image/scenes-drawn", "pipeline.images:_to_rgb", 5),
    ("embed_regions", "micro scenes", "features/micro/regions/scenes", "pipeline.images:_to_rgb", 5),
    ("embed_judged", "scenes", "features/judge/references/scenes", "pipeline.core.resume:Work.record", 2),
    ("index", "micro scenes", "features/micro/text/scenes/neighbours", "pipeline.core.resume:Work.record", 2),
    ("synthesize", "scenes", "raw/scenes-drawn", "pipeline.core.resume:Work.record", 1),
    ("tag", "detector scenes", "tags/detector/scenes", "pipeline.core.resume:Work.record", 1),
    ("embed_tags", "micro detector scenes", "features/micro/tagged/scenes/detector", "pipeline.features.tags:write_json", 0),
    ("refine", "micro scenes", "features/micro/synthetic/scenes-drawn/refined", "pipeline.synthetic.refinement:contrastive_loss", 15),
    ("project", "micro scenes", "features/micro/synthetic/scenes-drawn/projected", "pipeline.synthetic.refinement:write_store", 1),
    ("train", "syntic", "models/syntic", "pipeline.optimisation:Schedule.rate", 2 * 15),
    ("train", "knight", "models/knight", "pipeline.optimisation:Schedule.rate", 2 * 25),
    ("train", "raw", "models/raw", "pipeline.training:write_json", 0),
    ("caption", "decap", "captions/decap", "pipeline.core.resume:Ledger.record", 1),
    ("evaluate", "decap", "scores/decap", "pipeline.evaluation:write_json", 0),
])
def test_a_killed_stage_resumes_to_the_bytes_of_an_uninterrupted_run(finished: Project, tmp_path: Path, stage: str, arguments: str,
                                                                     artefact: str, target: str, calls: int) -> None:
    project = finished.copy(tmp_path / "copy")
    folder = project.folder / "data" / artefact
    assert run_stage(project, stage, arguments).returncode == 0  # in shards of 100 rows, as the killed run
    uninterrupted = digest_tree(folder)
    shutil.rmtree(project.folder / ".work")  # what that run kept would leave nothing to kill
    with without(folder):
        killed = run_stage(project, stage, arguments, target, calls)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = run_stage(project, stage, arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert digest_tree(folder) == uninterrupted
    if (arguments, target) == ("knight", "pipeline.optimisation:Schedule.rate"):
        assert "40/40 steps" in resumed.stderr
        assert "from step 20" in resumed.stderr  # the last snapshot before the kill at step 25
    if (arguments, target) == ("syntic", "pipeline.optimisation:Schedule.rate"):
        assert "from step 10" in resumed.stderr


def of_the_project(project: Project) -> None:
    """Read source files in the project instead of here, so that its edits count."""
    for remembered in (code.closure, code.imports, code._tree, code._code):
        remembered.cache_clear()
    code.ROOT = project.folder


@pytest.mark.parametrize(("change", "kept"), [
    (append("pipeline/synthetic/drawing.py", "# a comment"), 1),
    (append("pipeline/report/page.py", "CHANGED = 1"), 1),  # as a `git pull` may bring
    (append("pipeline/synthetic/drawing.py", "CHANGED = 1"), 0),
])
def test_half_drawn_pictures_are_kept_while_code_that_draws_none_changes(finished: Project, tmp_path: Path, change, kept: int) -> None:
    project = finished.copy(tmp_path / "copy")
    folder = project.folder / "data/raw/scenes-drawn"

    def draw(target: str, calls: int, action: Callable[[], object]):
        def before() -> None:
            of_the_project(project)
            small_shards()
            patched(target, calls, action)()

        return project.run_module("stages.synthesize", "scenes", before=before)

    with without(folder):
        assert draw("pipeline.core.resume:Work.record", 1, kill).returncode == -signal.SIGKILL
    change(project)
    resumed = draw("pipeline.synthetic.drawing:_drawn", 0, lambda: print("a shard is drawn"))
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("a shard is drawn") == len(list(folder.rglob("*.tar"))) - kept


def test_a_setting_that_did_not_change_is_not_scored_again(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    before = digests(project)
    scored = "pipeline.tasks.caption:Scorer.score"
    assert run_stage(project, "evaluate", "decap", scored).returncode == 0, "settings were scored again"
    captions = project.folder / "data/captions/decap/validation.json"
    captions.write_text(captions.read_text().replace(" a ", " the ", 1))
    seal_again(captions)
    assert run_stage(project, "evaluate", "decap", scored).returncode == -signal.SIGKILL, "other captions kept their scores"
    assert run_stage(project, "evaluate", "decap", scored, 1).returncode == 0, "the other setting was scored again"
    after = digests(project)
    assert {name for name in before if after[name] != before[name]} == {"captions", "scores", "metrics"}
