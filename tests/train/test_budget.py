"""The governor: every second counts, over all starts, and a run ends before its cap."""

import os
import time
from contextlib import contextmanager

import pytest
from test_resume import Killed, kill_at, recipe_with, start
from test_signals import SHORT

from open_rs import budget as governor
from open_rs.budget import Budget, governed, last_beat
from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import on_poll, pay, poll, set_deadline
from open_rs.plan.cost import (
    PRICES,
    first_use_seconds,
    price_of,
    price_per_hour,
    step_seconds,
)
from open_rs.recipe import recipe_from_dict
from open_rs.recipe.schema import BudgetRecipe
from open_rs.runs import Ledger, RunFolder, append_jsonl, read_log, write_json
from open_rs.train import loop
from open_rs.train.checkpoint import newest_valid
from open_rs.train.resume import recipe_to_resume

PLAN = {
    "steps": 10,
    "seconds": {"rollout": 80.0, "update": 20.0, "evaluate": 30.0, "total": 130.0},
    "seconds_range": [50.0, 200.0],
    "probe": {"mean_completion_tokens": 200.0, "rollout_tokens_per_s": 100.0},
}


@pytest.fixture
def clock(monkeypatch):
    """Seconds on the governor's clock, moved by hand."""
    now = [1000.0]
    for _ in range(4):  # laps of other tests are forgotten
        set_deadline(None)
    monkeypatch.setattr(governor.time, "monotonic", lambda: now[0])
    yield now
    set_deadline(None)
    on_poll(None)


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def budget_of(run, clock, **settings):
    return Budget(recipe_from_dict({"budget": settings}), run)


@contextmanager
def started(run, **settings):
    with governed(recipe_from_dict({"budget": settings}), run, "plan") as budget:
        yield budget


# --- prices ---


@pytest.mark.parametrize(
    ("name", "usd"),
    [
        ("NVIDIA A40", 0.44),  # 42.24 dollars over 4 x 24 hours
        ("NVIDIA A100-SXM4-80GB", 1.89),  # 3,629 dollars over 8 x 240 hours
        ("NVIDIA H100 80GB HBM3", PRICES["H100"].usd_per_hour),
        ("NVIDIA GeForce RTX 4090", PRICES["4090"].usd_per_hour),
        ("NVIDIA A4000", None),
        ("cpu", None),
    ],
)
def test_a_device_is_found_by_the_word_of_its_model(name, usd):
    price = price_of(name)
    assert (price and price.usd_per_hour) == usd
    assert price is None or (price.date and price.source)


def test_the_recipe_overrides_the_table_and_a_cap_in_dollars_needs_a_price():
    assert price_per_hour(BudgetRecipe(usd_per_hour=9.0, usd=1.0), "NVIDIA A40") == 9.0
    assert price_per_hour(BudgetRecipe(), "NVIDIA A40") == 0.44
    # of four devices, whoever names the price
    assert price_per_hour(BudgetRecipe(), "NVIDIA A40", 4) == 4 * 0.44
    assert price_per_hour(BudgetRecipe(usd_per_hour=9.0), "NVIDIA A40", 4) == 36.0
    assert price_per_hour(BudgetRecipe(hours=1), "cpu") is None  # trains without dollars
    with pytest.raises(InputError, match=r"no price is known for the device cpu; set budget\.usd_"):
        price_per_hour(BudgetRecipe(usd=1.0), "cpu")


# --- the forecast ---


def test_the_first_use_is_the_first_checkpoint_or_score():
    recipe = recipe_from_dict({"train": {"num_steps": 10, "save_every": 6},
                               "evaluate": {"every": 4, "validation_samples": 2}})  # fmt: skip
    # steps of 10 s: 6 without a validation set; with 5 problems 4, and 10 x 200 / 100 = 20 s
    assert step_seconds(PLAN) == 10.0
    assert first_use_seconds(recipe, PLAN, 0) == pytest.approx(60 * 50 / 130)
    assert first_use_seconds(recipe, PLAN, 5) == pytest.approx(60 * 50 / 130)
    assert first_use_seconds(recipe, PLAN, 10) == pytest.approx(80 * 50 / 130)


# --- what counts ---


