"""Sweeps: a row is computed once, models are shared, an interrupted training goes on, and what a row depends on makes it stale."""

from __future__ import annotations

import contextlib
import shutil
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import sweeps, training
from pipeline.captioning import Captioner
from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.files import digest_file, digest_tree, read_json, write_json
from pipeline.core.resume import held
from pipeline.features.embedding import embed_images
from pipeline.features.encoders import Clip
from pipeline.features.indexing import IndexParams, index_corpus
from pipeline.features.stores import Origin, write_store
from pipeline.metrics.judge import EvaluationParams
from pipeline.sweep_table import Row, comparisons, read_rows
from pipeline.sweeps import fingerprint, run_sweep, variant_for
from pipeline.systems import Setting, find_system
from pipeline.tasks.base import Scored, long
from pipeline.tasks.caption import TASK
from pipeline.training import train_system
from tests.artefacts import CLIP, DETECTOR, edit_json, edit_table, seal_again
from tests.interruption import Interrupted, interrupt_at
from tests.tiny_systems import CPU, IMAGES, PARAMS, TEXT_ONLY, make_project, params, write_params

SETTING = "pictures.in-domain"
TABLE = paths.SWEEPS / "mine.csv"
SYSTEMS = {
    "evaluation": {"judge": "judge", "samples": 20},
    "systems.knight": {"method": "knight", **TEXT_ONLY, "train": {"k": 2}},
    "settings.pictures.short": {"test": "scenes", "support": "scenes", "captioning": {"max_new_tokens": 1}},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Path:
    """A project in which nothing is trained yet."""
    folder = tmp_path_factory.mktemp("sweeps")
    make_project(folder, tiny_clip_folder, tiny_clip)
    with contextlib.chdir(folder):
        seen = paths.image_features("judge", "scenes")
        origin = Origin("judge", "j" * 64, 8, "none", digest_file(paths.image_table("scenes")), "float32")
        write_store(seen, np.ones((IMAGES, 8), np.float32), origin)
        seal(seen)
    return folder


@pytest.fixture
def inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the project as the current folder, to change, with a judge that gives a point for each letter."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")

    def score(name: str, setting: Setting, captions: dict[str, str], corpora: tuple[str, ...], own: str) -> Scored:
        points = [float(len(caption)) for caption in captions.values()]
        mean = sum(points) / len(points)
        figures = {"CIDEr": mean, "CIDEr_low": mean - 1, "CIDEr_high": mean + 1, "CIDEr_shuffled": 0.0}
        return Scored(long(name, len(points), figures), list(captions), {"CIDEr": points}, {})

    monkeypatch.setattr(sweeps, "Scorer", lambda *arguments: SimpleNamespace(judge=SimpleNamespace(digest="judge"), score=score))


def sweep(changes: dict[str, Any] | None = None, name: str = "mine", **entry: Any) -> list[Row]:
    """Run a sweep, and give back its rows."""
    whole = {"systems": ["decap"], "settings": [SETTING], "split": "val", **entry}
    write_params(params({**SYSTEMS, f"sweeps.{name}": whole, **(changes or {})}))
    run_sweep(name)
    return read_rows(paths.SWEEPS / f"{name}.csv", TASK)


def cider(row: Row) -> float:
    return row.scores["CIDEr"].value


def same(rows: list[Row], others: list[Row]) -> bool:
    """repr, for NaN is like no other."""
    return list(map(repr, rows)) == list(map(repr, others))


