"""Several runs on one page: names, verdicts by the evaluate room, differences, lines over lines."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import make_run
from test_report_page import HOSTILE, Page

from open_rs.evaluate.compare import compare
from open_rs.report import build_comparison
from open_rs.report.comparison import compared, costs, differing, facts_table, names_of, verdicts
from open_rs.report.costs import run_cost
from open_rs.report.curves import overlaid
from open_rs.report.format import points
from open_rs.report.load import RunData, load_run
from open_rs.runs import RunFolder, append_jsonl, read_json, write_json, write_jsonl

FINGERPRINT = {"problems": "aa", "grader_policy": "1", "seed": 0, "temperature": 0.6}


def write_test(
    run: RunFolder, step: int, rate: float, seed: int, fingerprint: dict[str, object] = FINGERPRINT
) -> Path:
    """An evaluation of 60 problems with 4 samples whose summary fits its records."""
    correct = np.random.default_rng(seed).random((60, 4)) < rate
    folder = run.evaluation(f"test-{step:06d}")
    rows = [
        {
            "problem_id": f"t{problem:02d}",
            "sample": sample,
            "correct": bool(correct[problem, sample]),
            "seed": 0,
            "policy_version": "1",
        }
        for problem in range(60)
        for sample in range(4)
    ]
    write_jsonl(folder / "records.jsonl", rows)
    score = {"value": float(correct.mean()), "low": 0.0, "high": 1.0, "n": 60, "k": 4}
    write_json(
        folder / "summary.json",
        {
            "name": folder.name,
            "step": step,
            "num_problems": 60,
            "num_samples": 4,
            "scores": {"pass@1": score},
            "fingerprint": fingerprint,
        },
    )
    return folder


def runs_with_tests(path: Path, rates: dict[str, float]) -> list[RunData]:
    made = []
    for seed, (name, rate) in enumerate(rates.items()):
        run = make_run(path / name, num_steps=4, evaluated=False, seed=seed)
        write_test(run, 4, rate, seed)
        made.append(load_run(run))
    return made


def test_the_verdict_is_that_of_open_rs_compare(tmp_path: Path) -> None:
    runs = runs_with_tests(tmp_path, {"a": 0.3, "b": 0.7})
    [made] = verdicts(runs, ["a", "b"])
    card = made["card"]
    told = compare(*(data.run.evaluation("test-000004") for data in runs))
    assert told["verdict"] == "improved" and card["word"] == "better" and card["kind"] == "good"
    difference = told["difference"]
    assert card["difference"] == f"{points(difference['value'])} points"
    assert card["interval"] == f"{points(difference['low'])} to {points(difference['high'])}"
    assert card["title"] == "b (test-000004) against a (test-000004)"
    assert card["flips"] is not None


def test_several_are_one_family_and_who_cannot_be_compared_is_told(tmp_path: Path) -> None:
    runs = runs_with_tests(tmp_path, {"a": 0.3, "b": 0.7, "c": 0.3, "d": 0.3, "e": 0.3})
    write_test(runs[2].run, 4, 0.3, 9, FINGERPRINT | {"temperature": 1.0})
    write_test(runs[3].run, 4, 0.3, 9, FINGERPRINT | {"problems": "bb"})
    (runs[4].run.evaluation("test-000004") / "summary.json").unlink()
    runs = [load_run(data.run) for data in runs]
    first, *absent = verdicts(runs, list("abcde"))
    assert first["card"]["word"] == "better"
    told = [one["absent"] for one in absent]
    assert told[0].startswith("No verdict. c against a:") and "temperature (0.6 and 1.0)" in told[0]
    assert told[1] == "No verdict. d against a: they were tested on different problems."
    assert told[2] == "No verdict. e against a: it has no test score."
    assert verdicts(runs[::-1], list("edcba"))[0]["absent"].startswith("No verdict. e has no test")


def test_noise_is_called_that(tmp_path: Path) -> None:
    [made] = verdicts(runs_with_tests(tmp_path, {"a": 0.5, "b": 0.5}), ["a", "b"])
    assert made["card"]["word"] == "not distinguishable from noise"
    assert made["card"]["kind"] == "unsure"


def test_the_chosen_checkpoint_stands_for_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_steps=4, evaluated=False)
    assert compared(load_run(run)) is None
    for step in (0, 2, 4):
        write_test(run, step, 0.5, step)
    # the diary of the synthetic run chooses none at 4 steps: the latest test
    assert compared(load_run(run)) == run.evaluation("test-000004")
    append_jsonl(run.events, {"event": "select", "step": 2})
    assert compared(load_run(run)) == run.evaluation("test-000002")


def test_names_tell_runs_apart(tmp_path: Path) -> None:
    def named(*paths: str) -> list[str]:
        return names_of([RunData(RunFolder(tmp_path / path)) for path in paths])

    assert named("x/a", "x/b") == ["a", "b"]
    assert named("x/a", "y/a") == ["x/a", "y/a"]
    assert named("x/a", "x/a") == ["x/a (1)", "x/a (2)"]


def test_only_what_differs_is_listed() -> None:
    rows = differing([{"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}])
    assert rows == [{"key": "b", "cells": ["2", "3"]}, {"key": "c", "cells": ["–", "4"]}]
    facts = facts_table([[("Seed", "0"), ("Steps", "4")], [("Seed", "1"), ("Steps", "4")]])
    assert [(row["key"], row["same"]) for row in facts] == [("Seed", False), ("Steps", True)]


def test_a_line_a_run_in_each_chart(tmp_path: Path) -> None:
    runs = [load_run(make_run(tmp_path / name, num_steps=10)) for name in ("a", "b")]
    made = overlaid(runs, ["a", "b"])
    charts = {chart["id"]: chart for chart in made["charts"]}
    assert [line["label"] for line in charts["validation"]["lines"]] == ["a", "b"]
    assert charts["reward-reward-accuracy"]["title"] == "Reward and its parts: accuracy"
    assert not any(chart["stacked"] for chart in made["charts"])
    saved = [mark for mark in made["events"] if mark["kind"] == "save"]
    assert {(mark["run"], mark["label"]) for mark in saved} == {
        (0, "a: checkpoint saved"),
        (1, "b: checkpoint saved"),
    }


def test_costs_by_phase_beside_each_other(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    one = RunData(run, ledger=[{"phase": "rollout", "seconds": 3600.0, "tokens": 5, "usd": 1.5}])
    other = RunData(run, ledger=[{"phase": "update", "seconds": 60.0, "usd": None}])
    made = costs([run_cost(one), run_cost(other), None])
    assert made is not None
    assert made["rows"] == [
        {"phase": "rollout", "cells": ["1 h 00 min", "–", "–"]},
        {"phase": "update", "cells": ["–", "1 min 00 s", "–"]},
    ]
    totals = {row["phase"]: row["cells"] for row in made["totals"]}
    assert totals["tokens"] == ["5", "0", "–"] and totals["device-hours"] == ["1", "0.01667", "–"]
    assert totals["dollars"] == ["$1.50", "–", "–"]
    assert costs([None, None]) is None


def test_the_page_of_runs_in_any_state(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", num_steps=10)
    (tmp_path / "empty").mkdir()
    broken = make_run(tmp_path / "broken", num_steps=3, completion=HOSTILE)
    write_json(broken.recipe, read_json(broken.recipe) | {"rollout": 3, "seed": HOSTILE})
    broken.metrics.write_text("{ not json\n", encoding="utf-8")
    write_json(broken.path / "evaluations" / "comparison.json", [HOSTILE])
    runs = [whole, RunFolder(tmp_path / "empty"), broken]
    page = build_comparison(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    read = Page(page)
    text = " ".join(read.text.split())
    for sentence in (
        "No verdict. empty against whole: it has no test score.",
        "broken: metrics.jsonl: line 1: no JSON object, left out",
        "broken: facts: its files are not as expected",
        "320 rollouts of 10 steps are listed",
        "no curation in this run",
    ):
        assert sentence in text
    assert not [tag for tag, _ in read.elements if tag in ("img", "iframe", "base")]
    assert len(read.scripts) == 2 + 3 + 10 + 3 + 1  # three indices, a text per step, ours


def test_a_comparison_imports_no_torch(tmp_path: Path) -> None:
    paths = [str(make_run(tmp_path / name, num_steps=2).path) for name in ("a", "b")]
    code = (
        "import sys; from pathlib import Path; from open_rs.report import build_comparison; "
        "from open_rs.runs import RunFolder; "
        "build_comparison([RunFolder(Path(one)) for one in sys.argv[2:]], Path(sys.argv[1])); "
        "sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "page.html"), *paths]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("same", [True, False])
def test_recipe_differences(tmp_path: Path, same: bool) -> None:
    runs = [make_run(tmp_path / name, num_steps=2, evaluated=False) for name in ("a", "b")]
    if not same:
        recipe = read_json(runs[1].recipe)
        recipe["train"]["learning_rate"] = 3e-6
        write_json(runs[1].recipe, recipe)
    page = build_comparison(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    assert ("The recipes do not differ" in page) == same
    assert ('<td class="text mono">3e-06</td>' in page) != same