def test_all_phases_of_all_starts_count_and_so_does_what_lies_between(run, clock):
    append_jsonl(run.ledger, {"phase": "curate", "step": 0, "seconds": 100.0, "usd": None})
    append_jsonl(run.ledger, {"phase": "evaluate", "step": 0, "seconds": 20.0, "usd": 0.5})
    with started(run, usd_per_hour=3.6) as one:
        clock[0] += 50
        assert one.seconds == 170.0
        assert one.usd == pytest.approx(0.1 + 0.5 + 0.05)  # a row without a price has today's
        one.ledger.enter("rollout", 1, 30.0, usd=0.25)  # an endpoint's, beside the machine
        assert one.usd == pytest.approx(0.65 + 0.25) and one.seconds == 170.0
        # what another process enters meanwhile is no time of this one
        append_jsonl(run.ledger, {"phase": "evaluate", "step": 9, "seconds": 7.0, "usd": None})
    idle = read_log(run.ledger)[-1]
    assert (idle["phase"], idle["seconds"]) == ("idle", 20.0)
    again = budget_of(run, clock, usd_per_hour=3.6)
    assert again.seconds == 177.0 and again.usd == pytest.approx(0.65 + 0.25 + 0.007)


def test_what_an_endpoint_costs_stops_the_run_before_its_phase_ends(run, clock):
    # $1 at $3.6 an hour: 1000 s, of which 1 % is kept back; $0.50 are 500 s of them
    with (
        pytest.raises(GuardStop, match="budget"),
        started(run, usd=1, usd_per_hour=3.6) as one,
        one.ledger.phase("curate") as figures,
    ):
        figures["usd"] = 0.5
        pay(0.5)
        clock[0] += 480
        poll()
        assert one.usd == pytest.approx(0.98)
        pay(0.5)
        figures["usd"] += 0.5
        poll()
        pytest.fail("went on")
    assert sum(row["usd"] for row in read_log(run.ledger)) == pytest.approx(1.48, abs=0.01)


def test_the_nearer_cap_counts(run, clock):
    append_jsonl(run.ledger, {"phase": "curate", "step": 0, "seconds": 600.0, "usd": None})
    assert budget_of(run, clock).seconds_left is None
    one = budget_of(run, clock, hours=0.5, usd=1.0, usd_per_hour=3.0)
    # 1200 s are left of the hours; of the dollars 0.5, at 3 an hour 600 s
    assert one.seconds_left == pytest.approx(600)
    assert one.cap_seconds == pytest.approx(1200)
    assert one.metrics() == {"time/spent_s": 600.0, "cost/usd": pytest.approx(0.5)}
    assert one.sentence() == "0.167 of 0.5 h, $0.50 of $1"


@contextmanager
def killed_before(patch):
    """As SIGKILL leaves a start: no idle row, beats up to the last poll."""
    real = Ledger.enter

    def enter(self, phase, *rest, **figures):
        if phase != "idle":
            real(self, phase, *rest, **figures)

    patch.setattr(governor, "BEAT_SECONDS", 0.0)
    patch.setattr(Ledger, "enter", enter)
    with pytest.raises(Killed):
        yield


