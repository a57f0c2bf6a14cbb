"""The page as a whole: self-contained, safe, and of use whatever the state of the run."""

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import make_recipe, make_run

from open_rs.errors import InputError
from open_rs.report import build_report
from open_rs.runs import RunFolder, append_jsonl, read_log, write_json, write_jsonl

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    "<!-- <script> ]]> \x1b[2J\x1b]0;title\x07 \u202egnp.exe\u202c \u2066 \u200b "
    "&lt;b&gt; {{ 7 * 7 }} \u2028 \x00 </think> \\boxed{</pre>}"
    "'\"><svg onload=window.hacked=4><a href='javascript:window.hacked=5'>link</a>"
    "[link](javascript:window.hacked=6) </style><style>*{display:none}</style></title>"
    "<base href=//x>"
    "<iframe srcdoc='<script>parent.hacked=7</script>'></iframe> ${window.hacked=8} \u2029 \x9b31m"
)


def make_hostile_run(path: Path) -> RunFolder:
    """A run in which every text that a model, a data set, a user's function or a library may have
    written is HOSTILE, names of rewards, reasons and sources among them.
    """
    run = make_run(path, num_steps=3, completion=HOSTILE)
    for file in sorted(path.rglob("*.json")):
        write_json(file, poisoned(json.loads(file.read_text(encoding="utf-8"))))
    for step in range(1, 4):
        write_jsonl(run.rollouts(step), [poisoned(row) for row in read_log(run.rollouts(step))])
    rows = [poisoned(row) | {"event": row["event"]} for row in read_log(run.events)]
    write_jsonl(run.events, [*rows, {"event": HOSTILE, "step": 2, "time": 1.7e9, "why": HOSTILE}])
    write_jsonl(run.ledger, [*read_log(run.ledger), {"phase": HOSTILE, "step": 1, "seconds": 1.0}])
    more = {f"reward/{HOSTILE}": 0.5, f"time/reward_{HOSTILE}_s": 0.1}
    write_jsonl(run.metrics, [row | more for row in read_log(run.metrics)])
    return run


# What the page decides by: kinds, names of files, numbers as text
KEPT = re.compile(r"(test|validation)-\d+|improved|correct|wrong|no_answer|length|stop|[\d.]*")
FREE_KEYS = ("reasons", "sources", "reward_breakdown", "packages", "fingerprint")


def poisoned(value: object, *, free_keys: bool = False) -> object:
    """`value` with HOSTILE in the place of every text in it that the page does not decide by."""
    if isinstance(value, str):
        return value if KEPT.fullmatch(value) else HOSTILE
    if isinstance(value, list):
        return [poisoned(one) for one in value]
    if isinstance(value, dict):
        return {
            f"{key} {HOSTILE}" if free_keys else key: poisoned(one, free_keys=key in FREE_KEYS)
            for key, one in value.items()
        }
    return value


class Page(HTMLParser):
    """Elements, attributes and the content of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.data: dict[str, str] = {}  # of script elements, by id
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.elements[-1:] and self.elements[-1][0] == "script" and not self.scripts[-1]:
            self.scripts[-1] = data
            self.data[self.elements[-1][1].get("id") or ""] = data
        self.text += data


def unpacked(text: str) -> Any:
    """What the page's script reads."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def page_of(run: RunFolder) -> str:
    return build_report(run).read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_and_only_its_own_script_may_run(tmp_path: Path) -> None:
    html = page_of(make_run(tmp_path, num_steps=12))
    page = Page(html)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            address = attributes.get(name) or "#"
            assert address.startswith("#") or address == "data:,", (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert not re.search(r"url\(|@import|https?:(?!//www\.w3\.org/2000/svg)", html)
    policy = next(one["content"] for _, one in page.elements if one.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_text_of_the_model_stays_text(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_steps=2, completion=HOSTILE)
    recipe = json.loads(run.recipe.read_text(encoding="utf-8"))
    recipe["model"]["path"] = HOSTILE + "\ud800"  # half a surrogate pair, as JSON may hold
    write_json(run.environment, {"device": "</dl><script>window.hacked = 3</script>"})
    run.recipe.write_text(json.dumps(recipe), encoding="utf-8")
    html = page_of(run)
    page = Page(html)
    # curves, distributions, the index of rollouts, a text per step, and the one that runs
    assert len(page.scripts) == 3 + 2 + 1
    assert not [attributes for tag, attributes in page.elements if tag == "img"]
    assert "{{ 7" in html and "\x1b" not in html and "\u202e" not in html and "\x00" not in html
    text = unpacked(page.data["texts-0-1"])[0]["rollouts"][0]["text"]
    assert text.startswith("</script><script>window.hacked = 1</script>")
    assert "␛[2J" in text and "<U+202E>gnp.exe<U+202C>" in text


def test_no_text_of_any_file_becomes_markup(tmp_path: Path) -> None:
    clean = Page(page_of(make_run(tmp_path / "clean", num_steps=3)))
    html = page_of(make_hostile_run(tmp_path / "hostile"))
    page = Page(html)
    assert html.count("window.hacked = 1") > 20  # it is all there, as text
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in clean.elements}
    assert len(page.scripts) == len(clean.scripts) and page.scripts[-1] == clean.scripts[-1]
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert (attributes.get("href") or "#")[0] == "#" or attributes["href"] == "data:,"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066\u200b]", html)


