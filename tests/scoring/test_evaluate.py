"""Anybody's captions get the scores that the pipeline's would, whatever the format and order."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.errors import UserError
from pipeline.metrics import bootstrap, captions, spice
from pipeline.scoring.evaluate import as_json, as_text, evaluate, load_pair, rows
from tests.scoring import shapes
from tests.scoring.test_files import written


def evaluated(folder: Path, ours: object, theirs: object, strip: bool = False):
    files = written(folder, "captions.json", json.dumps(ours)), written(folder, "references.json", json.dumps(theirs))
    return evaluate(load_pair(*files, None), strip)


def test_the_scores_are_those_of_the_pipelines_own_functions(tmp_path: Path) -> None:
    found = evaluated(tmp_path, shapes.CAPTIONS, shapes.TEXTS)
    ids = sorted(shapes.TEXTS)
    pair = captions.tokenize_pair({i: shapes.CAPTIONS[i] for i in ids}, {i: shapes.TEXTS[i] for i in ids})
    scores, shuffled = captions.score_tokenized(pair), captions.shuffled_cider(pair, 0)
    by_name = {score.metric: score for score in found.scores}
    assert {name: by_name[name].value for name in scores.corpus} == {name: round(value, 4) for name,
                                                                     value in scores.corpus.items()}
    assert by_name["CIDEr_shuffled"].value == round(float(shuffled.mean()), 4)
    low, high = bootstrap.interval(scores.per_image["CIDEr"], 0, 1000)
    assert (by_name["CIDEr"].low, by_name["CIDEr"].high) == (round(low, 4), round(high, 4))
    assert found.empty == 1


def test_formats_and_orders_give_the_same_scores(tmp_path: Path) -> None:
    generator, ids, found = random.Random(1), list(shapes.CAPTIONS), []
    for name in ("coco.json", "mapping.json", "table.csv", "windows.csv", "lines.jsonl"):
        generator.shuffle(ids)
        ours = written(tmp_path, name, shapes.captions(ids)[name])
        generator.shuffle(ids)
        theirs = written(tmp_path / "references", name, shapes.references(ids)[name])
        said = as_json(evaluate(load_pair(ours, theirs, None)))
        found.append([said["scores"], list(said["per_image"].items()), said["counts"]])
    assert found == found[:1] * len(found)


def test_images_by_either_name_of_the_references_get_the_same_scores(tmp_path: Path) -> None:
    theirs = written(tmp_path, "references.json", shapes.references()["coco.json"])
    ours = [written(tmp_path, name, shapes.captions()[name]) for name in ("coco.json", "magic.json", "folder.jsonl")]
    found = [as_json(evaluate(load_pair(file, theirs, None))) for file in ours]
    assert [said["scores"] for said in found] == [found[0]["scores"]] * 3
    assert [said["per_image"] for said in found] == [found[0]["per_image"]] * 3


def test_markers_are_scored_as_words_and_named_unless_they_are_to_go(tmp_path: Path) -> None:
    marked = {image_id: f"<s> {text} <|endoftext|></s>" for image_id, text in shapes.CAPTIONS.items()}
    plain, as_is, stripped = (evaluated(tmp_path, *pair) for pair in (
        (shapes.CAPTIONS, shapes.TEXTS), (marked, shapes.TEXTS), (marked, shapes.TEXTS, True)))
    assert rows(stripped) == rows(plain)
    assert as_is.scores[0].value < plain.scores[0].value
    assert as_is.markers == stripped.markers == {"<s>": 3, "<|endoftext|>": 3, "</s>": 3}
    assert plain.markers == {}
    assert "markers in captions: <s> (3), <|endoftext|> (3), </s> (3): scored as words; --strip" in as_text(as_is)
    assert "</s> (3): taken out" in as_text(stripped)
    assert "markers in" not in as_text(plain)


def test_markers_in_references_are_named_too(tmp_path: Path) -> None:
    found = evaluated(tmp_path, {"1": "a cat", "2": "a dog"}, {"1": ["a cat <end>"], "2": ["a dog"]})
    assert found.reference_markers == {"<end>": 1}
    assert "markers in references: <end> (1)" in as_text(found)


def test_one_image_has_no_control_and_a_note(tmp_path: Path) -> None:
    found = evaluated(tmp_path, {"1": "a cat"}, {"1": ["a cat"]})
    assert "CIDEr_shuffled" not in found.per_image
    assert "CIDEr of one image is 0" in as_text(found)
    assert as_text(found).startswith("1 image, 1 references, 0 empty captions")


def test_a_reference_without_a_word_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reference 1 of image '1' holds no word"):
        evaluated(tmp_path, {"1": "a cat"}, {"1": ["<end>"]}, True)


def test_references_may_be_left_out_only_where_captions_carry_them(tmp_path: Path) -> None:
    files = {name: written(tmp_path, name, content) for name, content in shapes.captions().items()}
    assert evaluate(load_pair(files["magic.json"], None, None)).split == "test"
    with pytest.raises(UserError, match="carries no references"):
        load_pair(files["coco.json"], None, None)
    with pytest.raises(UserError, match="--split test is of a file of references"):
        load_pair(files["magic.json"], None, "test")


def run(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command_prints_what_scores_are_of_or_json_and_writes_a_page(tmp_path: Path) -> None:
    file = written(tmp_path, "captions.csv", shapes.captions()["table.csv"])
    refs = written(tmp_path, "references.json", shapes.references()["karpathy.json"])
    page = tmp_path / "page.html"
    result = run(file, "--references", refs, "--split", "test", "--html", page)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("3 images, 6 references, 1 empty caption\nBLEU-1 ")
    assert "left out: references of 1 images of other splits" in result.stdout
    assert page.read_text().count("<tr>") > 9
    said = json.loads(run(file, "--references", refs, "--split", "test", "--json").stdout)
    assert said["counts"] == {"images": 3, "references": 6, "empty_captions": 1, "images_of_other_splits": 1}
    assert said["split"] == "test"
    assert {"BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "CIDEr_low", "CIDEr_high",
            "CIDEr_shuffled"} <= said["scores"].keys()
    assert np.mean([each["CIDEr"] for each in said["per_image"].values()]) == pytest.approx(said["scores"]["CIDEr"],
                                                                                            abs=1e-3)


def test_the_page_holds_text_as_text_and_needs_nothing_else(tmp_path: Path) -> None:
    ours = {"<b>1</b>": "<script>alert(1)</script> a cat & \ud800", "2": "a dog"}
    file = written(tmp_path, "a.json", json.dumps(ours))
    refs = written(tmp_path, "b.json", json.dumps({"<b>1</b>": ["a 'cat' <img src=x>"], "2": ["a dog"]}))
    assert run(file, "--references", refs, "--html", tmp_path / "p.html").exit_code == 0
    page = (tmp_path / "p.html").read_text()
    assert "&lt;script&gt;" in page
    assert not any(bad in page for bad in ("<script", "<img", "<b>1", "http://", "https://"))


def test_a_page_that_cannot_be_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    for page, said in ((tmp_path / "p.pdf", "let it end in .html"),
                       (tmp_path / "none" / "p.html", "cannot be written")):
        result = run(tmp_path / "missing.json", "--html", page)
        assert isinstance(result.exception, UserError)
        assert said in str(result.exception)


def test_spice_comes_with_its_interval_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([10.0, 40.0, 25.0])
    monkeypatch.setattr(spice, "spice", lambda tokenized: values)
    file = written(tmp_path, "captions.csv", shapes.captions()["table.csv"])
    refs, page = written(tmp_path, "references.csv", shapes.references()["table.csv"]), tmp_path / "page.html"
    low, high = bootstrap.interval(values, 0, 1000)
    shown = run(file, "--references", refs, "--spice", "--html", page).stdout
    assert f"\nSPICE                    25.0 [{low:.1f}, {high:.1f}]\n" in shown
    assert f"SPICE: {spice.PROTOCOL}" in shown
    assert '<th scope="row">SPICE</th><td class="n">25.0</td>' in page.read_text()
    said = json.loads(run(file, "--references", refs, "--spice", "--json").stdout)
    assert said["scores"]["SPICE"] == 25
    assert (said["scores"]["SPICE_low"], said["scores"]["SPICE_high"]) == (round(low, 4), round(high, 4))
    assert [said["per_image"][image_id]["SPICE"] for image_id in sorted(shapes.TEXTS)] == list(values)


def test_spice_is_absent_where_nobody_asks_and_a_line_where_it_is_not_installed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPAIRED_CACHE", str(tmp_path / "none"))
    file = written(tmp_path, "captions.csv", shapes.captions()["table.csv"])
    refs = written(tmp_path, "references.csv", shapes.references()["table.csv"])
    assert "SPICE" not in run(file, "--references", refs).stdout
    result = run(file, "--references", refs, "--spice")
    assert isinstance(result.exception, UserError)
    assert "run `unpaired spice install`" in str(result.exception)
    assert result.stdout == ""


def test_several_files_make_a_table_of_what_each_scores_alone(tmp_path: Path) -> None:
    theirs = written(tmp_path, "references.json", json.dumps(shapes.TEXTS))
    ours = [written(tmp_path, name, json.dumps(captions)) for name, captions in (
        ("a.json", shapes.CAPTIONS), ("b.json", dict.fromkeys(shapes.CAPTIONS, "a cat <|endoftext|>")))]
    done = CliRunner().invoke(app, ["evaluate", *map(str, ours), "--references", str(theirs)])
    assert done.exit_code == 0
    heading, *lines = done.output.splitlines()
    for file, line in zip(ours, lines[:2], strict=True):
        alone = {name: value for name, value, _ in rows(evaluate(load_pair(file, theirs, None)))}
        assert line.split()[:1] == [str(file)]
        assert dict(zip(heading.split(), line.split()[1:], strict=False)) == {name: alone[name] for name in heading.split()}
    assert done.output.count("tokenizer: ") == 1
    assert f"{ours[1]}: markers in captions: <|endoftext|> (3)" in done.output


def test_a_page_is_of_one_file_alone(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", "a.json", "b.json", "--html", str(tmp_path / "page.html")])
    assert isinstance(done.exception, UserError)
    assert not (tmp_path / "page.html").exists()
