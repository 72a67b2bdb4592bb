"""Two systems, or two files, image by image: the paired difference, and the images on which they differ most."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.metrics import bootstrap
from pipeline.scoring import compare
from pipeline.scoring.compare import Files
from tests.scoring import shapes
from tests.scoring.test_files import written
from tests.tiny_systems import params

IMAGES = 12
OTHERS = {"391895": "a person in the street", "60623": "a girl blows out a candle",
          "483108": "two cats on a sofa, asleep"}
SCORES = {
    "decap": {"CIDEr": np.arange(IMAGES) * 10.0, "Correct": np.ones(IMAGES), "OwnCLIPScore": np.ones(IMAGES)},
    "clipre": {"CIDEr": np.full(IMAGES, 50.0), "Correct": np.zeros(IMAGES), "OwnCLIPScore": np.ones(IMAGES),
               "METEOR": np.ones(IMAGES)},
}


@pytest.fixture
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two systems with scores of twelve images, each table in its own order; image 0 is neither Correct nor not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "load", lambda: params({"evaluation": {"judge": "judge", "samples": 200, "seed": 3}}))
    for turn, (system, values) in enumerate(SCORES.items()):
        order = np.random.default_rng(turn).permutation(IMAGES)
        table = {name: its[order].copy() for name, its in values.items()}
        table["Correct"][order == 0] = np.nan
        paths.scores(system).mkdir(parents=True)
        pq.write_table(pa.table({"image_id": [str(i) for i in order], **table}), paths.scores_file(system, "in-domain"))
        seal(paths.scores(system))
        write_json(paths.captions_file(system, "in-domain"),
                   [{"image_id": str(i), "caption": f"{system} {i}" if i else ""} for i in range(IMAGES)])
        seal(paths.captions(system))


def run(*arguments: object):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.mark.usefixtures("_project")
def test_systems_differ_by_what_their_scores_per_image_say() -> None:
    found = compare.compare("decap", "clipre", None, Files(), 2)
    assert (found.where, found.images) == ("in-domain", IMAGES)
    by_metric = {each.metric: each for each in found.comparisons}
    assert list(by_metric) == ["CIDEr", "OwnCLIPScore", "Correct"], "a metric that one of them has alone was compared"
    assert found.means == {"CIDEr": (55.0, 50.0), "OwnCLIPScore": (1.0, 1.0), "Correct": (1.0, 0.0)}
    order = sorted(range(IMAGES), key=str)
    ours, theirs = SCORES["decap"]["CIDEr"][order], SCORES["clipre"]["CIDEr"][order]
    assert by_metric["CIDEr"].difference == (5.0, *bootstrap.paired_interval(ours, theirs, 3, 200))
    assert by_metric["Correct"].difference == (1.0, 1.0, 1.0)
    assert not by_metric["CIDEr"].told_apart
    assert found.a_better == (("11", 60.0, "decap 11", "clipre 11"), ("10", 50.0, "decap 10", "clipre 10"))
    assert found.b_better == (("0", -50.0, "", ""), ("1", -40.0, "decap 1", "clipre 1"))


@pytest.mark.usefixtures("_project")
def test_the_command_prints_the_differences_and_the_captions_or_json() -> None:
    text = run("decap", "clipre", "--setting", "in-domain", "--number", 1).stdout
    assert "12 images, in-domain" in text
    assert "CIDEr                  55.0     50.0     +5.0  [" in text
    assert text.count("not told apart") == 2
    assert "  a: decap 11\n  b: clipre 11\n" in text
    assert "  a: (empty)\n" in text
    said = json.loads(run("decap", "clipre", "--json").stdout)
    assert said["metrics"]["Correct"] == {"a": 1.0, "b": 0.0, "difference": 1.0, "low": 1.0, "high": 1.0,
                                          "told_apart": True}
    assert said["a_better"][0] == {"image_id": "11", "difference": 60.0, "a": "decap 11", "b": "clipre 11"}
    assert len(said["a_better"]) == len(said["b_better"]) == 5, "images on which both are alike are in neither list"


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize(("arguments", "said"), [
    (["decap", "decap"], "decap against itself"),
    (["decap", "clipper"], "no system 'clipper'; did you mean 'clipre'"),
    (["decap", "clipre", "--setting", "in-doman"], "no setting 'in-doman' in common; did you mean 'in-domain'"),
    (["decap", "raw"], "raw/in-domain.parquet is missing: run `dvc repro`"),
    (["decap", "clipre", "--strip-markers"], "--split and --strip-markers are of files"),
    (["a.json", "b.json", "--references", "c.json", "--setting", "in-domain"], "--setting in-domain is of systems"),
    (["a.json", "b.json", "--references", "c.json"], "a.json is missing"),
])
def test_what_cannot_be_compared_is_one_line(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.usefixtures("_project")
def test_captions_of_other_images_than_the_scores_are_refused() -> None:
    write_json(paths.captions_file("decap", "in-domain"), [{"image_id": "0", "caption": "a"}])
    seal(paths.captions("decap"))
    with pytest.raises(UserError, match="of other images"):
        compare.compare("decap", "clipre", None, Files(), 5)


def test_files_are_compared_against_references_whatever_their_formats_and_orders(tmp_path: Path) -> None:
    refs = written(tmp_path, "refs.csv", shapes.references()["table.csv"])
    b, found, ids = written(tmp_path, "b.json", json.dumps(OTHERS)), [], list(shapes.CAPTIONS)
    for name in ("coco.json", "table.tsv"):
        random.Random(len(name)).shuffle(ids)
        found.append(compare.compare(str(written(tmp_path, name, shapes.captions(ids)[name])), str(b), None,
                                     Files(refs), 5))
    first, second = found
    assert (first.comparisons[0].difference, first.means, first.a_better) == (second.comparisons[0].difference,
                                                                              second.means, second.a_better)
    assert list(first.means) == ["BLEU-4", "METEOR", "ROUGE-L", "CIDEr"]
    assert [row.image_id for row in first.a_better] == ["391895"]
    assert [(row.image_id, row.a) for row in first.b_better] == [("60623", "")]


def test_files_that_carry_references_need_no_others_if_these_are_the_same(tmp_path: Path) -> None:
    rows = json.loads(shapes.captions()["magic.json"])
    a = written(tmp_path, "a.json", json.dumps(rows))
    b = written(tmp_path, "b.json", json.dumps([{**row, "prediction": "a cat"} for row in rows]))
    other = written(tmp_path, "c.json", json.dumps([{**row, "captions": ["a cat"]} for row in rows]))
    result = run(a, b)
    assert result.exit_code == 0
    assert "3 images" in result.stdout
    assert "carry other references" in str(run(a, other).exception)
    assert "against itself" in str(run(a, a).exception)
