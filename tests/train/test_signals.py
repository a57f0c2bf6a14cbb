"""A stop that was asked for: noted, noticed in every phase, saved, and gone on from exactly."""

import os
import signal
import threading
import time
from concurrent.futures import Future

import pytest
from test_resume import recipe_with, start, trace

from open_rs import interrupt
from open_rs.interrupt import DeadlinePassed, Interrupted, poll, result_of, stop_on_signals
from open_rs.runs import RunFolder, read_log
from open_rs.train import loop, saver, update
from open_rs.train.checkpoint import checkpoint_steps, damage
from open_rs.train.journal import RolloutJournal

SHORT = {
    "data": {
        "train": {"task": "arithmetic", "count": 12, "levels": [1, 2]},
        "validation": {"task": "arithmetic", "split": "validation", "count": 2, "levels": [1]},
    },
    "rollout": {"group_size": 3, "prompts_per_step": 2, "max_completion_tokens": 24},
    "train": {"num_steps": 4, "save_every": 2, "learning_rate": 1e-3},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    recipe = recipe_with(**SHORT)
    return trace(start(recipe, tmp_path_factory.mktemp("whole") / "run"), 4)


@pytest.mark.parametrize("number", interrupt.SIGNALS)
def test_a_signal_is_noted_and_polled(number):
    before = [signal.getsignal(one) for one in interrupt.SIGNALS]
    with stop_on_signals():
        poll()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as stop:
            poll()
        assert stop.value.number == number
        # the next one is the system's own: it ends the process at once, in C code too
        assert [signal.getsignal(one) for one in interrupt.SIGNALS] == [signal.SIG_DFL] * 3
        with interrupt.undisturbed():
            poll()
        with pytest.raises(Interrupted):
            poll()
    poll()
    assert [signal.getsignal(one) for one in interrupt.SIGNALS] == before


@pytest.mark.parametrize("taken_for", [None, ValueError])
def test_a_signal_raises_where_it_comes_for_what_cannot_poll(taken_for):
    """Also where a library takes the exception for an error of its own, or swallows it."""
    with stop_on_signals(), pytest.raises(Interrupted) as stop, interrupt.at_once():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("nothing was raised")
        except Interrupted as error:
            if taken_for:
                raise taken_for("cannot be loaded") from error
    assert stop.value.number == signal.SIGTERM


def test_a_deadline_is_polled():
    with stop_on_signals():
        interrupt.set_deadline(time.monotonic() + 3600)
        poll()
        interrupt.set_deadline(time.monotonic() - 1)
        with pytest.raises(DeadlinePassed):
            poll()
    poll()


def test_waiting_for_a_verdict_is_left_when_a_stop_is_asked_for():
    answered: Future[int] = Future()
    answered.set_result(7)
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert result_of(answered) == 7  # what is there is taken
        with pytest.raises(Interrupted):
            result_of(Future())
    failed: Future[int] = Future()
    failed.set_exception(TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        result_of(failed)


def test_in_another_thread_there_are_no_signals_to_note():
    ran = []

    def work():
        with stop_on_signals():
            poll()
        ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == [True]


@pytest.mark.parametrize(
    ("owner", "name", "call", "saved"),
    [
        (loop, "roll_out", 1, []),  # nothing to save yet: the journal holds it
        (RolloutJournal, "add", 15, [2]),  # in the rollouts of step 3
        (loop, "score", 4, [3, 2]),
        (update, "learn_from", 3, None),
        (loop, "take_snapshot", 1, [2]),
        (saver, "write_snapshot", 1, [2]),
        (loop, "evaluate_model", 2, [3, 2]),
    ],
)
def test_a_stop_in_any_phase_is_saved_and_gone_on_from(
    owner, name, call, saved, whole, tmp_path, monkeypatch
):
    recipe = recipe_with(**SHORT)
    real, calls = getattr(owner, name), [0]

    def stopped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stopped)
        with pytest.raises(Interrupted, match="SIGTERM"):
            start(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    steps = checkpoint_steps(run)
    assert saved is None or steps == saved
    assert all(damage(run.checkpoint(step)) is None for step in steps)
    stop = read_log(run.events)[-1]
    assert (stop["event"], stop["reason"]) == ("stop", "SIGTERM")
    loop.train(recipe, run)
    assert trace(run, 4) == whole


def test_between_two_updates_of_a_batch_nothing_is_saved(tmp_path, monkeypatch):
    recipe = recipe_with(
        data=SHORT["data"],
        rollout=SHORT["rollout"],
        train=SHORT["train"] | {"updates_per_batch": 2},
        evaluate={"every": 4},
    )
    expected = trace(start(recipe, tmp_path / "whole"), 4)
    real, calls = loop.update, [0]

    def stopped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update", stopped)
        with pytest.raises(Interrupted, match="SIGINT"):
            start(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert checkpoint_steps(run) == [2]
    loop.train(recipe, run)
    assert trace(run, 4) == expected


def test_what_raises_is_noted_with_its_rollouts(tmp_path, monkeypatch):
    recipe = recipe_with(**SHORT)

    def broken(*args, **kwargs):
        raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update", broken)
        with pytest.raises(RuntimeError, match="boom"):
            start(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    failed = read_log(run.events)[-1]
    assert failed["event"] == "failed" and failed["error"] == "RuntimeError: boom"
    assert failed["rollouts"] == "rollouts/000001.jsonl.gz"
    assert len(read_log(run.path / failed["rollouts"])) == 6
    real, calls = RolloutJournal.add, [0]

    def add(self, *args):
        real(self, *args)
        calls[0] += 1
        if calls[0] == 2:
            raise RuntimeError("in the rollouts")

    monkeypatch.setattr(RolloutJournal, "add", add)
    with pytest.raises(RuntimeError):
        start(recipe, tmp_path / "other")
    failed = read_log(RunFolder(tmp_path / "other").events)[-1]
    assert failed["rollouts"] == "rollouts/000001.journal"
