"""The alarms of the page, each with its evidence."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import make_run
from test_report_page import HOSTILE, Page

from open_rs.report import build_report
from open_rs.report.alarms import SHOWN, alarms
from open_rs.report.load import load_run
from open_rs.runs import RunFolder, append_jsonl, read_json, read_log, write_json, write_jsonl


def alarm(run: RunFolder, step: int, *, at: int | None = None, **details: Any) -> None:
    """An event with the first three rollouts of the step that `at` says, as evidence."""
    rows = read_log(run.rollouts(at or step))[:3]
    evidence = [
        {
            "problem_id": row["problem_id"],
            "sample": row["sample"],
            "num_tokens": len(row["completion_ids"]),
            "reward": row["reward"],
        }
        for row in rows
    ]
    event = {"event": "alarm", "step": step, "time": 1.7e9, "detector": "truncation"}
    event |= {"sentence": f"truncation at step {step}", "action": "roll_back"}
    append_jsonl(run.events, event | {"rollouts": evidence} | details)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", num_steps=4, evaluated=False)


def test_a_run_without_alarms_has_no_such_part(run: RunFolder) -> None:
    assert alarms(load_run(run)) is None
    assert 'href="#alarms"' not in build_report(run).read_text(encoding="utf-8")


def test_the_evidence_of_an_alarm_is_shown_with_its_text(run: RunFolder) -> None:
    alarm(run, 3)
    made = alarms(load_run(run))
    assert made is not None and made["more"] is None
    (one,) = made["rows"]
    held = read_log(run.rollouts(3))[:3]
    assert [row["text"] for row in one["rollouts"]] == [row["completion"] for row in held]
    first = held[0]
    assert one["rollouts"][0]["title"].startswith(f"{first['problem_id']}, sample 0: reward ")
    assert (one["step"], one["action"], one["to_step"]) == ("3", "roll back", 3)
    assert one["where"] == "rollouts/000003.jsonl.gz"


def test_what_a_roll_back_took_away_is_found_there(run: RunFolder) -> None:
    alarm(run, 3)
    other = make_run(run.path.parent / "other", num_steps=4, evaluated=False, seed=9)
    taken = run.rolled_back(2) / "rollouts"
    taken.mkdir(parents=True)
    held = read_log(run.rollouts(3))
    run.rollouts(3).rename(taken / run.rollouts(3).name)
    again = read_log(other.rollouts(3))  # the step as it was done again: the same problems
    for new, old in zip(again, held, strict=True):
        new["problem_id"] = old["problem_id"]
    write_jsonl(run.rollouts(3), again)
    made = alarms(load_run(run))
    assert made is not None
    (one,) = made["rows"]
    assert one["where"] == "rolled_back/002/rollouts/000003.jsonl.gz"
    assert one["to_step"] is None  # the browser of rollouts has other ones of this step
    assert [row["text"] for row in one["rollouts"]] == [row["completion"] for row in held[:3]]


def test_rollouts_that_are_gone_are_named(run: RunFolder) -> None:
    alarm(run, 3)
    shutil.rmtree(run.rollouts(0).parent)
    text = build_report(run).read_text(encoding="utf-8")
    assert "Its rollouts (p0030, sample 0; p0030, sample 1; p0030, sample 2) are in no file" in text


def test_an_alarm_of_a_held_out_score_has_no_rollouts(run: RunFolder) -> None:
    alarm(run, 3, detector="held_out_drop", rollouts=[])
    made = alarms(load_run(run))
    assert made is not None
    assert made["rows"][0]["rollouts"] == made["rows"][0]["named"] == []
    assert "are in no file" not in build_report(run).read_text(encoding="utf-8")


def test_an_alarm_that_a_resume_raised_again_counts_once_and_the_first_are_shown(
    run: RunFolder,
) -> None:
    for _ in range(2):
        alarm(run, 3)
    made = alarms(load_run(run))
    assert made is not None and len(made["rows"]) == 1
    for step in range(100, 100 + SHOWN + 4):
        alarm(run, step, rollouts=[])
    made = alarms(load_run(run))
    assert made is not None
    assert len(made["rows"]) == SHOWN and made["more"] == "5"


def test_updates_that_share_a_batch_share_its_rollouts(run: RunFolder) -> None:
    recipe = read_json(run.recipe)
    recipe["train"]["updates_per_batch"] = 2
    write_json(run.recipe, recipe)
    alarm(run, 4, at=3)
    made = alarms(load_run(run))
    assert made is not None and made["rows"][0]["to_step"] == 3


def test_what_a_model_wrote_is_text(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", num_steps=3, evaluated=False, completion=HOSTILE)
    for step in (2, 3):
        alarm(run, step, detector=HOSTILE, sentence=HOSTILE, action=HOSTILE)
    append_jsonl(run.events, {"event": "alarm", "step": 1, "detector": 5, "rollouts": [{}]})
    html = build_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert html.count('<article class="card alarm">') == 3
    assert html.count("window.hacked = 1") >= 2 * 3 + 2 * 3  # it is all there, as text
    assert not {tag for tag, _ in page.elements} & {"img", "svg"}
    assert len(page.scripts) == 3 + 3 + 1  # curves, distributions, the index, texts, our own
    assert "\x1b" not in html and "\u202e" not in html
