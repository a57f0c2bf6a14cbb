"""One start of a run: a signal or a cap stops whichever stage is under way, and it goes on."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from test_resume import recipe_with, start, trace
from test_signals import SHORT

from open_rs import interrupt
from open_rs.budget import governed, limited
from open_rs.commands.curate import curate_stage
from open_rs.curate import rounds
from open_rs.errors import GuardStop, InputError
from open_rs.evaluate import scoring
from open_rs.evaluate.held_out import evaluate_run
from open_rs.evaluate.journal import Journal
from open_rs.interrupt import Interrupted, at_once, poll
from open_rs.recipe import recipe_from_dict
from open_rs.runs import RunFolder, append_jsonl, open_run, read_json, read_log, write_json
from open_rs.train import checkpoint, loop, saver
from open_rs.train.checkpoint import checkpoint_steps, newest_valid
from open_rs.train.journal import RolloutJournal
from open_rs.train.resume import recipe_to_resume

TESTED = SHORT | {
    "data": SHORT["data"] | {"test": {"task": "arithmetic", "split": "test", "count": 3}},
    "evaluate": {"num_samples": 2, "every": 4},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return start(recipe_with(**TESTED), tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def run(trained, tmp_path):
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "run")))


def stops(run):
    return [row for row in read_log(run.events) if row["event"] == "stop"]


def on_call(monkeypatch, owner, name, call, do):
    """Have the `call`-th call of a function `do` something first."""
    real, calls = getattr(owner, name), [0]

    def called(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call:
            do()
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, called)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


# --- signals ---


def test_a_signal_that_no_stage_has_answered_is_answered_by_the_next(tmp_path):
    recipe, run = recipe_from_dict({}), RunFolder(tmp_path)
    before = [signal.getsignal(one) for one in interrupt.SIGNALS]
    with pytest.raises(Interrupted) as stop, governed(recipe, run, "plan") as budget:
        with governed(recipe, run, "train") as inner:
            assert inner is budget
            terminate()  # in its last breath
        with governed(recipe, run, "evaluate"):
            raise AssertionError("the evaluation began")
    assert stop.value.sentence == (
        "stopped by SIGTERM in evaluation, whose samples are kept; go on by the same command"
    )
    [told] = stops(run)
    assert (told["reason"], told["stage"]) == ("SIGTERM", "evaluate")
    assert [signal.getsignal(one) for one in interrupt.SIGNALS] == before
    poll()


def test_a_signal_in_the_last_save_keeps_the_evaluation_from_beginning(tmp_path, monkeypatch):
    recipe = recipe_with(**TESTED | {"data": TESTED["data"] | {"validation": None}})
    run = open_run(tmp_path / "run", recipe)
    on_call(monkeypatch, saver, "write_snapshot", 2, terminate)  # steps 2 and 4
    with pytest.raises(Interrupted), governed(recipe, run, "plan"):
        loop.train(recipe, run)
        evaluate_run(run)
    assert [row["event"] for row in read_log(run.events)][-2:] == ["finish", "stop"]
    assert not list(run.evaluation("").glob("test-*"))
    assert newest_valid(run) == (4, [])


@pytest.mark.parametrize("call", [1, 4, 9])  # of 12: base and checkpoint, 3 problems x 2
def test_a_stopped_evaluation_goes_on_to_the_same_records(run, call, monkeypatch, tmp_path):
    whole = RunFolder(Path(shutil.copytree(run.path, tmp_path / "whole")))
    expected = evaluate_run(whole)
    with monkeypatch.context() as patch:
        on_call(patch, Journal, "add", call, terminate)
        with pytest.raises(Interrupted):
            evaluate_run(run)
    assert stops(run)[-1]["stage"] == "evaluate"
    drawn, real = [], Journal.add
    monkeypatch.setattr(Journal, "add", lambda self, row: drawn.append(row) or real(self, row))
    found = evaluate_run(run)
    assert 12 - call - 4 <= len(drawn) < 12
    assert found[0]["scores"] == expected[0]["scores"]
    for name in (found[0]["before"], found[0]["after"]):
        mine, theirs = (one.evaluation(name) / "records.jsonl" for one in (run, whole))
        assert mine.read_bytes() == theirs.read_bytes()
    phases = [row["phase"] for row in read_log(run.ledger)]
    assert phases.count("idle") == 3 and "killed" not in phases


CURATED = {
    "name": "set",
    "sources": [{"task": "arithmetic", "count": 40, "levels": [1]}],
    "filters": [{"type": "boxed"}, {"type": "exact_duplicates"}],
}


def test_a_stopped_curation_goes_on_to_the_same_set(tmp_path, monkeypatch):
    recipe = recipe_from_dict(CURATED)
    whole, run = (open_run(tmp_path / name, recipe) for name in ("whole", "run"))
    expected = curate_stage(recipe, whole, 1)
    monkeypatch.setattr(rounds, "ROWS_AT_ONCE", 16)
    with monkeypatch.context() as patch:
        on_call(patch, rounds, "poll", 3, terminate)
        with pytest.raises(Interrupted, match="SIGTERM"):
            curate_stage(recipe, run, 1)
    assert stops(run)[0]["stage"] == "curate" and not (run.curated / "problems.jsonl").exists()
    assert curate_stage(recipe, run, 1) == expected
    for name in ("problems.jsonl", "manifest.jsonl"):
        assert (run.curated / name).read_bytes() == (whole.curated / name).read_bytes()
    assert [row["phase"] for row in read_log(run.ledger)] == ["curate", "idle"] * 2


def test_what_cannot_poll_is_left_at_once_and_a_signal_that_it_swallows_is_not_lost():
    with interrupt.stop_on_signals():
        with pytest.raises(Interrupted), at_once():
            terminate()
            raise AssertionError("it went on")
        with pytest.raises(Interrupted), at_once():
            raise AssertionError("it began")
    for swallowed in (True, False):
        with interrupt.stop_on_signals(), pytest.raises(Interrupted), at_once():
            try:
                terminate()
            except Interrupted:
                if not swallowed:
                    raise
    poll()


# --- caps ---


def hours_later(monkeypatch, owner, name, call, hours=1.0):
    """The clock jumps at the `call`-th call of a function."""
    real, ahead = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])

    def jump():
        ahead[0] += hours * 3600

    on_call(monkeypatch, owner, name, call, jump)


def test_a_cap_stops_the_evaluation_and_a_higher_one_goes_on(run, monkeypatch):
    held = read_json(run.recipe)
    write_json(run.recipe, held | {"budget": held["budget"] | {"hours": 1.0}})
    with monkeypatch.context() as patch:
        hours_later(patch, Journal, "add", 8)
        with pytest.raises(GuardStop) as stop:
            evaluate_run(run)
    said = str(stop.value)
    assert "of 1 h are used in evaluation, whose samples are kept; raise it by --max-hours" in said
    assert stops(run)[-1]["reason"] == "budget" and stops(run)[-1]["spent_s"] > 3600
    with pytest.raises(GuardStop), monkeypatch.context() as patch:
        patch.setattr(scoring, "sample_and_score", lambda *args: pytest.fail("loaded"))
        evaluate_run(run)
    assert evaluate_run(run, changes=["budget.hours=3"])[0]["num_problems"] == 3


def test_a_cap_counts_what_other_starts_and_stages_took(tmp_path, monkeypatch):
    recipe, run = recipe_from_dict({"budget": {"hours": 1.0}}), RunFolder(tmp_path)
    append_jsonl(run.ledger, {"phase": "curate", "step": 0, "seconds": 3400.0, "usd": None})
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stopped = pytest.raises(GuardStop, match=r"budget: 0\.9\d+ of 1 h are used before training")
    with stopped, governed(recipe, run, "plan"):
        with governed(recipe, run, "curate"):
            for now[0] in range(0, 100, 10):
                poll()
        for now[0] in range(100, 3600, 10):
            poll()
    # 1 % of the cap is kept back, and the 10 s between two looks
    assert now[0] == 200 - 36 - 10 + 6
    assert sum(row["seconds"] for row in read_log(run.ledger)) == 3400 + 160


def test_work_of_no_run_has_its_hours_too(monkeypatch):
    recipe = recipe_from_dict({"budget": {"hours": 2.0}})
    with pytest.raises(GuardStop, match=r"budget.hours: 2 h are used"), limited(recipe):
        poll()
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + 1.99 * 3600)
        poll()
    poll()


def test_a_refused_start_leaves_no_start_behind(tmp_path):
    recipe = recipe_with(**SHORT)
    capped = recipe_with(**SHORT, budget={"hours": 1e-5})
    run = open_run(tmp_path / "run", capped)
    with pytest.raises(InputError, match=r"budget.hours: 0 s are left"):
        loop.train(capped, run)
    assert not run.metrics.exists() and not run.environment.exists()
    assert not read_log(run.events)
    open_run(run.path, recipe)
    loop.train(recipe, run)
    assert read_log(run.events)[0]["event"] == "start"


def test_a_refused_resume_changes_no_setting(run):
    shutil.rmtree(run.checkpoint(4))
    before = run.recipe.read_bytes()
    with pytest.raises(InputError, match="one more step needs"):
        loop.train(recipe_to_resume(run, ["budget.hours=1e-6"]), run)
    assert run.recipe.read_bytes() == before
    loop.train(recipe_to_resume(run, ["budget.hours=7"]), run)
    assert read_json(run.recipe)["budget"]["hours"] == 7


# --- saves ---


def test_a_stop_saves_although_the_save_before_it_failed(tmp_path, monkeypatch, capsys):
    expected = trace(start(recipe_with(**SHORT), tmp_path / "whole"), 4)
    real, calls = checkpoint._fsync_tree, [0]

    def full_once(path):
        calls[0] += 1
        if calls[0] == 1:
            raise OSError(28, "full")
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_fsync_tree", full_once)
        patch.setattr(saver.Saver, "look", lambda self: None)  # it has not been noticed yet
        on_call(patch, RolloutJournal, "add", 14, terminate)  # in the rollouts of step 3
        with pytest.raises(Interrupted):
            start(recipe_with(**SHORT), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert newest_valid(run) == (2, [])
    assert "a save that was under way has failed" in capsys.readouterr().err
    loop.train(recipe_with(**SHORT), run)
    assert trace(run, 4) == expected


def test_a_stop_that_cannot_save_says_what_is_lost(tmp_path, monkeypatch, capsys):
    def full(path):
        raise OSError(28, "full")

    on_call(monkeypatch, loop, "score", 3, terminate)  # of step 3; step 2 was to be saved
    monkeypatch.setattr(checkpoint, "_fsync_tree", full)
    monkeypatch.setattr(saver.Saver, "look", lambda self: None)
    with pytest.raises(Interrupted) as stop:
        start(recipe_with(**SHORT), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert checkpoint_steps(run) == [] and [row["reason"] for row in stops(run)] == ["SIGTERM"]
    assert "step 2 cannot be saved" in capsys.readouterr().err
    assert "after step 2, up to which nothing is saved and the rest is replayed" in (
        stop.value.sentence
    )
