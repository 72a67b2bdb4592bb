"""Papers' figures as data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.errors import UserError
from pipeline.scoring.published import as_text, metrics, published, settings


@pytest.mark.parametrize("setting", settings())
def test_every_row_has_a_method_a_source_and_figures_that_a_metric_can_have(setting: str) -> None:
    rows = published(setting)
    assert len({row.method for row in rows}) == len(rows)
    for row in rows:
        assert row.source[-1].isdigit()
        assert all(0 < value < (130 if name == "CIDEr" else 100) for name, value in row.figures.items())
        assert row.figures.get("BLEU-1", 100) > row.figures["BLEU-4"]


def test_a_figure_that_is_known_to_be_off_says_so() -> None:
    clipre = next(row for row in published("coco") if row.method == "CLIPRe")
    assert clipre.figures["CIDEr"] == 13.6
    assert any("first 128 captions" in caveat for caveat in clipre.caveats)
    assert "first 128 captions" in as_text("coco")


def test_rows_stand_by_cider_under_the_names_that_our_own_scores_have() -> None:
    text = as_text("flickr30k")
    assert text.index("CLIPRe") < text.index("CapDec") < text.index("SynTIC")
    assert list(metrics()) == text.splitlines()[1].split()


def test_an_unknown_setting_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="flickr30k"):
        published("flickr")


def test_papers_figures_stand_beside_ones_own_in_text_and_in_json(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("captions.json", "references.json")]
    files[0].write_text(json.dumps({"1": "a cat", "2": "a dog"}))
    files[1].write_text(json.dumps({"1": ["a cat"], "2": ["a dog"]}))
    command = ["evaluate", str(files[0]), "--references", str(files[1]), "--published", "coco"]
    text, data = (CliRunner().invoke(app, [*command, *more]).output for more in ([], ["--json"]))
    assert as_text("coco") in text
    assert [row["method"] for row in json.loads(data)["published"]] == [row.method for row in published("coco")]
