"""The report in a real browser: nothing complains, nothing is asked of the network, volumes scroll, tables sort."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find_browser
from fake_run import add_training, make_run
from PIL import Image

from medgan.evaluate import evaluate_run
from medgan.report import ReportOptions, report, report_runs

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium here; apt install chromium")

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ("demo", "sts/seg_cyclegan")  # shown where they have been run
SHOWN = "document.querySelector('details.volumes[data-shown]') !== null"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as one:
        one.size(1200, 900)
        yield one


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = []
    for name, error_hu in (("plain", 20.0), ("better", 5.0)):
        run = make_run(tmp_path_factory.mktemp(name), error_hu=error_hu)
        add_training(run)
        evaluate_run(run)
        made.append(run.rename(run.with_name(name)))
    return made


@pytest.fixture(scope="module")
def page(runs: list[Path]) -> Path:
    return report(runs[0])


def pixels(browser: Browser) -> np.ndarray:
    """What the viewer's canvas shows."""
    x, y, width, height = browser.run(
        "(() => { const b = document.querySelector('.viewer canvas').getBoundingClientRect();"
        " return [b.x + scrollX, b.y + scrollY, b.width, b.height]; })()"
    )
    image = Image.open(io.BytesIO(browser.screenshot((x, y, width, height))))
    return np.asarray(image.convert("RGB"), dtype=np.int16)


def open_viewer(browser: Browser) -> None:
    browser.click("details.volumes > summary")
    browser.until(SHOWN)
    browser.middle(".viewer canvas")


def coronal(browser: Browser) -> np.ndarray:
    """The canvas with the coronal cut alone on it."""
    browser.click(".viewer .bar fieldset:nth-of-type(2) label:nth-of-type(3)")
    browser.until("document.querySelector('.viewer [name=viewer-cuts]:checked').parentNode.textContent === 'Coronal'")
    browser.middle(".viewer canvas")
    return pixels(browser)


def scroll(browser: Browser) -> None:
    """Turn the wheel over the cut until the cross-hair has moved."""
    place = browser.run("document.querySelector('.readout').textContent")
    x, y = browser.middle(".viewer canvas")
    for _ in range(4):
        browser.wheel(x, y, 120)
    browser.until(f"document.querySelector('.readout').textContent !== {place!r}")


def check(browser: Browser) -> None:
    assert browser.complaints() == []
    asked = browser.requests()
    assert asked[0].startswith("file:")
    assert all(url.startswith(("data:", "blob:")) for url in asked[1:])