def train(name: str) -> None:
    train_system(name, find_system(name, params(SYSTEMS)), params(SYSTEMS), CPU)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The keys of rows that are computed in what follows."""
    keys: list[tuple] = []
    real = sweeps._print

    def note(row: Row) -> None:
        keys.append((row.system, row.variant, row.seed, row.setting))
        real(row)

    monkeypatch.setattr(sweeps, "_print", note)
    return keys


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names and seeds of what is trained in what follows."""
    plans: list[tuple[str, int]] = []
    real = training.fit

    def note(plan, *arguments):
        plans.append((plan.name, plan.system.seed))
        return real(plan, *arguments)

    monkeypatch.setattr(training, "fit", note)
    return plans


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of the models that caption in what follows."""
    folders: list[Path] = []
    real = Captioner.__init__

    def note(self, *arguments):
        real(self, *arguments)
        folders.append(self.folder)

    monkeypatch.setattr(Captioner, "__init__", note)
    return folders


def test_one_table_is_filled_by_one_process(inside, user_error):
    with held(TABLE):
        assert "in use by another process" in user_error(sweep)
    assert len(sweep()) == 1


def test_a_sweep_has_a_row_for_each_system_value_seed_and_setting(inside):
    rows = sweep(systems=["decap", "knight"], seeds=[0, 1], settings=[SETTING, "pictures.short"], vary={"recipe": ["small"]})
    assert [row.key for row in rows] == [(system, '{"recipe": "small"}', seed, setting) for system in ("decap", "knight") for seed in (0, 1)
                                         for setting in (SETTING, "pictures.short")]
    assert {(row.split, row.images) for row in rows} == {("val", 4)}
    assert all(row.items["CIDEr"].mean() == pytest.approx(cider(row), abs=1e-4) for row in rows)
    assert len({row.fingerprint for row in rows}) == len(rows)
    assert all(row.scores["CIDEr"].low == pytest.approx(cider(row) - 1) for row in rows)


def test_a_system_that_looks_nothing_up_has_one_row_for_settings_that_differ_by_their_support_at_most(inside):
    other = {"settings.pictures.other": {"test": "scenes", "support": "scenes"}}
    rows = sweep(other, systems=["raw", "clipre"], settings=[SETTING, "pictures.other"])
    assert [(row.system, row.setting) for row in rows] == [("raw", SETTING), ("clipre", SETTING), ("clipre", "pictures.other")]


def test_values_that_belong_together_are_a_variant_each_and_not_combined(inside):
    together = [{}, {"train.k": 1}, {"train.k": 1, "train.noise_std": 0.5}]
    rows = sweep(systems=["knight"], variants=together)
    assert [row.variant for row in rows] == ["{}", '{"train.k": 1}', '{"train.k": 1, "train.noise_std": 0.5}']
    rows = sweep(systems=["knight"], variants=together[1:], vary={"train.normalized": [True, False]}, name="both")
    assert len({row.variant for row in rows}) == 4
    assert all('"train.k": 1' in row.variant and "normalized" in row.variant for row in rows)


def test_what_is_varied_reaches_training_and_captioning(inside, used):
    rows = sweep(systems=["knight"], vary={"train.k": [1, 3]})
    assert [row.values for row in rows] == [{"train.k": 1}, {"train.k": 3}]
    assert [read_json(folder / "system.json")["train"] for folder in used] == [{"k": 1}, {"k": 3}]
    assert len({fingerprint(variant_for("decap", {"caption.temperature": value}, 0, params(SYSTEMS)), Setting("scenes", "scenes"),
                            params(SYSTEMS), "judge") for value in (0.1, 0.2)}) == 2


@pytest.mark.parametrize("key", ["train", "kk", "method.x", "decoder.width", "caption"])
def test_a_key_that_no_system_has_is_named(inside, user_error, key):
    message = user_error(sweep, vary={key: [1]})
    assert message.startswith("params.yaml: ")
    assert key in message


def test_a_value_that_the_method_refuses_is_named_before_anything_is_trained(inside, user_error, trained):
    assert "train.k is -1" in user_error(sweep, systems=["knight"], vary={"train.k": [2, -1]})
    assert "decap.train.k is not a parameter" in user_error(sweep, systems=["knight", "decap"], vary={"train.k": [2]})
    assert trained == []


def test_finished_rows_are_not_computed_again_and_a_lost_one_is(inside, computed):
    whole = sweep(systems=["decap", "clipre"], seeds=[0, 1])
    assert len(computed) == 4
    assert same(sweep(systems=["decap", "clipre"], seeds=[0, 1]), whole)
    assert len(computed) == 4
    lines = TABLE.read_text().splitlines(keepends=True)
    TABLE.write_text("".join([*lines[:2], *lines[3:]]))
    assert same(sweep(systems=["decap", "clipre"], seeds=[0, 1]), whole)
    assert computed[4:] == [("decap", "{}", 1, SETTING)]


def test_a_row_that_another_sweep_has_is_taken_over_with_its_scores_per_image(inside, computed):
    _, other = sweep(name="other", seeds=[0, 1])
    computed.clear()
    rows = sweep(seeds=[1], vary={"seed": [1]})
    assert computed == []
    assert [row.values for row in rows] == [{"seed": 1}]
    assert np.array_equal(rows[0].items["CIDEr"], other.items["CIDEr"])


def test_a_table_of_an_older_layout_is_no_obstacle(inside, computed):
    paths.SWEEPS.mkdir(parents=True)
    (paths.SWEEPS / "old.csv").write_text("system,variant,seed,setting,images\nknight,train.k=1,0,in-domain,20\n")
    pq.write_table(pa.table({"key": ["knight|train.k=1|0|in-domain"], "CIDEr": [[1.0]]}), paths.SWEEPS / "old.parquet")
    (paths.SWEEPS / "mine.csv").write_text((paths.SWEEPS / "old.csv").read_text())
    assert len(sweep()) == len(computed) == 1


@pytest.mark.parametrize("changes", [
    {"captioning.beams": 1}, {"recipes.small.steps": 7}, {"decoders.small.width": 32}, {"evaluation.samples": 30},
    {"settings.pictures.in-domain.captioning": {"beams": 3}}, {"systems.decap.caption.temperature": 0.2},
])
def test_a_row_is_stale_when_a_parameter_behind_it_changes(inside, computed, changes):
    (before,) = sweep()
    (after,) = sweep(changes)
    assert len(computed) == 2
    assert before.fingerprint != after.fingerprint


def test_a_row_is_stale_when_the_code_behind_it_changes(inside, computed, monkeypatch):
    (before,) = sweep()
    monkeypatch.setattr(sweeps, "code_digest", lambda *modules: "changed")
    (after,) = sweep()
    assert len(computed) == 2
    assert before.fingerprint != after.fingerprint
    assert cider(before) == cider(after)


def row_of(name: str, values: dict[str, Any] | None = None) -> str:
    return fingerprint(variant_for(name, values or {}, 0, params(SYSTEMS)), Setting("scenes", "scenes"), params(SYSTEMS), "judge")


@pytest.mark.parametrize("name", ["decap", "raw", "clipre", "syntic"])
@pytest.mark.parametrize("changed", [paths.references_table("scenes"), paths.image_table("scenes")])
def test_a_row_is_stale_when_its_test_data_change(inside, tiny_clip, changed, name):
    before = row_of(name)
    edit_table(changed, pq.read_table(changed).slice(1))
    embed_images(CLIP, tiny_clip, "scenes")
    assert row_of(name) != before


def test_a_row_is_stale_when_there_is_a_record_of_what_images_show(inside):
    before = row_of("decap")
    write_json(paths.vocabulary("scenes"), {"objects": {"cat": ["cat"]}, "colours": {}, "nothing": []})
    assert row_of("decap") != before


def touch(folder: Path) -> None:
    file = next(file for file in sorted(folder.rglob("*")) if file.is_file())
    file.write_bytes(file.read_bytes() + b"\n")
    seal_again(file)


READS = {
    paths.text_features(CLIP, "scenes"): {"decap", "raw", "clipre", "knight", "capdec", "syntic"},
    paths.neighbours(CLIP, "scenes"): {"knight"},
    paths.image_features(CLIP, "scenes"): {"decap", "raw", "clipre", "knight", "capdec", "syntic"},
    paths.tagged(CLIP, DETECTOR, "scenes"): {"syntic"},
    paths.tagged(CLIP, DETECTOR, "scenes-drawn"): {"syntic"},
    paths.projections(CLIP, "scenes-drawn") / "refined": {"syntic"},
    paths.refined(CLIP, "scenes-drawn") / "features": set(),  # the projected ones of it are read
}


@pytest.mark.parametrize("read", READS, ids=str)
def test_a_row_is_stale_when_features_that_its_system_reads_change_and_not_for_others(inside, read):
    whole = params({**SYSTEMS, "systems.capdec": {"method": "capdec", **TEXT_ONLY}})

    def rows() -> dict[str, str]:
        setting = Setting("scenes", "scenes")
        return {name: fingerprint(variant_for(name, {}, 0, whole), setting, whole, "judge") for name in whole["systems"]}

    before = rows()
    touch(read)
    assert {name for name, row in rows().items() if row != before[name]} == READS[read]


@pytest.mark.parametrize(("values", "stale"), [({}, True), ({"train.objects": False}, False)])
def test_a_row_is_stale_when_what_was_detected_changes_for_systems_that_are_told(inside, values, stale):
    before = row_of("syntic", values)
    edit_json(paths.tagged(CLIP, DETECTOR, "scenes") / "tagged.json", prompt="another {}")
    assert (row_of("syntic", values) != before) == stale


def test_a_model_that_data_models_holds_is_not_trained_again(inside, trained, used):
    train("decap")
    trained.clear()
    sweep(seeds=[0, 1])
    assert trained == [("decap", 1)]
    assert used[0] == paths.model("decap")


def changed_corpus_index() -> None:
    index_corpus(CLIP, "scenes", IndexParams(neighbours=4), CPU)


def changed_weights() -> None:
    touch(paths.model("knight") / "lm")


def changed_card() -> None:
    write_json(paths.model("knight") / "system.json", {"name": "knight"})
    seal_again(paths.model("knight"))


def forgotten() -> None:
    shutil.rmtree(paths.WORK)


@pytest.mark.parametrize("change", [changed_corpus_index, changed_weights, changed_card, forgotten])
def test_a_model_of_data_models_that_may_be_another_one_is_trained_anew_elsewhere(inside, trained, used, change):
    train("knight")
    change()
    trained.clear()
    before = digest_tree(paths.model("knight"))
    sweep(systems=["knight"])
    assert trained == [("knight", 0)]
    assert paths.DATA not in used[0].parents
    assert digest_tree(paths.model("knight")) == before


def test_a_system_that_starts_from_another_one_is_captioned_with_that_ones_model_of_the_same_seed(inside, used):
    sweep(systems=["raw"], seeds=[0, 1])
    cards = [read_json(folder / "system.json") for folder in used]
    assert [(card["name"], card["seed"]) for card in cards] == [("decap", 0), ("decap", 1)]


def test_a_model_is_trained_once_for_all_systems_that_use_it(inside, trained):
    sweep(systems=["raw", "decap"], seeds=[0, 1])
    assert sorted(trained) == [("decap", 0), ("decap", 1)]


def test_a_model_is_trained_once_for_all_values_that_change_its_captioning_only(inside, trained):
    sweep(vary={"caption.temperature": [0.1, 0.5, 1.0]})
    assert trained == [("decap", 0)]


def test_a_model_that_another_sweep_has_trained_is_not_trained_again(inside, trained):
    sweep()
    sweep(name="later", settings=["pictures.short"])
    sweep({"captioning.beams": 1}, name="greedy")
    assert trained == [("decap", 0)]


def test_what_is_not_trained_needs_no_model(inside, trained):
    (row,) = sweep(systems=["clipre"])
    assert trained == []
    assert not paths.model("clipre").exists()
    assert row.images == 4


def test_an_interrupted_training_goes_on_from_its_snapshot_and_ends_in_the_same_row(inside, capsys):
    (whole,) = sweep()
    shutil.rmtree(paths.WORK)
    shutil.rmtree(paths.SWEEPS)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises(Interrupted):
            sweep()
    assert "resumed" not in capsys.readouterr().err
    assert same(sweep(), [whole])
    assert "resumed from step 4" in capsys.readouterr().err


def test_a_kill_keeps_the_rows_that_were_finished(inside, computed):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(Interrupted):
            sweep(systems=["decap", "knight"])
    assert [row.system for row in read_rows(TABLE, TASK)] == ["decap"]
    sweep(systems=["decap", "knight"])
    assert computed == [("decap", "{}", 0, SETTING), ("knight", "{}", 0, SETTING)]


def test_a_kill_within_a_setting_costs_one_batch_at_most(inside):
    (whole,) = sweep()
    shutil.rmtree(paths.SWEEPS)
    real, sizes = Captioner.caption, []

    def counted(captioner, seen, *arguments, last: int):
        if len(sizes) == last:
            raise Interrupted
        sizes.append(len(seen))
        return real(captioner, seen, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Captioner, "caption", partialmethod(counted, last=1))
        with pytest.raises(Interrupted):
            sweep()
        assert sizes == [3]  # of four pictures
        patch.setattr(Captioner, "caption", partialmethod(counted, last=2))
        assert same(sweep(), [whole])
        assert sizes == [3, 1]


def test_systems_are_compared_on_the_same_images_and_older_rows_stay_until_the_first_new_one_is_there(inside, capsys):
    rows = sweep(systems=["decap", "clipre"], seeds=[0, 1])
    (found,) = comparisons(rows, TASK, EvaluationParams("judge", samples=20))
    mean = {system: np.mean([cider(row) for row in rows if row.system == system]) for system in ("decap", "clipre")}
    best, other = sorted(mean, key=lambda system: -mean[system])
    assert (found.setting, found.metric, found.a, found.b, found.seeds) == (SETTING, "CIDEr", best, other, (2, 2))
    assert found.difference[0] == pytest.approx(mean[best] - mean[other], abs=1e-3)
    assert found.difference[1] <= found.difference[0] <= found.difference[2]
    assert f"{SETTING}, CIDEr: {best} - {other} = {found.difference[0]:.1f} [" in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 0)
        with pytest.raises(Interrupted):
            sweep({"recipes.small.steps": 7}, systems=["decap", "clipre"], seeds=[0, 1])
    assert same(read_rows(TABLE, TASK), rows)


def test_a_settings_own_captioning_values_count_in_a_sweep(inside):
    short, usual = (rows[0] for rows in (sweep(settings=["pictures.short"]), sweep(settings=[SETTING])))
    assert cider(short) < cider(usual)


def test_tags_of_another_detector_than_the_one_in_training_are_refused(inside, user_error):
    edit_json(paths.tagged(CLIP, DETECTOR, "scenes") / "tagged.json", detector_digest="0" * 64)
    assert f"was made with another detector {DETECTOR} than" in user_error(sweep, systems=["syntic"])


def test_an_unknown_sweep_system_or_setting_is_answered_with_the_nearest_one(inside, user_error):
    write_params(params({**SYSTEMS, "sweeps.mine": {}}))
    assert "did you mean 'mine'" in user_error(run_sweep, "min")
    assert "did you mean 'knight'" in user_error(sweep, systems=["knigth"])
    assert "did you mean 'in-domain'" in user_error(sweep, settings=["pictures.in-domian"])
    assert set(PARAMS["systems"]) <= set(user_error(sweep, systems=["nothing"]).replace(",", "").split())


KEEPING = {"recipes.small": {"steps": 6, "batch": 4, "evaluate_every": 2, "snapshot_every": 2, "keep_steps": True}}


def test_one_training_gives_a_curve_over_its_steps(inside, trained, monkeypatch):
    used = []
    real = sweeps.Captioner

    def note(*arguments):
        made = real(*arguments)
        used.append(made.weights.name)
        return made

    monkeypatch.setattr(sweeps, "Captioner", note)
    rows = sweep(KEEPING, vary={"step": [0, 4, None]}, seeds=[0, 1])
    assert [row.values for row in rows] == [{"step": 0}, {"step": 4}, {"step": None}] * 2
    assert trained == [("decap", 0), ("decap", 1)]
    assert used[:2] == used[3:5] == ["0", "4"]
    assert len({row.fingerprint for row in rows}) == 6
    whole = sweep(KEEPING, name="whole")
    assert whole[0].scores["CIDEr"].value == cider(rows[2])


@pytest.mark.parametrize(("changes", "step", "said"), [
    (KEEPING, 3, "no weights of step 3, but of 0, 2, 4, 6"), ({}, 2, "but of none: name one of them, or set keep_steps"),
    (KEEPING, "../0", "a sweep's step is '../0'"), (KEEPING, -1, "step is -1"), (KEEPING, True, "step is True"),
])
def test_a_step_that_was_not_kept_is_one_line(inside, user_error, changes, step, said):
    assert said in user_error(sweep, changes, vary={"step": [step]})
