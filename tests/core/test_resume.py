"""Work that survives a kill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core import artefacts, files, paths, progress, resume
from pipeline.core.artefacts import MANIFEST
from pipeline.core.resume import Ledger, finished_folder, kept_ledgers, resumable

TARGET = Path("data/features/corpus")
HOLD_LOCK = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.flock(f,fcntl.LOCK_EX); print('held',flush=True); sys.stdin.read()"


class Kill(BaseException):
    """Stands for a kill: no code of ours may catch it."""


@pytest.fixture(autouse=True)
def _in_a_fresh_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def work_until(killed_after: int | None, computed: list[str], target: Path = TARGET, code: str = "pipeline.features.stores",
               **identity: object) -> None:
    """Three shards, each a file; raises `Kill` once `killed_after` of them are recorded."""
    with resumable(target, code, **identity) as work:
        for number, shard in enumerate(("0", "8", "16")):
            if number == killed_after:
                raise Kill
            if shard not in work.done:
                computed.append(shard)
                (work.output / shard).write_text(shard)
                work.record(shard, number, [work.output / shard])


def published(target: Path = TARGET) -> dict[str, str]:
    return {path.name: path.read_text() for path in target.iterdir() if path.name != MANIFEST}


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
    with resumable(TARGET, "pipeline.features.stores", seed=1) as work:
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
    monkeypatch.setattr(resume, "code_digest", lambda *modules: "edited")
    computed: list[str] = []
    work_until(None, computed, seed=1)
    assert computed == ["0", "8", "16"]


def test_work_of_another_module_is_not_continued():
    with pytest.raises(Kill):
        work_until(2, [], code="pipeline.images", seed=1)
    computed: list[str] = []
    with pytest.raises(Kill):
        work_until(2, computed, code="pipeline.features.tagging", seed=1)
    work_until(None, computed, code="pipeline.images", seed=1)
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
    assert len(list(Path(paths.WORK).rglob("ledger.jsonl"))) == 1


def test_what_is_published_is_not_made_again_until_another_artefact_is_begun():
    """DVC removes an artefact that it had not noted when it was ended, and runs its stage again."""
    work_until(None, [], seed=1)
    shutil.rmtree(TARGET)
    computed: list[str] = []
    work_until(None, computed, seed=1)
    assert computed == []
    assert published() == {"0": "0", "8": "8", "16": "16"}
    work_until(None, [], target=Path("data/features/other"), seed=1)
    assert [path.name for path in Path(paths.WORK).iterdir()] == ["data+features+other"]
    work_until(None, computed, seed=1)
    assert computed == ["0", "8", "16"]


def test_what_is_published_elsewhere_leaves_no_scratch(tmp_path):
    work_until(None, [], target=tmp_path / "mine", seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_published_file_that_is_written_anew_leaves_the_scratch_as_it_was():
    work_until(None, [], seed=1)
    (TARGET / "0").unlink()
    (TARGET / "0").write_text("edited")
    work_until(None, [], seed=1)
    assert published() == {"0": "0", "8": "8", "16": "16"}


def test_files_of_a_shard_that_was_never_finished_are_not_published():
    """Zarr writes `0.<uuid>.partial` first, and a kill leaves it there."""
    with pytest.raises(Kill):
        work_until(1, [], seed=1)
    (output,) = Path(paths.WORK).rglob("output")
    (output / "c").mkdir()
    (output / "c/8.0809.partial").write_text("half")
    work_until(None, [], seed=1)
    assert not [path for path in TARGET.rglob("*") if "partial" in path.name]


def test_success_leaves_the_scratch_of_other_artefacts_alone():
    with pytest.raises(Kill):
        work_until(1, [], target=Path("data/features/other"), seed=1)
    work_until(None, [], seed=1)
    computed: list[str] = []
    work_until(None, computed, target=Path("data/features/other"), seed=1)
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
    real = resume.publish

    def die(*folders: Path) -> None:
        real(*folders)
        raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(resume, "publish", die)
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


def test_a_ledger_remembers_what_was_recorded_and_goes_on_after_it():
    values = {"pictures-0.tar": [[1, 2], None], "a\nb \u2028 Zoë": "x", "2": None}
    for shard, value in values.items():
        Ledger(Path("ledger.jsonl")).record(shard, value)
    found = Ledger(Path("ledger.jsonl"))
    assert found.done == values
    assert list(found.done) == list(values)


def test_a_shard_that_is_recorded_again_has_its_last_value():
    for value in (1, 2):
        Ledger(Path("ledger.jsonl")).record("0", value)
    assert Ledger(Path("ledger.jsonl")).done == {"0": 2}


@pytest.mark.parametrize(("done", "missing", "counts"), [
    ((), [(0, 4), (4, 8), (8, 10)], [4, 8, 10]), ((0,), [(4, 8), (8, 10)], [8, 10]), ((8,), [(0, 4), (4, 8)], [6, 10]),
    ((0, 8), [(4, 8)], [10]), ((0, 4, 8), [], []),
])
def test_only_missing_shards_are_made_and_the_others_count_as_progress(monkeypatch, capsys, done, missing, counts):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    ledger = Ledger(Path("ledger.jsonl"))
    for start in done:
        ledger.record(str(start))
    assert list(ledger.shards(10, 4, "embed", "rows")) == missing
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [f"embed: {count}/10 rows" for count in counts]


@pytest.mark.parametrize("kept", range(1, 60, 7))
def test_a_ledger_cut_anywhere_holds_whole_shards_alone(kept):
    file = Path("ledger.jsonl")
    for shard in ("0", "1"):
        Ledger(file).record(shard, "Zoë")
    whole = file.read_bytes()
    assert kept < len(whole)
    file.write_bytes(whole[:kept])
    assert list(Ledger(file).done) == ["0", "1"][: whole[:kept].count(b"\n")]
    Ledger(file).record("2", None)
    assert list(Ledger(file).done)[-1] == "2"


def open_ledgers(*fingerprints: str, killed: bool = False) -> dict[str, dict[str, object]]:
    """What the ledgers of these fingerprints hold; each then holds one caption more."""
    found = {}
    with kept_ledgers(TARGET) as ledgers:
        for fingerprint in fingerprints:
            ledger = ledgers.open(fingerprint)
            found[fingerprint] = dict(ledger.done)
            ledger.record(str(len(ledger.done)), "a cat")
        if killed:
            raise Kill
        TARGET.mkdir(parents=True, exist_ok=True)
    return found


def test_ledgers_of_parts_are_kept_when_the_artefact_is_finished_and_found_again():
    assert open_ledgers("in-domain", "cross-domain") == {"in-domain": {}, "cross-domain": {}}
    assert open_ledgers("in-domain", "cross-domain") == {"in-domain": {"0": "a cat"}, "cross-domain": {"0": "a cat"}}


def test_ledgers_of_parts_survive_a_kill_and_those_of_other_parts_too():
    open_ledgers("in-domain")
    with pytest.raises(Kill):
        open_ledgers("cross-domain", killed=True)
    assert open_ledgers("in-domain", "cross-domain") == {"in-domain": {"0": "a cat"}, "cross-domain": {"0": "a cat"}}


def test_ledgers_of_parts_that_are_no_longer_wanted_are_swept_away_at_the_end():
    open_ledgers("in-domain", "cross-domain")
    open_ledgers("in-domain")
    assert open_ledgers("in-domain", "cross-domain") == {"in-domain": {"0": "a cat", "1": "a cat"}, "cross-domain": {}}


def test_ledgers_of_parts_belong_to_one_process_and_one_artefact(user_error):
    with kept_ledgers(TARGET), kept_ledgers(TARGET.with_name("other")):
        assert "in use by another process" in user_error(kept_ledgers(TARGET).__enter__)


def test_a_finished_folder_replaces_the_old_one_only_at_the_end(tmp_path):
    target = tmp_path / "captions"
    target.mkdir()
    (target / "old").touch()
    with finished_folder(target) as folder:
        (folder / "new").touch()
        assert [p.name for p in target.iterdir()] == ["old"]
    assert list(published(target)) == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_folder_leaves_the_old_one_and_no_remains(tmp_path):
    target = tmp_path / "captions"
    target.mkdir()
    (target / "old").touch()

    def fail() -> None:
        with finished_folder(target) as folder:
            (folder / "new").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.name for p in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_remains_of_a_killed_run_do_not_enter_the_next_folder(tmp_path):
    (tmp_path / "captions.scratch/filled").mkdir(parents=True)
    (tmp_path / "captions.scratch/filled/stale").touch()
    with finished_folder(tmp_path / "captions") as folder:
        (folder / "new").touch()
    assert list(published(tmp_path / "captions")) == ["new"]


@pytest.mark.parametrize("damage", [
    lambda file: file.write_text("other"), lambda file: file.write_bytes(b""), lambda file: file.unlink(),
])
def test_a_shard_whose_files_are_not_as_they_were_recorded_is_made_again(damage):
    with pytest.raises(Kill):
        work_until(2, [], seed=1)
    (file,) = Path(paths.WORK).rglob("output/0")
    damage(file)
    computed: list[str] = []
    work_until(None, computed, seed=1)
    assert computed == ["0", "16"]
    assert published() == {"0": "0", "8": "8", "16": "16"}


@pytest.mark.parametrize("line", ['{"shard": "8", "value": 7, "files": {}, "digest": "0"}', "{}", "[]", "null", "\x00\x00", '"text"', "{"])
def test_a_line_that_is_not_as_it_was_recorded_is_not_believed(line):
    with pytest.raises(Kill):
        work_until(2, [], seed=1)
    (ledger,) = Path(paths.WORK).rglob("ledger.jsonl")
    first, _ = ledger.read_text().splitlines()
    ledger.write_text(f"{first}\n{line}\n")
    computed: list[str] = []
    work_until(None, computed, seed=1)
    assert computed == ["8", "16"]


def test_files_are_on_the_disk_before_they_are_noted_and_before_they_are_published(monkeypatch):
    done: list[str] = []
    synced, renamed, wrote = files.sync, os.replace, Ledger._write

    def sync(path: Path) -> None:
        done.append(f"sync {path.name}")
        synced(path)

    def rename(source: Path, target: Path) -> None:
        done.append(f"rename {Path(target).name}")
        renamed(source, target)

    def write(ledger: Ledger, line: str) -> None:
        done.append(f"note {json.loads(line)['shard']}")
        wrote(ledger, line)

    monkeypatch.setattr(files, "sync", sync)
    for module in (artefacts, resume):
        monkeypatch.setattr(module, "sync", sync)
    monkeypatch.setattr(files.os, "replace", rename)
    monkeypatch.setattr(Ledger, "_write", write)
    work_until(None, [], seed=1)
    noted = [step for shard in ("0", "8", "16") for step in (f"sync {shard}", "sync output", f"note {shard}", "sync ledger.jsonl")]
    assert [step for step in done if step in noted][: len(noted)] == noted
    published = done.index("rename corpus")
    assert {"sync 0", "sync 8", "sync 16", "sync finished"} <= set(done[:published])
    assert done[published + 1 :] == ["sync features"]


@pytest.mark.parametrize("writer", [finished_folder, kept_ledgers, lambda target: resumable(target, "pipeline.core")])
def test_no_two_writers_of_one_artefact_whichever_way_they_write(writer, user_error):
    for other in (finished_folder, kept_ledgers, lambda target: resumable(target, "pipeline.core")):
        with writer(TARGET):
            assert "in use by another process" in user_error(other(TARGET).__enter__)
