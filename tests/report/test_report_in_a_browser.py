"""The page in headless Chromium: drawn, quiet, on its own, usable by mouse and keyboard."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from headless_browser import CHROMIUM, Browser
from synthetic_run import make_run
from test_report_alarms import alarm
from test_report_page import HOSTILE, make_hostile_run

from open_rs.report import build_comparison, build_report
from open_rs.report.tokens import vocabulary_of
from open_rs.runs import RunFolder, read_json, read_log, write_json, write_jsonl

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


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (400, False), (400, True)]
)
def test_every_chart_is_drawn_and_nothing_runs_over_the_edge(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    browser.open(report, width=width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    drawn = (
        "[...document.querySelectorAll('#charts .chart')]"
        ".map(c => c.querySelectorAll('path.s0').length)"
    )
    counts = browser.evaluate(drawn)
    assert len(counts) == 13 and min(counts) >= 1
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
    browser.resize(400, 900)
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
        press(browser, key)
    assert browser.evaluate("document.querySelector('#cursor-step').textContent") == "2"
    assert browser.evaluate(legend) != last
    rate = "document.querySelector('#chart-rate .legend b').textContent"
    assert browser.evaluate(rate) == "3.33e−5"  # 1e-4 * 2 / 6: the second of six warm-up steps


def text_of(browser: Browser, selector: str) -> str:
    return str(browser.evaluate(f"document.querySelector('{selector}').textContent"))


def press(browser: Browser, key: str) -> None:
    """A key as a reader presses it, wherever the focus is."""
    code = {"ArrowDown": 40, "Enter": 13, "Home": 36, "ArrowRight": 39}.get(key, ord(key[0]))
    text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
    pressed = {"key": key, "windowsVirtualKeyCode": code}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
    browser.call("Input.dispatchKeyEvent", type="keyUp", **pressed)
    browser.settle()


def open_rollouts(browser: Browser, page: Path, width: int = 1280) -> None:
    browser.open(page, width=width)
    browser.wait("document.querySelector('#rollouts').dataset.ready === 'yes'")


@pytest.mark.slow
def test_rollouts_by_step_outcome_advantage_and_problem(browser: Browser, report: Path) -> None:
    open_rollouts(browser, report)
    assert text_of(browser, "#found") == "1,920 rollouts in 240 groups"
    assert text_of(browser, "#group-list .at") == "step 60"
    assert browser.evaluate("document.querySelectorAll('#groups .rollout').length") == 8
    choose(browser, "#by-step", "12", "input")
    assert text_of(browser, "#found") == "32 rollouts in 4 groups"
    choose(browser, "#by-outcome", "u", "change")  # one timeout at step 12, in the first group
    assert text_of(browser, "#found") == "1 rollout in 1 group"
    browser.evaluate("document.querySelector('#group-list button').click()")
    browser.wait("document.querySelector('#groups h3').textContent.startsWith('step 12')")
    pale = "document.querySelectorAll('#groups .rollout.out').length"
    assert browser.evaluate(pale) == 7 and "timeout" in text_of(browser, ".rollout:not(.out)")
    browser.evaluate("document.querySelector('#clear').click()")
    choose(browser, "#by-advantage", "plus", "change")
    some = text_of(browser, "#found")
    choose(browser, "#by-advantage", "minus", "change")
    assert text_of(browser, "#found") != some != "1,920 rollouts in 240 groups"
    browser.evaluate("document.querySelector('#clear').click()")
    choose(browser, "#by-problem", "p0071", "input")  # the second problem of step 7
    assert text_of(browser, "#found") == "8 rollouts in 1 group"
    choose(browser, "#by-problem", "no such problem", "input")
    assert "No rollout is like that" in text_of(browser, "#group-list")
    choose(browser, "#by-problem", "", "input")
    choose(browser, "#by-step", "1-9", "input")
    assert text_of(browser, "#found") == "288 rollouts in 36 groups"


@pytest.mark.slow
def test_search_finds_what_completions_hold(browser: Browser, report: Path) -> None:
    open_rollouts(browser, report)
    choose(browser, "#search", "加 59。", "input")
    browser.wait("document.querySelector('#search-status').textContent.endsWith('hold it')")
    found = int(text_of(browser, "#search-status").split()[0].replace(",", ""))
    rows = [load for step in range(1, 61) for load in _texts(report.parent, step)]
    assert found == sum("加 59。" in text for text in rows) > 0
    browser.evaluate("document.querySelector('#group-list button').click()")
    browser.wait(
        "document.querySelector('.rollout:not(.out) pre')?.textContent.includes('加 59。')"
    )
    choose(browser, "#search", "", "input")
    browser.wait("document.querySelector('#found').textContent === '1,920 rollouts in 240 groups'")


def _texts(run: Path, step: int) -> list[str]:
    return [row["completion"] for row in read_log(RunFolder(run).rollouts(step))]


@pytest.mark.slow
def test_pages_of_groups(browser: Browser, report: Path) -> None:
    open_rollouts(browser, report)
    first = text_of(browser, "#group-list")
    assert text_of(browser, "#page-number") == "page 1 of 16"  # 240 groups, 15 on a page
    assert browser.evaluate("document.querySelector('#page-back').disabled")
    browser.evaluate("document.querySelector('#page-on').click()")
    assert text_of(browser, "#page-number") == "page 2 of 16"
    assert text_of(browser, "#group-list") != first
    browser.evaluate("document.querySelector('#page-last').click()")
    assert text_of(browser, "#page-number") == "page 16 of 16"
    assert browser.evaluate("document.querySelector('#page-on').disabled")
    choose(browser, "#by-order", "early", "change")
    assert text_of(browser, "#page-number") == "page 1 of 16"
    assert text_of(browser, "#group-list .at") == "step 1"


@pytest.mark.slow
def test_by_keyboard_alone(browser: Browser, report: Path) -> None:
    open_rollouts(browser, report)
    assert text_of(browser, "#groups h3").startswith("step 60")
    for _ in range(4):
        press(browser, "j")
    assert text_of(browser, "#groups h3").startswith("step 59")  # 4 groups a step
    press(browser, "k")
    assert text_of(browser, "#groups h3").startswith("step 60")
    press(browser, "n")
    assert text_of(browser, "#page-number") == "page 2 of 16"
    press(browser, "p")
    press(browser, "[")
    assert text_of(browser, "#group-list .at") == "step 59"
    press(browser, "t")
    dark = "getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 26)'"
    assert browser.evaluate(dark)
    press(browser, "t")
    assert not browser.evaluate(dark)
    browser.evaluate("document.querySelector('#group-list button').focus()")
    press(browser, "ArrowDown")
    press(browser, "Enter")
    browser.wait(
        "[...document.querySelectorAll('#group-list button')][1].getAttribute('aria-current')"
    )
    press(browser, "/")
    assert browser.evaluate("document.activeElement.id") == "search"
    press(browser, "t")  # a letter of the search now
    assert browser.evaluate("document.querySelector('#search').value") == "t"
    assert not browser.evaluate(dark)


@pytest.mark.slow
def test_a_group_is_kept_beside_another(browser: Browser, report: Path) -> None:
    open_rollouts(browser, report)
    browser.evaluate("document.querySelector('.pin').click()")
    press(browser, "j")
    heads = "[...document.querySelectorAll('#groups .asked')].map(one => one.textContent)"
    browser.wait(f"{heads}.length === 2")
    one, other = browser.evaluate(heads)
    assert one != other
    panels = "[...document.querySelectorAll('.panel')].map(p => p.getBoundingClientRect())"
    left, right = browser.evaluate(f"{panels}.map(box => box.left)")
    assert left < right
    browser.resize(400, 900)
    browser.settle()
    left, right = browser.evaluate(f"{panels}.map(box => box.left)")
    assert left == right
    browser.evaluate("document.querySelector('.pin').click()")
    browser.wait(f"{heads}.length === 1")


@pytest.mark.slow
def test_rollouts_in_order_of_reward(browser: Browser, report: Path) -> None:
    open_rollouts(browser, report)
    choose(browser, "#card-order", "reward", "change")
    browser.settle()
    heads = "[...document.querySelectorAll('.rollout .head:nth-child(2) b:first-child')]"
    rewards = browser.evaluate(heads + ".map(b => parseFloat(b.textContent))")
    assert len(rewards) == 16  # reward and advantage of 8 rollouts in turn
    assert rewards[::2] == sorted(rewards[::2], reverse=True)


@pytest.mark.slow
def test_tokens_are_shaded_by_how_unlikely_they_were(browser: Browser, tmp_path: Path) -> None:
    run = make_run(tmp_path, num_steps=1, evaluated=False)
    held = vocabulary_of(tmp_path, "tiny")
    assert held is not None
    ids = [held.pieces.index(piece) for piece in (b"2", b" + ", b"1")]
    row = read_log(run.rollouts(1))[0]
    row |= {"completion": "2 + 1", "completion_ids": ids, "outcome": "wrong"}
    row["engine_logprobs"] = [-0.01, -1.0, -4.0]
    write_jsonl(run.rollouts(1), [row])
    recipe = read_json(run.recipe)
    recipe["model"]["path"] = "tiny"
    write_json(run.recipe, recipe)
    open_rollouts(browser, build_report(run))
    tokens = "[...document.querySelectorAll('.rollout .token')].map(t => [t.textContent, t.title])"
    # exp(-1) = 0.37, exp(-4) = 0.018; likely ones are plain text
    assert browser.evaluate(tokens) == [[" + ", "p ≈ 0.37"], ["1", "p ≈ 0.02"]]
    assert text_of(browser, ".rollout pre") == "2 + 1"
    browser.evaluate("document.querySelector('#shade').click()")
    browser.wait("document.querySelectorAll('.rollout .token').length === 0")
    assert text_of(browser, ".rollout pre") == "2 + 1"


@pytest.mark.slow
def test_a_browser_without_decompression_shows_the_same(browser: Browser, report: Path) -> None:
    open_rollouts(browser, report)
    usual = text_of(browser, "#groups")
    without = "delete window.DecompressionStream"
    made = browser.call("Page.addScriptToEvaluateOnNewDocument", source=without)
    try:
        browser.requests.clear()
        open_rollouts(browser, report)
        assert browser.evaluate("typeof DecompressionStream") == "undefined"
        assert text_of(browser, "#groups") == usual
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=made["identifier"])


@pytest.mark.slow
def test_from_a_step_on_the_curves_to_its_rollouts(browser: Browser, report: Path) -> None:
    open_rollouts(browser, report)
    choose(browser, "#cursor", "5", "input")
    browser.evaluate("document.querySelector('#to-rollouts').click()")
    browser.wait("document.querySelector('#groups h3').textContent.startsWith('step 5:')")
    assert text_of(browser, "#found") == "32 rollouts in 4 groups"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_two_runs_side_by_side(browser: Browser, tmp_path: Path, width: int) -> None:
    runs = [make_run(tmp_path / f"run-{seed}", num_steps=20, seed=seed) for seed in (0, 1)]
    open_rollouts(browser, build_comparison(runs, tmp_path / "both.html"), width)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    drawn = "document.querySelectorAll('#chart-validation path.line').length"
    assert browser.evaluate(drawn) == 2
    assert browser.evaluate("document.querySelectorAll('#heats .chart').length") == 4
    assert text_of(browser, "#found") == "1,280 rollouts in 160 groups"  # 2 runs, 20 steps, 4 x 8
    choose(browser, "#by-run", "1", "change")
    assert text_of(browser, "#found") == "640 rollouts in 80 groups"
    assert text_of(browser, "#group-list .at") == "run-1 · step 20"


@pytest.mark.slow
def test_all_figures_open_as_a_table(browser: Browser, report: Path) -> None:
    browser.open(report, width=1280)
    browser.evaluate("document.querySelector('#figures summary').click()")
    browser.wait("document.querySelectorAll('#figures tbody tr').length === 61")


def test_hostile_text_is_shown_and_never_runs(browser: Browser, tmp_path: Path) -> None:
    run = make_run(tmp_path, num_steps=2, completion=HOSTILE)
    open_rollouts(browser, build_report(run), 400)
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
        open_rollouts(browser, page)
        for details in ("#figures summary", "details summary"):
            browser.evaluate(f"document.querySelectorAll('{details}').forEach(d => d.click())")
        choose(browser, "#by-order", "early", "change")
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
    browser.open(build_report(run), width=400)
    assert browser.evaluate("document.documentElement.scrollWidth") == 400
    assert (
        browser.evaluate("document.querySelector('main').innerHTML.match(/NaN|Infinity/)") is None
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_an_alarm_leads_to_the_rollouts_of_its_step(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    run = make_run(tmp_path, num_steps=6)
    alarm(run, 3)
    browser.open(build_report(run), width=width)
    browser.wait("document.querySelector('#rollouts').dataset.ready === 'yes'")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    shown = "[...document.querySelectorAll('#alarms details[open] pre')].map(e => e.textContent)"
    assert browser.evaluate(shown) == [read_log(run.rollouts(3))[0]["completion"]]
    browser.evaluate("document.querySelector('#alarms .to-step').click()")
    assert browser.evaluate("document.querySelector('#by-step').value") == "3"
    browser.wait("document.querySelector('#groups h3')?.textContent.startsWith('step 3:')")
