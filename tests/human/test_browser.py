"""The sheet in a real browser: headless Chromium of the system, driven by Selenium; skipped where either is missing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.files import read_json
from pipeline.human.ratings import score
from pipeline.human.sheet import render
from tests.human.sheets import SHEET, pairs, write_key

webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its chromedriver among the system's packages")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """One with an empty profile, that saves into `tmp_path / "saved"`."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "saved")})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def opened(browser: Any, folder: Path, count: int) -> None:
    (folder / "sheet.html").write_text(render(pairs(count), SHEET))
    browser.get((folder / "sheet.html").as_uri())


def press(browser: Any, keys: str) -> None:
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def saved(folder: Path) -> Path:
    for _ in range(100):
        if found := list((folder / "saved").glob("*.json")):
            return found[0]
        time.sleep(0.1)
    raise AssertionError("nothing was saved")


def said(browser: Any) -> str:
    return str(browser.find_element("id", "said").text)


def test_a_sheet_is_answered_by_keyboard_reloaded_in_the_middle_saved_and_scored(browser, tmp_path):
    opened(browser, tmp_path, 4)
    browser.find_element("id", "rater").send_keys("Anna 12")  # digits here are a name, not answers
    assert said(browser) == "Picture 1 of 4; 0 of 4 answered"
    browser.find_element("tag name", "h1").click()
    press(browser, "12" + "13")
    assert said(browser) == "Picture 3 of 4; 2 of 4 answered"
    press(browser, "2")
    browser.refresh()
    assert said(browser) == "Picture 3 of 4; 2 of 4 answered"
    assert browser.find_element("id", "rater").get_property("value") == "Anna 12"
    assert browser.find_element("css selector", "#pair-3 [value=b]").is_selected()  # half an answer is kept too
    browser.find_element("tag name", "h1").click()
    press(browser, "2" + "33")
    assert said(browser) == "Picture 4 of 4; 4 of 4 answered"
    press(browser, "s")
    (distinctive, informative), _ = score(write_key(tmp_path / "key.json", "xyxy"), [saved(tmp_path)])
    assert distinctive.shares == {"x": 0.25, "y": 0.5, "neither": 0.25}
    assert informative.shares == {"x": 0.0, "y": 0.5, "neither": 0.5}


def test_an_answer_is_taken_back_and_pictures_are_gone_through_by_arrows(browser, tmp_path):
    opened(browser, tmp_path, 3)
    browser.find_element("tag name", "h1").click()
    press(browser, "11")
    press(browser, "\ue012")  # left
    assert said(browser) == "Picture 1 of 3; 1 of 3 answered"
    press(browser, "\ue003")  # backspace
    assert said(browser) == "Picture 1 of 3; 0 of 3 answered"
    press(browser, "\ue014\ue014\ue014")  # right, and no further than the last
    assert said(browser).startswith("Picture 3 of 3")


def test_nothing_is_saved_without_a_name_and_the_page_says_why(browser, tmp_path):
    opened(browser, tmp_path, 1)
    browser.find_element("id", "save").click()
    assert browser.switch_to.active_element.get_attribute("id") == "rater"
    assert "name" in browser.find_element("id", "live").get_property("textContent")
    assert not (tmp_path / "saved").exists()


def test_it_is_usable_by_touch_at_the_width_of_a_phone(browser, tmp_path):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True})
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    opened(browser, tmp_path, 2)
    assert browser.execute_script("return innerWidth") == 390
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.find_element("id", "rater").send_keys("Ben")
    for _ in range(2):
        for choice in browser.find_elements("css selector", ".pair.now label:has([value=a]), .pair.now label:has([value=b])")[1:3]:
            assert choice.rect["height"] >= 44
            choice.click()
        if browser.find_element("id", "next").is_enabled():
            browser.find_element("id", "next").click()
    browser.find_element("id", "save").click()
    assert read_json(saved(tmp_path))["answers"] == {str(i): {"distinctive": "b", "informative": "a"} for i in (1, 2)}


def test_a_screen_reader_finds_names_for_everything(browser, tmp_path):
    """Chromium's own accessibility tree: no control without a name, the questions as groups, one picture at a time."""
    opened(browser, tmp_path, 2)
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [(node["role"]["value"], node["name"]["value"]) for node in nodes if not node.get("ignored") and "name" in node]
    radios = [name for role, name in named if role == "radio"]
    assert radios == ["A", "B", "cannot tell"] * 2
    assert all(name for role, name in named if role in ("radio", "button", "textbox", "image", "progressbar", "heading", "group"))
    assert next(name for role, name in named if role == "group").startswith("Which caption is more distinctive")
    assert [name for role, name in named if role == "image"] == ["The picture that both captions are about"]


def test_colours_follow_the_readers_wish(browser, tmp_path):
    opened(browser, tmp_path, 1)
    seen = []
    for wish in ("light", "dark"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": wish}]})
        seen.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert seen[0] != seen[1]
