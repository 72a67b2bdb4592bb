"""SPICE by image, the real one where it is installed; a failure of it is a message, never a score."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.code import ROOT, closure
from pipeline.core.errors import UserError
from pipeline.metrics import captions, java, spice, spice_install

STAGES = [file.relative_to(ROOT).as_posix() for file in (ROOT / "stages").glob("*.py")]
CAPTIONS = captions.Tokenized({"cat": ["a cat"], "dog": ["a dog"], "7": [""]},
                              {"cat": ["a grey cat"], "dog": ["a dog", "two dogs"], "7": ["seven"]})


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """stand_in(script): a program in Java's place, to which `asked` is SPICE's input, and `answer` writes its output.

    The file that is returned holds their folder, the arguments and the input, once it ran.
    """
    def install(script: str) -> Path:
        program, seen = tmp_path / "java", tmp_path / "seen"
        lines = ["import json, pathlib, sys, time", "place = pathlib.Path(sys.argv[sys.argv.index('-out') + 1])",
                 "asked = json.loads(place.with_name('captions.json').read_text())", "answer = place.write_text",
                 f"pathlib.Path({str(seen)!r}).write_text(json.dumps([str(place.parent), sys.argv, asked]))",
                 "record = lambda id, f: {'image_id': id, 'scores': {'All': {'f': f}}}", script]
        program.write_text("\n".join([f"#!{sys.executable}", *lines, ""]))
        program.chmod(0o755)
        monkeypatch.setattr(java, "executable", lambda: str(program))
        monkeypatch.setattr(spice, "installed", lambda: (tmp_path / "corenlp.jar", tmp_path / "models.jar"))
        return seen
    return install


def test_scores_go_to_their_images_whatever_the_order_of_the_answer(stand_in) -> None:
    seen = stand_in("answer(json.dumps([record('2', 0.0), record('0', 0.25), record('1', 1)]))")
    np.testing.assert_array_equal(spice.spice(CAPTIONS), [25, 100, 0])
    folder, arguments, asked = json.loads(seen.read_text())
    assert asked == [{"image_id": "0", "test": "a cat", "refs": ["a grey cat"]},
                     {"image_id": "1", "test": "a dog", "refs": ["a dog", "two dogs"]},
                     {"image_id": "2", "test": "", "refs": ["seven"]}]
    assert not Path(folder).exists()
    assert "corenlp.jar" in arguments[arguments.index("-cp") + 1]


@pytest.mark.parametrize(("script", "said"), [
    ("sys.exit('cannot parse')", "exit code 1 (cannot parse)"),
    ("pass", "no score for each of 3 images"),
    ("answer('')", "no score for each"),
    ("answer('[{')", "no score for each"),
    ("answer('{}')", "no score for each"),
    ("answer('[1, 2, 3]')", "no score for each"),
    ("answer(json.dumps([record('0', 1), record('2', 1)]))", "KeyError: '1'"),
    ("answer(json.dumps([record('0', 1), record('0', 1), record('1', 1), record('2', 1)]))", "image 0 twice"),
    ("answer(json.dumps([record(str(n), 1) for n in range(4)]))", "images that nobody asked for"),
    ("answer(json.dumps([record(n, 1) for n in range(3)]))", "KeyError: '0'"),
    ("answer(json.dumps([record('0', None), record('1', 1), record('2', 1)]))", "scores outside 0 to 1"),
    ("answer(json.dumps([record('0', float('nan')), record('1', 1), record('2', 1)]))", "scores outside 0 to 1"),
    ("answer(json.dumps([record('0', 'much'), record('1', 1), record('2', 1)]))", "could not convert"),
    ("place.write_bytes(bytes([255]))", "UnicodeDecodeError"),
])
def test_whatever_is_no_answer_is_one_line_and_no_score(stand_in, user_error, script: str, said: str) -> None:
    seen = stand_in(script)
    assert said in user_error(spice.spice, CAPTIONS)
    assert not Path(json.loads(seen.read_text())[0]).exists()


def test_a_run_without_end_is_ended(stand_in, user_error, monkeypatch: pytest.MonkeyPatch,
                                    tmp_path: Path) -> None:
    stand_in(f"import os; pathlib.Path({str(tmp_path)!r}, 'id').write_text(str(os.getpid())); time.sleep(600)")
    monkeypatch.setattr(spice, "_seconds", lambda captions: 3)
    began = time.monotonic()
    assert "did not finish within 3 s and was ended" in user_error(spice.spice, CAPTIONS)
    assert time.monotonic() - began < 60
    assert subprocess.run(["kill", "-0", (tmp_path / "id").read_text()], capture_output=True).returncode


def test_without_an_install_the_command_for_it_is_named(user_error, monkeypatch: pytest.MonkeyPatch,
                                                        tmp_path: Path) -> None:
    monkeypatch.setenv("UNPAIRED_CACHE", str(tmp_path))
    assert "run `unpaired spice install`" in user_error(spice.spice, CAPTIONS)


def test_java_finds_the_script_engine_that_spice_asks_for() -> None:
    shell = Path(java.executable()).with_name("jrunscript")
    if not shell.exists():
        pytest.skip("this Java has no jrunscript beside it")
    command = [shell, "-cp", spice._ENGINE, "-l", "JavaScript", "-e", "1 + 1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "no program but SPICE's own is known here" in done.stderr


def test_no_stage_waits_for_spice() -> None:
    assert STAGES
    behind = set().union(*(closure(stage) for stage in STAGES))
    assert "pipeline/metrics/captions.py" in behind
    assert not [file for file in behind if "spice" in file or file.startswith("pipeline/scoring/")]


@pytest.fixture(scope="module")
def real() -> None:
    try:
        spice_install.installed()
    except UserError as error:
        pytest.skip(str(error))


def test_the_example_of_spices_own_jar_and_captions_without_words(real) -> None:
    with zipfile.ZipFile(spice._JAR) as jar:
        records = json.loads(jar.read("example_input.json"))
    hypotheses = {str(record["image_id"]): record["test"] for record in records}
    references = {str(record["image_id"]): record["refs"] for record in records}
    hypotheses |= {"same": "Two red cars.", "none": "", "other": "a dog", "odd": "\u732b 12:30"}
    references |= {"same": ["two red cars"], "none": ["a dog"], "other": ["the snow"], "odd": ["on tuesday \u732b"]}
    pair = captions.tokenize_pair(hypotheses, references)
    # the first two as measured, with Java 17 and 25; what the last one should be nobody can say, but it is answered
    found = spice.spice(pair)
    np.testing.assert_allclose(found[:5], [100 * 4 / 31, 100 * 7 / 17, 100, 0, 0])
