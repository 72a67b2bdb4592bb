"""The report begins with one picture of all systems, then shows some captions; what was run stands at its end."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.report.data import gather
from pipeline.report.overview import axes
from pipeline.report.page import render
from pipeline.tasks.caption import TASK
from tests.artefacts import edit_json
from tests.report.test_report import ENTRY, PARAMS, change_score, project, section, seeds_of, write_model, write_sweep, write_system

__all__ = ["project"]  # the fixture


def paired() -> dict[str, Any]:
    clipcap = {"method": "clipcap", **ENTRY, **dict.fromkeys(("learns_from", "learns_with", "looks_up"), "micro/image")}
    return {**PARAMS, "systems": {"clipcap": clipcap, **PARAMS["systems"]}}


def write_paired() -> None:
    write_system("clipcap", {"in-domain": "scenes", "cross-domain": "album", "target-support": "album"})
    write_model("clipcap")


def test_systems_stand_by_what_they_learn_from_the_best_first(project: Path) -> None:
    write_paired()
    overview = section(render(gather(paired())), "overview")
    assert [text.split("<")[0].strip() for text in re.split(r'<th scope="row(?:group)?"[^>]*>', overview)[1:]] == [
        "Text only", "knight", "capdec", "clipre", "Pairs", "clipcap"]


def test_places_on_an_axis_are_those_of_the_scores(project: Path) -> None:
    change_score("capdec", "CIDEr", value=50.0, low=40.0, high=60.0)
    change_score("clipre", "CIDEr_constant", value=12.0)
    cider, chairs = axes(gather(PARAMS).settings[0], TASK, ["CHAIRs"])
    assert (cider.metric.name, cider.ticks, chairs.metric.name) == ("CIDEr", (0, 20, 40, 60, 80), "CHAIRs")
    assert [cider.place(value) for value in (0, 10, 80)] == [0, 12.5, 100]
    assert [(line.control, line.low, line.high) for line in cider.lines] == [("CIDEr_shuffled", 8, 8), ("CIDEr_constant", 9, 12)]
    row = section(render(gather(PARAMS)), "overview").split('<th scope="row">capdec')[1].split("</tr>")[0]
    assert '<line class="range" x1="50.0%" x2="75.0%"' in row
    assert '<line class="value" x1="62.5%" x2="62.5%"' in row
    assert '<line class="control-2" x1="15.0%"' in row
    assert "50.0" in row


def test_intervals_are_over_seeds_where_a_sweep_has_them(project: Path) -> None:
    before = section(render(gather(PARAMS)), "overview")
    write_sweep(*seeds_of("knight", 3, 6.0))
    after = section(render(gather(PARAMS)), "overview")
    assert "×3" not in before
    assert re.search(r'knight <span class="ci" title="seeds">×3', after)


def test_a_system_that_does_not_beat_its_control_is_marked_in_the_picture_too(project: Path) -> None:
    assert "not above" not in section(render(gather(PARAMS)), "overview")
    change_score("clipre", "CIDEr_above_constant", low=-0.2)
    overview = section(render(gather(PARAMS)), "overview")
    assert overview.count("not above constant") == 1
    assert overview.index("not above constant") > overview.index("clipre")


def test_without_a_record_of_things_there_is_one_axis(project: Path) -> None:
    for name in PARAMS["systems"]:
        change_score(name, "CHAIRs", metric="gone")
    assert [axis.metric.name for axis in axes(gather(PARAMS).settings[0], TASK, ["CHAIRs"])] == ["CIDEr"]
    assert "CHAIRs" not in section(render(gather(PARAMS)), "overview").split("</figure>")[0]


def test_the_first_setting_of_every_suite_has_its_picture_at_the_top_and_the_others_below(project: Path) -> None:
    assert render(gather(PARAMS)).count('<figure class="chart">') == 3
    settings = {"pictures": PARAMS["settings"]["pictures"], "others": {"in-domain": {"test": "scenes", "support": "scenes"}}}
    systems = {**PARAMS["systems"], "knight": {**PARAMS["systems"]["knight"], "suite": "others"}}
    overview = section(render(gather({**PARAMS, "systems": systems, "settings": settings})), "overview")
    assert re.findall("<h3>(.*)</h3>", overview) == ["in-domain (pictures)", "in-domain (others)"]


class Outline(HTMLParser):
    """Levels of headings, and what has no name: images without words, tables without a caption, columns without a scope."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.nameless: list[str] = []
        self.tables = self.captions = 0
        self.hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.tables, self.captions = self.tables + (tag == "table"), self.captions + (tag == "caption")
        self.hidden = (tag == "tfoot" and "aria-hidden" in named) or (self.hidden and tag != "figcaption")
        drawing = tag == "svg" and not self.hidden and not named.keys() & {"aria-hidden", "aria-labelledby"}
        if (tag == "img" and not named.get("alt")) or drawing or (tag == "th" and "scope" not in named):
            self.nameless.append(self.get_starttag_text() or "")


def test_headings_go_down_by_one_and_everything_seen_has_a_name(project: Path) -> None:
    write_sweep(*seeds_of("knight", 3, 6.0))
    write_paired()
    page = Outline(render(gather(paired())))
    assert page.levels[0] == 1
    assert page.levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(page.levels))
    assert page.nameless == []
    assert page.captions == page.tables > 5


def test_the_page_begins_with_results_and_ends_with_what_was_run(project: Path) -> None:
    html = render(gather(PARAMS))
    order = re.findall('<section id="([a-z]+)">', html)
    assert order == ["overview", "pictures", "results", "extremes", "sweeps", "training", "data", "systems"]
    assert set(re.findall('<a href="#([a-z]+)">', html)) == set(order)


def test_what_was_run_names_parameters_digests_and_versions(project: Path) -> None:
    edit_json(paths.model("capdec") / "system.json", models={"CLIP micro": "ab" * 32}, corpus_digest="cd" * 32,
              recipe_params={"steps": 800, "learning_rate": 0.001})
    run = section(render(gather(PARAMS)), "systems")
    for text in ("CLIP micro", "abababababababab", "corpus scenes", "cdcdcdcdcdcdcdcd", "steps=800, learning_rate=0.001", "matplotlib "):
        assert text in run