def test_the_viewer_shows_a_volume_and_scrolling_changes_the_cut(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("document.querySelectorAll('canvas').length") == 0  # nothing is drawn before it is asked for
    open_viewer(browser)
    before = coronal(browser)
    assert before.std() > 10
    assert len(np.unique(before)) > 20
    scroll(browser)
    assert np.abs(pixels(browser) - before).max() > 30
    check(browser)


def test_a_reduced_case_is_loaded_in_full_when_asked_for(browser: Browser, runs: list[Path], tmp_path: Path) -> None:
    page = report(runs[0], ReportOptions(viewer_voxels=4000), tmp_path / "index.html")
    browser.open(page)
    open_viewer(browser)
    assert "Reduced by" in browser.run("document.querySelector('.viewer').textContent")
    browser.click(".viewer button.full")
    browser.until("!document.querySelector('.viewer').textContent.includes('Reduced by')")
    assert "translation - truth 20 HU" in browser.run("document.querySelector('.readout').textContent")
    assert browser.complaints() == []
    asked = [url for url in browser.requests() if not url.startswith(("data:", "blob:"))]
    assert len(asked) == 2
    assert asked[1].startswith((tmp_path / "index_volumes").resolve().as_uri() + "/")


def test_a_page_without_its_volumes_says_so_and_keeps_the_reduced_ones(
    browser: Browser, runs: list[Path], tmp_path: Path
) -> None:
    page = report(runs[0], ReportOptions(viewer_voxels=4000), tmp_path / "index.html")
    page = page.rename((tmp_path / "sent").with_suffix(".html"))
    for file in (tmp_path / "index_volumes").iterdir():
        file.unlink()
    browser.open(page)
    open_viewer(browser)
    browser.click(".viewer button.full")
    browser.until("document.querySelector('.viewer').textContent.includes('is not beside this page; the reduced')")
    assert coronal(browser).std() > 5


def test_keys_choose_the_image_and_move_the_cut(browser: Browser, page: Path) -> None:
    browser.open(page)
    open_viewer(browser)
    browser.run("document.querySelector('.viewer canvas').focus()")
    checked = "[...document.querySelectorAll('.viewer input:checked')].map(x => x.parentNode.textContent)"
    assert browser.run(checked) == ["translation (CT)", "All three", "none"]
    browser.press("1")
    assert browser.run(checked)[0] == "source (MR)"
    browser.press("4")
    browser.press("o")
    assert browser.run(checked) == ["translation - truth", "All three", "read off the translation"]
    place = browser.run("document.querySelector('.readout').textContent")
    assert "translation - truth 20 HU" in place
    browser.press("PageUp")
    browser.until(f"document.querySelector('.readout').textContent !== {place!r}")
    check(browser)


def test_one_viewer_is_open_at_a_time(browser: Browser, page: Path) -> None:
    browser.open(page)
    open_viewer(browser)
    browser.click("figure.case:nth-of-type(2) details.volumes > summary")
    browser.until("document.querySelectorAll('details.volumes')[1].dataset.shown")
    assert browser.run("document.querySelectorAll('details.volumes[open]').length") == 1
    assert browser.run("document.querySelectorAll('canvas').length") == 1
    check(browser)


def test_a_click_on_a_head_sorts_and_tells_so(browser: Browser, page: Path) -> None:
    browser.open(page)
    names = "[...document.querySelectorAll('#cases tbody tr')].map(row => row.cells[0].textContent)"
    first = browser.run(names)
    head = "#cases th:first-child"
    browser.click(f"{head} button")
    assert browser.run(names) == sorted(first)
    assert browser.run(f"document.querySelector('{head}').getAttribute('aria-sort')") == "ascending"
    browser.run(f"document.querySelector('{head} button').focus()")
    browser.press("Enter")
    assert browser.run(names) == sorted(first, reverse=True)
    assert browser.run("document.querySelectorAll('#cases [aria-sort]').length") == 1
    check(browser)


def test_everything_is_reached_by_tab_and_seen_when_it_is(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("scrollTo(0, 0)")
    seen = []
    for _ in range(30):
        browser.press("Tab")
        seen.append(browser.run("document.activeElement.closest('nav, th, .volumes, td')?.tagName ?? ''"))
        style = "(e => getComputedStyle(e).outlineStyle)(document.activeElement)"
        assert browser.run(style) in ("solid", "auto")
    assert {"NAV", "TH", "TD", "DETAILS"} <= set(seen)


def test_without_webgl_the_page_says_so_in_a_line(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("HTMLCanvasElement.prototype.getContext = () => null")
    browser.click("details.volumes > summary")
    browser.until("document.querySelector('.volumes .state')?.textContent.includes('no WebGL 2')")
    assert browser.run("document.querySelectorAll('.still img').length") == 2
    check(browser)


def test_the_page_is_no_wider_than_a_telephone(browser: Browser, page: Path) -> None:
    browser.size(420, 900)
    browser.open(page)
    open_viewer(browser)
    assert browser.run("document.documentElement.scrollWidth") <= 420
    browser.size(1200, 900)


def test_runs_side_by_side_share_a_viewer(browser: Browser, runs: list[Path], tmp_path: Path) -> None:
    browser.open(report_runs(runs, tmp_path / "both.html"))
    open_viewer(browser)
    told = browser.run("document.querySelector('.readout').textContent")
    assert "plain - truth 20 HU" in told
    assert "better - truth 5 HU" in told
    assert "The better mean is bold" in browser.run("document.body.textContent")
    check(browser)


@pytest.mark.parametrize("study", STUDIES)
def test_a_finished_study_can_be_looked_through(browser: Browser, study: str, tmp_path: Path) -> None:
    run = ROOT / "runs" / study
    if not (run / "evaluate" / "summary.json").is_file():
        pytest.skip(f"runs/{study} has not been run here")
    browser.open(report(run, ReportOptions(max_cases=1), tmp_path / "index.html"))
    open_viewer(browser)
    before = coronal(browser)
    assert before.std() > 10
    scroll(browser)
    assert np.abs(pixels(browser) - before).max() > 30
    check(browser)


def test_the_policy_of_the_page_stops_a_request(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.run("fetch('http://127.0.0.1:9/').then(() => 'left', () => 'kept')") == "kept"
    assert any("Content Security Policy" in line for line in browser.complaints())
