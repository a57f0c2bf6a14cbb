"""The page in headless Chromium: drawn, quiet, on its own, usable by mouse and keyboard."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from headless_browser import CHROMIUM, Browser
from synthetic_run import make_run
from test_report_page import HOSTILE, make_hostile_run

from open_rs.report import build_report
from open_rs.runs import RunFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on this machine (apt install chromium)"
    ),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(make_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(autouse=True)
def quiet_and_alone(browser: Browser) -> Iterator[None]:
    """Whatever a test does: no message in the console, no request but for the page itself."""
    browser.complaints.clear()
    browser.requests.clear()
    yield
    browser.settle()
    assert browser.complaints == []
    assert len(browser.requests) == 1 and browser.requests[0].startswith("file://")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_every_chart_is_drawn_and_nothing_runs_over_the_edge(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    browser.open(report, width=width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    drawn = (
        "[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('path.s0').length)"
    )
    counts = browser.evaluate(drawn)
    assert len(counts) == 12 and min(counts) >= 1
    numbers = "document.querySelector('#charts').innerHTML.match(/NaN|undefined|Infinity/)"
    assert browser.evaluate(numbers) is None
    spread = (
        "[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().right)"
    )
    assert max(browser.evaluate(spread)) <= width
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 23, 26)") == dark


def choose(browser: Browser, control: str, value: str, event: str) -> None:
    """Set a control as a reader would and tell the page."""
    found = f"document.querySelector('{control}')"
    browser.evaluate(f"{found}.value = '{value}'; {found}.dispatchEvent(new Event('{event}'))")


@pytest.mark.slow
def test_charts_follow_the_width(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280)
    wide = browser.evaluate("document.querySelector('.chart svg').viewBox.baseVal.width")
    browser.resize(390, 900)
    browser.settle()
    narrow = browser.evaluate("document.querySelector('.chart svg').viewBox.baseVal.width")
    assert wide > 1000 and narrow < 360


@pytest.mark.slow
def test_one_step_cursor_reads_all_charts(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280)
    legend = "document.querySelector('#chart-validation .legend').textContent"
    last = browser.evaluate(legend)
    browser.evaluate("document.querySelector('#cursor').focus()")
    for key in ("Home", "ArrowRight", "ArrowRight"):
        code = {"Home": 36, "ArrowRight": 39}[key]
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        browser.call("Input.dispatchKeyEvent", type="keyDown", **pressed)
        browser.call("Input.dispatchKeyEvent", type="keyUp", **pressed)
    assert browser.evaluate("document.querySelector('#cursor-step').textContent") == "2"
    assert browser.evaluate(legend) != last
    rate = "document.querySelector('#chart-rate .legend b').textContent"
    assert browser.evaluate(rate) == "3.33e−5"  # 1e-4 * 2 / 6: the second of six warm-up steps


@pytest.mark.slow
def test_samples_by_step_problem_and_order(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280)
    step = "document.querySelector('#sample-step').selectedOptions[0].textContent"
    cards = "[...document.querySelectorAll('.rollout')].map(c => c.textContent)"
    assert browser.evaluate(step) == "60"
    assert len(browser.evaluate(cards)) == 8
    browser.evaluate("document.querySelector('#step-back').click()")
    assert browser.evaluate(step) == "57"  # 23 gaps of 59 / 23 steps: the last but one is 57.4
    before = browser.evaluate("document.querySelector('#group').textContent")
    choose(browser, "#sample-group", "2", "change")
    assert browser.evaluate("document.querySelector('#group').textContent") != before
    choose(browser, "#sample-order", "reward", "change")
    heads = "[...document.querySelectorAll('.rollout .head:nth-child(2) b:first-child')]"
    rewards = browser.evaluate(heads + ".map(b => parseFloat(b.textContent))")
    assert len(rewards) == 16  # reward and advantage of 8 rollouts in turn
    assert rewards[::2] == sorted(rewards[::2], reverse=True)


@pytest.mark.slow
def test_from_a_step_on_the_curves_to_its_samples(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280)
    choose(browser, "#cursor", "5", "input")
    browser.evaluate("document.querySelector('#to-samples').click()")
    step = "document.querySelector('#sample-step').selectedOptions[0].textContent"
    assert browser.evaluate(step) == "4"  # steps 4 and 6 are on the page, the earlier one is taken


@pytest.mark.slow
def test_all_figures_open_as_a_table(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280)
    browser.evaluate("document.querySelector('#figures summary').click()")
    browser.wait("document.querySelectorAll('#figures tbody tr').length === 61")


def test_hostile_text_is_shown_and_never_runs(browser: Browser, tmp_path: Path) -> None:
    run = make_run(tmp_path, num_steps=2, completion=HOSTILE)
    browser.open(build_report(run), width=390)
    assert browser.evaluate("window.hacked") is None
    assert browser.evaluate("document.querySelectorAll('.rollout').length") == 8
    assert (
        browser.evaluate("document.querySelectorAll('.rollout img, .rollout script').length") == 0
    )
    text = browser.evaluate("document.querySelector('.rollout pre').textContent")
    assert "</script><script>window.hacked = 1</script>" in text and "␛[2J" in text


@pytest.mark.parametrize("guarded", [True, False])
def test_no_text_of_any_file_runs(browser: Browser, tmp_path: Path, guarded: bool) -> None:
    """With the page's content security policy, and by its escaping alone."""
    page = build_report(make_hostile_run(tmp_path))
    browser.call("Page.setBypassCSP", enabled=not guarded)
    try:
        browser.open(page, width=1280)
        for details in ("#figures summary", "details summary"):
            browser.evaluate(f"document.querySelectorAll('{details}').forEach(d => d.click())")
        choose(browser, "#sample-step", "0", "change")
        choose(browser, "#cursor", "1", "input")
        browser.evaluate("document.querySelector('#cursor').focus()")
        browser.settle()
        assert browser.evaluate("window.hacked") is None
        strange = (
            "main img, main iframe, main a[href^='j'], main base, main style, main script[src]"
        )
        assert browser.evaluate(f'document.querySelectorAll("{strange}").length') == 0
        assert browser.evaluate("document.querySelectorAll('.rollout').length") == 8
        assert "window.hacked = 1" in browser.evaluate("document.body.innerText")
        title = browser.evaluate("document.title")
        assert title.endswith(": open-rs report") and "window.hacked" in title
    finally:
        browser.call("Page.setBypassCSP", enabled=False)


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [None, 0, 1, 2])
def test_runs_of_hardly_any_steps(browser: Browser, tmp_path: Path, num_steps: int | None) -> None:
    run = RunFolder(tmp_path)
    if num_steps is not None:
        make_run(tmp_path, num_steps=num_steps, evaluated=False, finished=False)
    browser.open(build_report(run), width=390)
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    assert (
        browser.evaluate("document.querySelector('main').innerHTML.match(/NaN|Infinity/)") is None
    )