def test_what_a_killed_start_cost_is_added(tmp_path):
    recipe = recipe_with(**SHORT)
    with pytest.MonkeyPatch.context() as patch, killed_before(patch):
        kill_at(patch, "update", 2, after=False)
        start(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    before = sum(row["seconds"] for row in read_log(run.ledger))
    _, beaten = last_beat(run)
    loop.train(recipe, run)
    killed = [row for row in read_log(run.ledger) if row["phase"] == "killed"]
    assert len(killed) == 1 and killed[0]["seconds"] > 0
    assert before + killed[0]["seconds"] == pytest.approx(beaten, abs=0.02)
    loop.train(recipe, run)  # it is added once
    assert [row["phase"] for row in read_log(run.ledger)].count("killed") == 1


def test_a_row_of_another_process_after_the_kill_hides_none_of_it(run, clock, monkeypatch):
    with killed_before(monkeypatch), started(run) as one:
        one.ledger.enter("rollout", 1, 10.0)
        clock[0] += 30
        poll()
        raise Killed
    # an evaluation of a checkpoint, with --out elsewhere, takes no part in the start
    append_jsonl(run.ledger, {"phase": "evaluate", "step": 1, "seconds": 50.0, "usd": None})
    with started(run) as two:
        assert two.seconds == pytest.approx(10 + 20 + 50)
    with started(run) as three:
        assert three.seconds == pytest.approx(80)
    phases = [row["phase"] for row in read_log(run.ledger) if row["phase"] != "idle"]
    assert phases == ["rollout", "evaluate", "killed"]


def test_a_kill_costs_what_was_beaten_whatever_the_wall_clock_says(run, clock, monkeypatch):
    append_jsonl(run.ledger, {"phase": "curate", "step": 0, "seconds": 100.0, "usd": None})
    enter = Ledger.enter
    with monkeypatch.context() as patch, pytest.raises(Killed), started(run) as one:
        clock[0] += 30
        one.ledger.enter("rollout", 1, 12.0)
        poll()
        clock[0] += 0.5 * governor.BEAT_SECONDS  # not yet due
        poll()
        patch.setattr(Ledger, "enter", lambda self, *row: None)
        raise Killed
    assert Ledger.enter == enter and last_beat(run) == (one.ledger.start, 30.0)
    for path in run.path.iterdir():  # the clock jumped ahead before the kill
        os.utime(path, (9e9, 9e9))
    clock[0] += 1e6  # while nothing ran
    with started(run, usd_per_hour=3.6) as again:
        last = read_log(run.ledger)[-1]
        assert (last["phase"], last["step"], last["seconds"]) == ("killed", 1, 18.0)
        assert last["usd"] == pytest.approx(0.018) and last["start"] == one.ledger.start
        assert again.seconds == 130.0
        clock[0] += 5
    assert read_log(run.ledger)[-1]["phase"] == "idle"
    assert budget_of(run, clock).seconds == 135.0  # nothing is charged for an end of its own


@pytest.mark.parametrize(
    "text", ["", "x", "a 130.00", "a 999.00 00000000", "a nan 0", "1 2 3 4", "\x00" * 9]
)
def test_a_heartbeat_that_is_damaged_charges_nothing(run, clock, text):
    run.heartbeat.write_text(text)
    assert last_beat(run) == (None, 0.0)
    run.heartbeat.write_bytes(b"\xff\xfe")
    assert last_beat(run) == (None, 0.0)


def test_a_disk_that_is_full_stops_no_heart(run, clock, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with started(run) as one:
        monkeypatch.setattr(governor.os, "pwrite", full)
        clock[0] += 9
        poll()
        assert last_beat(run) == (one.ledger.start, 0.0) and one.seconds == 9.0


# --- stopping ---


def test_a_start_that_can_show_nothing_is_refused(run, clock):
    write_json(run.plan, PLAN)
    recipe = recipe_from_dict({"train": {"num_steps": 10, "save_every": 10},
                               "budget": {"hours": 30 / 3600}})  # fmt: skip
    one = Budget(recipe, run)
    # 10 steps of 10 s, at least 100 * 50 / 130 = 38 s
    with pytest.raises(InputError, match=r"budget.hours: 30 s are left .* checkpoint needs about"):
        one.refuse_too_little(recipe, 0, 0)
    fits = recipe_from_dict({"train": {"num_steps": 10, "save_every": 5},
                             "budget": {"hours": 30 / 3600}})  # fmt: skip
    Budget(fits, run).refuse_too_little(fits, 0, 0)


def test_a_cap_smaller_than_one_more_step_is_refused(run, clock):
    for step, seconds in ((1, 9.0), (2, 10.0), (3, 50.0)):
        append_jsonl(run.metrics, {"step": step, "time/step_s": seconds})
    append_jsonl(run.ledger, {"phase": "rollout", "step": 3, "seconds": 69.0, "usd": None})
    recipe = recipe_from_dict({"budget": {"hours": 75 / 3600}})
    with pytest.raises(InputError, match=r"6 s are left and one more step needs about \d+ s"):
        Budget(recipe, run).refuse_too_little(recipe, 3, 0)
    more = recipe_from_dict({"budget": {"hours": 90 / 3600}})
    Budget(more, run).refuse_too_little(more, 3, 0)
    done = recipe_from_dict({"budget": {"hours": 60 / 3600}, "train": {"num_steps": 3}})
    Budget(done, run).refuse_too_little(done, 3, 0)  # nothing is left to do


def test_a_run_at_its_cap_saves_and_goes_on_with_a_higher_one(tmp_path, monkeypatch):
    recipe = recipe_with(**SHORT, budget={"hours": 1.0})
    real, ahead, learn = time.monotonic, [0.0], loop.learn

    def late(training, *args, **kwargs):
        ahead[0] += 3600.0 if training.state.step == 2 else 0.0  # an hour passes in step 3
        return learn(training, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: real() + ahead[0])
        patch.setattr(loop, "learn", late)
        with pytest.raises(GuardStop, match=r"budget: 1 of 1 h are used after step 2"):
            start(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    stop = [row for row in read_log(run.events) if row["event"] == "stop"][-1]
    assert (stop["reason"], stop["step"]) == ("budget", 2)
    assert newest_valid(run) == (2, [])
    with pytest.raises(InputError, match=r"budget.hours: 0 s are left"):
        loop.train(recipe, run)
    loop.train(recipe_to_resume(run, ["budget.hours=3"]), run)
    assert [row["event"] for row in read_log(run.events)][-1] == "finish"
    assert sum(row["seconds"] for row in read_log(run.ledger)) > 3600
