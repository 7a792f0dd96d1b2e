"""report.html in a real browser: `make test-browser`. It is no part of the default suite."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
from records import ENV, SHOWCASE, write_run, write_study

import cnnjax

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Screenshots are kept where this names a folder, to be looked at.
KEEP = os.environ.get("SCREENSHOTS")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a study with nasty names."""
    folder = tmp_path_factory.mktemp("study")
    arms = dict(SHOWCASE)
    other = {**ENV, "git": {"commit": "b" * 40, "changed": True}}
    arms["<script>alert('x')</script>"] = {
        "changes": {"model.width": 2.0}, "top1": {0: 0.93, 1: 0.931}, "env": other,
        "params": 1_070_000, "macs": 163_000_000,
    }  # fmt: skip
    study = write_study(folder / "study", arms)
    cnnjax.compare(study, out=study / "report")
    return study / "report" / "report.html"


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, f"none of {BROWSERS} is installed: make test-browser installs Debian's chromium"
    with sync_playwright() as tools:
        # Chromium refuses its sandbox to root, as whom containers run.
        found = tools.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser, report):
    """The page, opened; whatever it says on the console or asks of the network is an error."""
    said, asked = [], []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.close()


def column(page, table, number):
    return page.locator(f"#{table} tbody tr > :nth-child({number})").all_inner_texts()


def head(page, table, name):
    return page.locator(f"#{table}").get_by_role("button", name=name, exact=True)


def test_the_page_shows_every_arm_run_and_figure(page):
    assert column(page, "arms", 1) == [
        *(name.replace("batch_size=256", "batch_size=256†") for name in SHOWCASE),
        "<script>alert('x')</script>",
    ]
    assert page.locator("#scores tbody tr").count() == 31
    assert page.locator("details").count() == 31
    for name in ("curves", "parameters", "macs", "time", "effects"):
        box = page.locator(f"#figure-{name} svg").bounding_box()
        assert box["width"] > 200
        assert box["height"] > 80
    assert "code states" in page.locator(".notes").inner_text()


def test_the_figures_inside_have_their_letters_and_clippings(page):
    """Every reference inside a figure leads to something in that figure."""
    lost = page.evaluate("""() => [...document.querySelectorAll("svg use, svg [clip-path]")]
        .map(e => e.getAttribute("xlink:href") || e.getAttribute("clip-path"))
        .map(r => r.replace("url(", "").replace(")", "").slice(1))
        .filter(id => !document.getElementById(id))""")
    assert lost == []
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_a_heading_sorts_by_number_and_then_the_other_way(page):
    mean = head(page, "arms", "test top-1 error (%)")
    mean.click()
    shown = [float(text.split()[0]) for text in column(page, "arms", 5)]
    assert shown == sorted(shown)
    assert shown[0] == 6.95
    mean.click()
    shown = [float(text.split()[0]) for text in column(page, "arms", 5)]
    assert shown == sorted(shown, reverse=True)
    sorts = page.locator("#arms thead th").evaluate_all("h => h.map(x => x.ariaSort)")
    assert sorts.count("descending") == 1
    assert sorts.count("none") == len(sorts) - 1


def test_a_cell_without_a_number_stays_last(page):
    for _ in range(2):
        head(page, "arms", "p").click()
        assert column(page, "arms", 9)[-2:] == ["", ""]


def test_the_keyboard_sorts_too(page):
    button = head(page, "scores", "seed")
    button.focus()
    page.keyboard.press("Enter")
    seeds = [int(text) for text in column(page, "scores", 2)]
    assert seeds == sorted(seeds)
    page.keyboard.press("Space")
    assert [int(text) for text in column(page, "scores", 2)] == sorted(seeds, reverse=True)


def test_a_number_leads_to_its_run(page):
    row = page.locator("#scores tbody tr", has_text="shortcut=none").nth(2)
    row.locator("td a").first.click()
    opened = page.locator("details[open]")
    assert opened.count() == 1
    assert opened.locator("summary").inner_text() == "shortcut=none, seed 2"
    said = opened.inner_text()
    assert '"shortcut": "none"' in said
    assert '"commit": "aaaa' in said
    href = opened.locator("dd a").get_attribute("href")
    assert (
        page.evaluate("href => new URL(href, location).pathname", href).count("/study/runs/") == 1
    )


def test_an_arms_number_leads_to_its_runs(page):
    page.locator("#arms tbody tr", has_text="depth=32").locator("td a").first.click()
    target = page.locator("#scores tr:target")
    assert target.locator("th").inner_text() == "depth=32, shortcut=projection"


def test_the_page_fits_a_phone(page, report):
    """The page itself never scrolls sideways; wide tables scroll in their frame."""
    for name, width in (("desktop", 1280), ("phone", 390)):
        page.set_viewport_size({"width": width, "height": 844})
        wide = page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width, name
        if KEEP:
            folder = Path(KEEP)
            folder.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=folder / f"{name}.png", full_page=True)


def test_a_single_run_makes_a_page(browser, tmp_path):
    write_run(tmp_path / "run", 0.9)
    cnnjax.compare(tmp_path / "run", out=tmp_path / "report")
    page = browser.new_page()
    page.goto((tmp_path / "report" / "report.html").as_uri())
    assert "One seed per arm" in page.locator(".notes").inner_text()
    page.close()
