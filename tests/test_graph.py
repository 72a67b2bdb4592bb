"""dvc.yaml against the code: every stage depends on the digests of what it imports."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

import stages.code
from pipeline.answers import answering_of
from pipeline.core.code import ROOT
from pipeline.core.files import read_json
from pipeline.methods import METHODS, find_method
from pipeline.systems import find_system
from pipeline.training import Plan

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
BENCH = "presets/bench.yaml"


def template(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_digests_of_its_own_code_and_on_no_other(name: str) -> None:
    stage = template(name)
    script = stage["cmd"].split()[2].removeprefix("stages.")
    named = {dep for dep in stage["deps"] if dep.startswith(("data/code", "pipeline", "stages"))}
    if name == "code":
        assert named == {"pipeline", "stages"}
    else:
        methods = {"data/code/methods/${item.method}.json"} if name in ("train", "caption", "evaluate", "answer") else set()
        assert named == {f"data/code/{script}.json"} | methods


def test_every_stage_and_method_has_its_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("{}")
    stages.code.code()
    written = {str(file.relative_to("data/code")) for file in Path("data/code").rglob("*.json")}
    needed = {template(name)["cmd"].split()[2].removeprefix("stages.") + ".json" for name in STAGES}
    assert written == needed | {"unpaired-manifest.json"} | {f"methods/{name}.json" for name in METHODS}
    for name in METHODS:
        assert f"pipeline/methods/{name.replace('-', '_')}.py" in read_json(Path(f"data/code/methods/{name}.json"))
        assert f"pipeline/methods/{name.replace('-', '_')}.py" not in read_json(Path("data/code/train.json"))
    assert {"stages/train.py", "pipeline/training.py", "pipeline/language/decoders.py", "pipeline/features/stores.py"} <= read_json(
        Path("data/code/train.json")).keys()


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_own_module_is_the_one_whose_digests_its_systems_depend_on(name: str) -> None:
    assert find_method(name).__module__ == "pipeline.methods" + METHODS[name].partition(":")[0]


def test_captioning_waits_for_the_clip_with_which_a_method_may_read_sentences() -> None:
    assert "data/foundation/${item.clip}" in template("caption")["deps"]


def test_what_answers_in_the_bench_has_its_systems_own_slots_and_answers_questions_that_are_there() -> None:
    params = YAML(typ="safe").load((ROOT / BENCH).read_text())
    assert params["answering"]
    for name in params["answering"]:
        found = answering_of(name, find_system(name, params), params)
        assert {setting.test for setting in found.settings.values()} <= params["questions"].keys()


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").iterdir()), ids=lambda preset: preset.stem)
def test_the_graph_stands_with_the_parameters_of_a_preset(preset: Path, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copyfile(preset, tmp_path / "params.yaml")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        stages = {stage.name.split("@")[0] for stage in repo.index.stages}
    assert {"extract", "embed_text", "train"} <= stages
    assert preset.name == Path(BENCH).name or not {"synthesize", "refine", "project"} & stages
    params = YAML(typ="safe").load(preset.read_text())
    for name in params["systems"]:
        Plan.of(name, find_system(name, params), params)


def alone(system: str):
    return lambda params: params.update(systems={system: params["systems"][system]},
                                        answering={name: entry for name, entry in params["answering"].items() if name == system})


def nothing_drawn(params: dict) -> None:
    params["synthesis"].update(corpora=[], clips=[])
    for datasets in (params["embed"]["images"]["datasets"], params["tag"]["datasets"]):
        datasets.remove("scenes-drawn")
    del params["systems"]["syntic"]


def nothing_tagged(params: dict) -> None:
    nothing_drawn(params)
    params["tag"].update(detectors=[], datasets=[], clips=[])
    params["detectors"] = {}


def without_album(params: dict) -> None:
    del params["world"]["album"], params["extract"]["album"]
    for place, key in ((params["embed"]["text"], "corpora"), (params["embed"]["images"], "datasets"),
                       (params["embed"]["regions"], "datasets"), (params["tag"], "datasets"), (params["evaluation"], "datasets")):
        place[key] = [name for name in place[key] if name != "album"]
    params["settings"]["pictures"] = {"in-domain": {"test": "scenes", "support": "scenes"}}


def without_pairs(params: dict) -> None:
    del params["world"]["scenes-pairs"], params["extract"]["scenes-pairs"], params["systems"]["clipcap"]
    params["embed"]["images"]["datasets"].remove("scenes-pairs")


def without_questions(params: dict) -> None:
    params["world"]["scenes"]["questions"] = 0
    params["questions"] = params["answering"] = {}


def no_system(params: dict) -> None:
    params["systems"] = params["answering"] = {}


def smallest(params: dict) -> None:
    for cut in (nothing_tagged, without_album, without_pairs, without_questions, alone("clipre")):
        cut(params)
    params["index"]["corpora"] = []
    params["sweeps"] = {}


def as_shipped(params: dict) -> None:
    params.clear()
    params.update(YAML(typ="safe").load((ROOT / "params.yaml").read_text()))


SUBSETS = [as_shipped, nothing_drawn, nothing_tagged, without_album, without_pairs, without_questions, no_system, smallest]


@pytest.mark.parametrize("cut", [*SUBSETS, *map(alone, ("capdec", "decap", "knight", "syntic", "clipcap", "clipre"))],
                         ids=lambda cut: cut.__name__)
def test_a_part_of_the_bench_lacks_nothing_that_its_stages_wait_for(cut, tmp_path: Path) -> None:
    params = YAML(typ="safe").load((ROOT / BENCH).read_text())
    cut(params)
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shipped = ["pipeline", "stages", *(file.relative_to(ROOT).as_posix() for pattern in ("foundation/*/*", "sweeps/*", "*/README.md")
                                       for file in (ROOT / "data").glob(pattern))]
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        made = [out.def_path for stage in repo.index.stages for out in stage.outs]
        waited_for = {dep.def_path for stage in repo.index.stages for dep in stage.deps if dep.def_path != "params.yaml"}
    there = [*shipped, *made]
    for dep in waited_for:
        assert any(f"{dep}/".startswith(f"{path}/") or path.startswith(f"{dep}/") for path in there), dep
    assert any(path.startswith("data/report") for path in made)