def test_keys_in_old_files_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, num_steps=2)
    key = "q7" * 20
    monkeypatch.setenv("HF_TOKEN", key)
    recipe = json.loads(run.recipe.read_text(encoding="utf-8"))
    recipe["model"]["path"] = f"https://me:{key}@host/model"
    write_json(run.recipe, recipe)
    append_jsonl(run.events, {"event": "undecided", "step": 1, "first_error": f"401 for {key}"})
    html = page_of(run)
    assert key not in html and "https://***@host/model" in html


def nothing_yet(run: RunFolder) -> None:
    run.path.mkdir(parents=True)


def recipe_only(run: RunFolder) -> None:
    write_json(run.recipe, make_recipe().model_dump(mode="json"))


def one_step(run: RunFolder) -> None:
    make_run(run.path, num_steps=1, evaluated=False, finished=False)


def not_curated(run: RunFolder) -> None:
    make_run(run.path, num_steps=10, curated=False)


def not_evaluated(run: RunFolder) -> None:
    make_run(run.path, num_steps=10, evaluated=False)


def killed_in_mid_write(run: RunFolder) -> None:
    make_run(run.path, num_steps=10, evaluated=False, finished=False)
    log = run.metrics.read_bytes()
    run.metrics.write_bytes(log[: log.index(b'{"step": 10,') + 40])
    whole = run.rollouts(10).read_bytes()
    run.rollouts(10).write_bytes(whole[: len(whole) // 2])


def corrupt(run: RunFolder) -> None:
    make_run(run.path, num_steps=10)
    lines = run.events.read_text(encoding="utf-8").split("\n")
    run.events.write_text("\n".join([lines[0], "{ not json", *lines[1:]]), encoding="utf-8")
    rows = run.metrics.read_bytes().split(b"\n")
    rows[3:3] = [b"\xff\x00", b"[1]"]
    run.metrics.write_bytes(b"\n".join(rows))
    (run.evaluation("test-000000") / "summary.json").write_text("[1, 2", encoding="utf-8")
    run.rollouts(3).write_bytes(gzip.compress(b"\xff\xfe not utf-8\n"))
    run.environment.write_text("[]", encoding="utf-8")


def of_another_schema(run: RunFolder) -> None:
    make_run(run.path, num_steps=10)
    write_json(run.path / "evaluations" / "comparison.json", {"verdict": "improved"})
    write_json(run.curated / "summary.json", {"input": "many"})
    write_json(run.recipe, {"name": "x", "rollout": 3})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            nothing_yet,
            [
                *("no training step recorded", "No curves", "No recipe", "No ledger"),
                *("No rollouts", "Not recorded: environment.json is missing"),
            ],
        ),
        (recipe_only, ["No verdict", "No curves", "No rollouts", "accuracy + 0.5 × format"]),
        (one_step, ["step 1 of 10, no end recorded", "No verdict", "190 problems kept"]),
        (not_curated, ["No curation in this run", "Improved"]),
        (not_evaluated, ["The test set has not been scored", "190 problems kept"]),
        (
            killed_in_mid_write,
            [
                "step 9 of 10, no end recorded",
                "rollouts/000010.jsonl.gz:",
                "288 rollouts of 9 steps are listed",
            ],
        ),
        (
            corrupt,
            [
                "events.jsonl: line 2: no JSON object, left out",
                "metrics.jsonl: line 4 and 1 more: no JSON object, left out",
                "finished, 10 steps",
                "Reward and its parts",
                "evaluations/test-000000/summary.json: not valid JSON",
                "rollouts/000003.jsonl.gz:",
                "environment.json: a JSON object is needed",
                "Improved",
            ],
        ),
        (
            of_another_schema,
            [
                "verdict: its files are not as expected (KeyError: 'scores')",
                "curation: its files are not as expected",
                "facts: its files are not as expected",
                "320 rollouts of 10 steps are listed",
            ],
        ),
    ],
)
def test_a_run_in_any_state_says_what_is_missing_and_shows_the_rest(
    tmp_path: Path, make: Callable[[RunFolder], None], said: list[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    make(run)
    text = " ".join(Page(page_of(run)).text.split())
    for sentence in said:
        assert sentence in text


def test_texts_of_ten_million_characters_are_cut(tmp_path: Path) -> None:
    long = HOSTILE * (10_000_000 // len(HOSTILE))
    run = make_run(tmp_path, num_steps=1)
    usual = len(page_of(run))
    rows = read_log(run.rollouts(1))
    write_jsonl(run.rollouts(1), [rows[0] | {"completion": long, "problem": long}, *rows[1:]])
    append_jsonl(run.events, {"event": "stop", "step": 1, "reason": long})
    recipe = json.loads(run.recipe.read_text(encoding="utf-8"))
    recipe["model"]["path"] = long
    write_json(run.recipe, recipe)
    assert len(page_of(run)) < usual + 300_000


def test_a_healthy_run_has_nothing_to_complain_of(tmp_path: Path) -> None:
    assert "Not readable" not in Page(page_of(make_run(tmp_path, num_steps=10))).text


def test_same_files_same_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_steps=10)
    assert page_of(run) == page_of(run)


def test_no_such_run_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        build_report(RunFolder(tmp_path / "absent"))


def test_building_a_report_imports_no_torch(tmp_path: Path) -> None:
    make_run(tmp_path / "run", num_steps=10)
    code = (
        "import sys; from pathlib import Path; from open_rs.report import build_report; "
        "from open_rs.runs import RunFolder; build_report(RunFolder(Path(sys.argv[1]))); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert done.returncode == 0
