"""A real browser sorts, filters, compares and drills down, follows the log, and finds no fault."""

import json
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from arena.log.store import Log
from arena.report.server import LiveServer
from arena.report.view.site import Site
from tests.match.report.test_browser import DESKTOP, PHONE, browser, look, until  # noqa: F401
from tests.match.report.test_pages import alarm, setting
from tests.match.report.test_taped_pages import a_round

pytestmark = pytest.mark.slow

AXE_FROM = "axe_playwright_python"
"""A package that ships axe-core; `pip install --no-deps axe-playwright-python` brings no more."""


@pytest.fixture
def viewer(made_up):
    """A served log of 60 episodes, one of them with everything; its address and that one's id."""
    for seed in range(59):
        made_up.play("noise" if seed % 2 else "dfme", seed=seed, clone=seed / 100)
    id = made_up.play(
        "late",
        seed=0,
        events=[alarm(1, True)],
        countermeasures=(setting((0.5, 500)), setting((1.0, 500))),
        inferences=[{"attribute": "family", "inferred": "vgg", "truth": "resnet"}],
        taped=[a_round(0, torch.rand(30, 1, 8, 8))],
    )
    with (
        Log.open(made_up.log.where, read_only=True) as log,
        LiveServer(Site(log), 0) as server,
    ):
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.url, id
        finally:
            server.shutdown()


def every(browser, selector):  # noqa: F811
    """Read the texts of all that fits, at one moment: the page changes meanwhile."""
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText.trim())",
        selector,
    )


def test_one_sorts_filters_compares_and_drills_down(browser, viewer):  # noqa: F811
    url, id = viewer
    look(browser, url)
    assert len(every(browser, "#episodes tbody tr")) == 50
    browser.find_element("link text", "clone acc.").click()
    first = until(lambda: every(browser, "#episodes tbody tr:first-child td.number"))
    assert first[0] == "58"  # the seed of the best clone
    assert "sort=clone_accuracy" in browser.current_url
    heading = browser.find_element("css selector", "[aria-sort]")
    assert (heading.text, heading.get_attribute("aria-sort")) == ("clone acc. ▼", "descending")

    browser.find_element("name", "q").send_keys("late")  # no page is loaded for it
    until(lambda: len(every(browser, "#episodes tbody tr")) == 1)
    until(lambda: browser.current_url.endswith("/?q=late&sort=clone_accuracy"))
    browser.refresh()
    assert every(browser, "#episodes tbody th") == ["late"]

    look(browser, f"{url}?seed=0")
    for box in browser.find_elements("name", "id"):
        browser.execute_script("arguments[0].focus()", box)
        box.send_keys(" ")  # by keyboard
    browser.find_element("name", "id").send_keys("\n")
    until(lambda: "/compare?id=" in browser.current_url)
    assert "dfme" in every(browser, ".beside")[0] or "late" in every(browser, ".beside")[0]

    look(browser, f"{url}episode/{id}")
    assert len(browser.find_elements("css selector", ".chart svg")) == 6
    browser.find_element("link text", "Its queries").click()
    until(lambda: len(browser.find_elements("css selector", ".cards img")) == 24)
    browser.find_element("link text", "next").click()
    until(lambda: "from=25" in browser.current_url)
    shown = browser.execute_script(
        "return [...document.images].every((one) => one.complete && one.naturalWidth === 8)"
    )
    assert (shown, len(every(browser, ".cards li"))) == (True, 6)
    assert browser.get_log("browser") == []


def test_the_table_follows_the_log_and_keeps_what_was_ticked(browser, made_up, viewer):  # noqa: F811
    url, id = viewer
    look(browser, f"{url}?attacker=late")
    box = browser.find_element("id", f"pick-{id}")
    box.click()
    made_up.play("late", seed=9, clone=0.99)
    until(lambda: len(every(browser, "#episodes tbody tr")) == 2)
    assert browser.find_element("id", f"pick-{id}").is_selected()
    made_up.play("running", seed=4, status="started")
    until(lambda: "running / dnf, seed 4" in browser.find_element("id", "now").text)
    assert browser.get_log("browser") == []


PLACES = ("", "?q=none-such", "episode/{id}", "compare?id={id}&id={id}", "episode/{id}/queries")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_fits_its_window_and_axe_finds_no_fault(browser, viewer, size, dark):  # noqa: F811
    url, id = viewer
    found = find_spec(AXE_FROM)
    for place in PLACES:
        look(browser, url + place.format(id=id), size, dark=dark)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
        if found is not None and found.origin is not None:
            faults = axe(browser, Path(found.origin).with_name("axe.min.js").read_text())
            assert faults == [], place
    if found is None:
        pytest.skip(f"pages fit; axe needs {AXE_FROM}")


def axe(browser, library):  # noqa: F811
    """Let axe-core look at the page; through the debugger, which no policy of the page binds."""
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": library})
    asked = "axe.run().then((found) => JSON.stringify(found.violations.map((one) => one.id)))"
    answer = browser.execute_cdp_cmd(
        "Runtime.evaluate", {"expression": asked, "awaitPromise": True, "returnByValue": True}
    )
    return json.loads(answer["result"]["value"])


def test_ten_thousand_episodes_open_in_about_a_second(browser, tmp_path):  # noqa: F811
    from arena.bench.full_log import fill

    fill(tmp_path / "full.db", 10_000)
    with (
        Log.open(tmp_path / "full.db", read_only=True) as log,
        LiveServer(Site(log), 0) as server,
    ):
        threading.Thread(target=server.serve_forever).start()
        try:
            look(browser, server.url)
            took = []
            for query in ("?sort=clone_accuracy", "?q=attacker-7&page=3", "?where=seed%3D5"):
                began = time.process_time()
                look(browser, server.url + query)
                took.append(time.process_time() - began)
                assert len(every(browser, "#episodes tbody tr")) == 50
            assert max(took) < 1.5  # seconds of this process, which serves them
        finally:
            server.shutdown()
