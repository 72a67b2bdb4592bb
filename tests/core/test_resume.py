"""Work that survives a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core import paths, resume
from pipeline.core.resume import resumable

TARGET = Path("data/features/corpus.zarr")
HOLD_LOCK = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.flock(f,fcntl.LOCK_EX); print('held',flush=True); sys.stdin.read()"


class Kill(BaseException):
    """Stands for a kill: no code of ours may catch it."""


@pytest.fixture(autouse=True)
def _in_a_fresh_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def work_until(killed_after: int | None, computed: list[str], target: Path = TARGET, **identity: object) -> None:
    """Three shards, each a file; raises `Kill` once `killed_after` of them are recorded."""
    with resumable(target, **identity) as work:
        for number, shard in enumerate(("0", "8", "16")):
            if number == killed_after:
                raise Kill
            if shard not in work.done:
                computed.append(shard)
                (work.output / shard).write_text(shard)
                work.record(shard, number)


def published(target: Path = TARGET) -> dict[str, str]:
    return {path.name: path.read_text() for path in target.iterdir()}


def test_finished_shards_are_not_computed_again_after_a_kill():
    first: list[str] = []
    with pytest.raises(Kill):
        work_until(2, first, seed=1)
    assert not TARGET.exists()
    second: list[str] = []
    work_until(None, second, seed=1)
    assert (first, second) == (["0", "8"], ["16"])
    assert published() == {"0": "0", "8": "8", "16": "16"}


def test_the_recorded_values_of_finished_shards_come_back():
    with pytest.raises(Kill):
        work_until(2, [], seed=1)
    with resumable(TARGET, seed=1) as work:
        assert work.done == {"0": 0, "8": 1}


def test_a_ledger_cut_in_the_middle_of_a_line_loses_that_shard_alone():
    with pytest.raises(Kill):
        work_until(2, [], seed=1)
    (ledger,) = Path(paths.WORK).rglob("ledger.jsonl")
    ledger.write_text(ledger.read_text()[:-5])
    computed: list[str] = []
    with pytest.raises(Kill):
        work_until(2, computed, seed=1)
    assert computed == ["8"]
    # what is written behind the cut is a line of its own again
    assert [json.loads(line)["shard"] for line in ledger.read_text().splitlines()] == ["0", "8"]


@pytest.mark.parametrize("other", [{"seed": 2}, {"seed": 1, "neighbours": 5}, {}])
def test_work_of_other_parameters_is_not_continued(other):
    with pytest.raises(Kill):
        work_until(2, [], seed=1)
    computed: list[str] = []
    work_until(None, computed, **other)
    assert computed == ["0", "8", "16"]


def test_work_of_older_code_is_not_continued(monkeypatch):
    with pytest.raises(Kill):
        work_until(2, [], seed=1)
    monkeypatch.setattr(resume, "_code_digest", lambda: "edited")
    computed: list[str] = []
    work_until(None, computed, seed=1)
    assert computed == ["0", "8", "16"]


def test_going_back_to_earlier_parameters_finds_their_work_as_long_as_none_succeeded():
    for seed in (1, 2):
        with pytest.raises(Kill):
            work_until(2, [], seed=seed)
    computed: list[str] = []
    work_until(None, computed, seed=1)
    assert computed == ["16"]


def test_success_sweeps_the_scratch_of_every_earlier_attempt():
    for seed in (1, 2):
        with pytest.raises(Kill):
            work_until(2, [], seed=seed)
    assert len(list(Path(paths.WORK).rglob("ledger.jsonl"))) == 2
    work_until(None, [], seed=3)
    assert not [path for path in Path(paths.WORK).rglob("*") if path.is_dir() and path.parent != Path(paths.WORK)]


def test_success_leaves_the_scratch_of_other_artefacts_alone():
    with pytest.raises(Kill):
        work_until(1, [], target=Path("data/features/other.zarr"), seed=1)
    work_until(None, [], seed=1)
    computed: list[str] = []
    work_until(None, computed, target=Path("data/features/other.zarr"), seed=1)
    assert computed == ["8", "16"]


@pytest.mark.parametrize("names", [("capdec-0.016", "capdec-0.032"), ("knight.a", "knight.b")])
def test_artefacts_whose_names_differ_behind_a_dot_have_scratch_of_their_own(names):
    ours, other = (Path("data/models") / name for name in names)
    with pytest.raises(Kill):
        work_until(1, [], target=other, seed=1)
    work_until(None, [], target=ours, seed=2)
    computed: list[str] = []
    work_until(None, computed, target=other, seed=1)
    assert computed == ["8", "16"]


def test_the_old_artefact_stays_until_the_new_one_is_complete():
    work_until(None, [], seed=1)
    with resumable(TARGET, seed=2) as work:
        (work.output / "0").write_text("new")
        assert published() == {"0": "0", "8": "8", "16": "16"}
    assert published() == {"0": "new"}


def test_the_artefact_appears_in_one_rename(monkeypatch):
    renamed = []
    real = resume.publish

    def watch(finished: Path, target: Path) -> None:
        assert not target.exists()
        assert {path.name for path in finished.iterdir()} == {"0", "8", "16"}
        inode = finished.stat().st_ino
        real(finished, target)
        renamed.append(target.stat().st_ino == inode)  # the very folder, not a copy

    monkeypatch.setattr(resume, "publish", watch)
    work_until(None, [], seed=1)
    assert renamed == [True]


def test_a_kill_between_publishing_and_sweeping_does_not_empty_the_artefact(monkeypatch):
    def die(path: Path) -> None:
        raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(resume.shutil, "rmtree", die)
        with pytest.raises(Kill):
            work_until(None, [], seed=1)
    assert len(published()) == 3
    work_until(None, [], seed=1)
    assert published() == {"0": "0", "8": "8", "16": "16"}


def test_a_second_process_on_the_same_artefact_is_told_so(user_error):
    with pytest.raises(Kill):
        work_until(1, [], seed=1)
    (lock,) = Path(paths.WORK).rglob(".lock")
    with subprocess.Popen([sys.executable, "-c", HOLD_LOCK, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert "in use by another process" in user_error(work_until, None, [], seed=1)
        other.stdin.close()
    work_until(None, [], seed=1)
    assert len(published()) == 3
