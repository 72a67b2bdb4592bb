"""The report in a real browser: readable at the width of a desk and of a phone, in both colours, by keyboard and by ear."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.data import gather
from pipeline.report.page import render
from tests.human.test_browser import browser, pytestmark
from tests.report.test_films import film_album
from tests.report.test_marks import write_record
from tests.report.test_report import PARAMS, project, seeds_of, write_sweep

__all__ = ["browser", "project", "pytestmark"]  # the fixtures, and where to skip
WIDTHS = (1280, 390)


def opened(browser: Any, folder: Path, width: int) -> None:
    """A page with everything wide: a film's strips, a marked caption, a sweep."""
    film_album()
    write_record()
    write_sweep(*seeds_of("knight", 3, 6.0))
    (folder / "index.html").write_text(render(gather(PARAMS)), encoding="utf-8")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 844, "deviceScaleFactor": 1,
                                                                   "mobile": width < 600})
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})  # of the page; ours go on
    browser.get((folder / "index.html").as_uri())


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_the_window_and_tables_scroll_in_their_boxes(browser, project, width):
    opened(browser, project, width)
    browser.execute_script("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    inside, page = browser.execute_script("return [document.documentElement.clientWidth, document.documentElement.scrollWidth]")
    assert page == inside
    beyond = browser.execute_script("""return [...document.querySelectorAll("body *")].filter(each => !each.closest(".box")
        && each.getBoundingClientRect().right > arguments[0]).map(each => each.outerHTML.slice(0, 80))""", inside)
    assert beyond == []
    wide = browser.execute_script("""return [...document.querySelectorAll(".box")].filter(
        each => each.scrollWidth > each.clientWidth).length""")
    assert wide >= 2  # else nothing was tried


@pytest.mark.parametrize("width", WIDTHS)
def test_the_system_stays_in_sight_while_its_row_scrolls_to_the_last_column(browser, project, width):
    opened(browser, project, width)
    box = browser.find_element("css selector", "#results .box")
    browser.execute_script("arguments[0].scrollLeft = 10000", box)
    edges = browser.execute_script("""const edge = each => each.getBoundingClientRect(), box = edge(arguments[0]);
        return [...arguments[0].querySelectorAll("tr")].map(row => [edge(row.firstElementChild).left - box.left,
                                                                    box.right - edge(row.lastElementChild).right])""", box)
    assert len(edges) == 4
    assert all(0 <= left <= 2 and 0 <= right <= 2 for left, right in edges)


def test_systems_can_be_read_and_told_apart_on_a_phone(browser, project):
    """Letters are not drawn smaller than the rest, and every track has room."""
    opened(browser, project, 390)
    sizes = browser.execute_script('return [...document.querySelectorAll(".chart th, .chart td.n")].map(each => '
                                   'parseFloat(getComputedStyle(each).fontSize))')
    assert min(sizes) >= 13
    tracks = browser.execute_script('return [...document.querySelectorAll(".chart td.track")].map(each => each.clientWidth)')
    assert min(tracks) >= 60


def test_a_table_scrolls_by_keyboard(browser, project):
    opened(browser, project, 390)
    box = browser.find_element("css selector", "#results .box")
    browser.execute_script("arguments[0].focus()", box)
    for _ in range(20):
        browser.switch_to.active_element.send_keys("\ue014")  # right
        if browser.execute_script("return arguments[0].scrollLeft", box):
            return
        time.sleep(0.1)
    raise AssertionError("it did not move")


def test_a_screen_reader_hears_what_is_right_and_wrong_and_the_names_of_tables(browser, project):
    opened(browser, project, 1280)
    nodes = [node for node in browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"] if not node.get("ignored")]
    named = [(node["role"]["value"], node["name"]["value"]) for node in nodes if "name" in node]
    assert [role for role, name in named if role in ("image", "heading", "table", "link") and not name] == []
    assert {("table", "Scores in in-domain"), ("group", "Scores in in-domain")} <= set(named)
    assert any(role == "StaticText" and name.strip() == "(there)" for role, name in named)


def test_the_picture_of_all_systems_follows_the_readers_wish(browser, project):
    opened(browser, project, 390)
    seen = []
    for wish in ("light", "dark"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": wish}]})
        seen.append(browser.execute_script("""const shown = (each, what) => getComputedStyle(document.querySelector(each))[what];
            return [shown("body", "backgroundColor"), shown(".chart .value", "stroke"), shown(".chart .control-1", "stroke"),
                    shown(".said", "color")]"""))
    assert all(light != dark for light, dark in zip(*seen, strict=True))
