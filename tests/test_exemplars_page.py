"""The page on which exemplars are chosen by hand: what it shows, and what it saves, by keyboard alone."""

import base64
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_exemplars import checkpoint
from typer.testing import CliRunner

from manifests.pages.exemplars import exemplars_page
from manifests.store import Folder
from pipelines.__main__ import app
from training.checkpoint import save
from training.draws import Stream
from training.evaluation.exemplars import Concept, check_chosen, chosen_candidates, generator_digest, read_chosen
from training.samples import fixed_z, generate, load_generator

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def pictures_of(html: str) -> list[str]:
    found = re.search(r'<script type="application/json" id="pictures">(.*?)</script>', html, re.S)
    assert found
    pictures: list[str] = json.loads(found[1])
    return pictures


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of a checkpoint, 30 samples of seed 4."""
    state = checkpoint()
    save(Folder(tmp_path), state, 1)
    words = ["exemplars", str(tmp_path / state.name), "--out", str(tmp_path / "to" / "page.html")]
    result = CliRunner().invoke(app, [*words, "--images", "30", "--seed", "4"])
    assert result.exit_code == 0, result.output
    assert "30 samples after 128 images seen" in result.output
    return tmp_path / "to" / "page.html"


def test_the_page_shows_the_samples_that_the_measurement_will_make(page: Path) -> None:
    html = page.read_text()
    pictures = pictures_of(html)
    state = checkpoint()
    generator = load_generator(state)
    # More samples than the page has: a number stands for the same picture however many there are.
    made = generate(generator, fixed_z(generator.preset, 4, 200, Stream.ARITHMETIC), "standing", 4)
    assert len(pictures) == 30
    for uri, image in zip(pictures, made, strict=False):
        data = np.frombuffer(base64.b64decode(uri.removeprefix("data:image/png;base64,")), np.uint8)
        shown = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        assert shown is not None
        assert np.abs(shown.astype(int) - image[..., 0]).max() <= 1  # the sums' order hangs on the size of a batch
    assert generator_digest(state) in html
    assert state.name in html


def test_the_seed_is_that_of_the_training(tmp_path: Path) -> None:
    state = replace(checkpoint(), seed=7)
    save(Folder(tmp_path), state, 1)
    words = ["exemplars", str(tmp_path / state.name), "--out", str(tmp_path / "page.html"), "--images", "2"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "2 samples after 128 images seen, seed 7" in result.output
    assert re.search(r"seed\D{0,9}7\b", (tmp_path / "page.html").read_text())


def test_the_page_is_one_file_that_loads_nothing_and_escapes_names() -> None:
    html = exemplars_page("abc", "<b>checkpoint</b>", 0, ["data:image/png;base64,AAAA"])
    assert "default-src 'none'; img-src data:" in html
    assert not re.search(r"https?:|@import|url\(|<link|<iframe|\bsrc=|fetch\(|XMLHttp", html)
    assert "&lt;b&gt;checkpoint" in html
    assert "<b>checkpoint" not in html


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Headless Chromium with its own new profile and no network; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("there is no Chromium with its chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,800"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        yield chromium
    finally:
        chromium.quit()


@pytest.mark.timeout(120)
def test_two_concepts_are_chosen_by_keyboard_and_read_back(page: Path, tmp_path: Path, browser: Any) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys

    def press(*what: str) -> None:
        for key in what:
            browser.switch_to.active_element.send_keys(key)

    def text() -> Any:
        return json.loads(browser.find_element("id", "text").get_attribute("value"))["concepts"]

    browser.get(page.as_uri())
    assert not browser.find_element("id", "save").is_enabled()
    press(keys.ARROW_RIGHT, keys.SPACE)  # a sample before any concept has a name
    assert browser.find_element("id", "told").text == "Name a concept first."
    press("smiling, short hair", keys.ENTER)
    # After a name is given, the samples have the focus.
    press(keys.HOME, keys.SPACE, keys.ARROW_RIGHT, keys.ARROW_RIGHT, keys.SPACE, keys.END, keys.SPACE)
    assert text() == {"smiling, short hair": [1, 3, 30]}
    press("n", "<1> & 2", keys.ENTER, keys.HOME, keys.ARROW_RIGHT, keys.SPACE)
    press("1", keys.END, keys.SPACE)  # back to the first concept, and the last sample out of it
    assert text() == {"smiling, short hair": [1, 3], "<1> & 2": [2]}
    browser.refresh()  # what was chosen survives
    press("2", keys.HOME, keys.ARROW_DOWN, keys.SPACE)
    columns = browser.execute_script("return columns()")
    assert columns > 3
    assert text()["<1> & 2"] == [2, columns + 1]
    assert "in smiling" in browser.find_element("css selector", '[data-number="3"]').get_attribute("aria-label")
    press("s")
    file = tmp_path / "downloads" / "exemplars.json"
    until = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < until, "nothing was saved in time"
        time.sleep(0.05)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    chosen = read_chosen(str(file))
    check_chosen(chosen, checkpoint(), 4)
    assert chosen_candidates(chosen, Concept(name="smiling, short hair")).tolist() == [0, 2]
    assert chosen_candidates(chosen, Concept(name="<1> & 2")).tolist() == [1, columns]
