"""decisions.json: guarded against loss and damage, and what follows from it at a resume."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_guard import (  # noqa: F401 (the fixture works by its name)
    SMALL,
    events,
    resume,
    short_warm_up_and_fault,
    squeezed,
)
from test_resume import Killed, recipe_with, start

from open_rs.errors import GuardStop, InputError
from open_rs.recipe.metrics import metric_names
from open_rs.runs import RunFolder, append_jsonl, log_event, read_metrics
from open_rs.train import checkpoint, decisions, guard, loop
from open_rs.train.decisions import answered, copy_of, read_decisions, write_decisions
from open_rs.train.resume import recipe_to_resume

KEY = "train.learning_rate"
BACK = {
    "action": "roll_back", "from_step": 8, "to_step": 4, "detector": "kl", "cause": "kl at step 8",
    "changes": [{"step": 4, "key": KEY, "value": 3e-7}], "folder": 1, "done": True,
}  # fmt: skip


def pause_at(step: int, detector: str = "kl", action: str = "pause") -> dict:
    cause = f"{detector} at step {step}"
    return {
        "action": action,
        "from_step": step,
        "to_step": step,
        "detector": detector,
        "cause": cause,
    }


# --- the file ---


@pytest.fixture
def run(tmp_path):
    """A run that was rolled back and paused, as its events tell too."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    write_decisions(run, [BACK, pause_at(9)])
    log_event(run, "roll_back", 4)
    log_event(run, "stop", 9, reason="alarm")
    return run


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def another_value(path):
    path.write_text(path.read_text().replace("3e-07", "3e-05"))


@pytest.mark.parametrize("harm", [Path.unlink, flip, another_value])
def test_a_file_that_is_gone_or_damaged_is_taken_from_its_copy_and_said(run, harm, capsys):
    before = run.decisions.read_bytes()
    harm(run.decisions)
    assert read_decisions(run) == [BACK, pause_at(9)]
    assert (
        "decisions.json was gone or damaged and is taken from its copy" in capsys.readouterr().err
    )
    assert run.decisions.read_bytes() == before
    harm(copy_of(run))
    assert read_decisions(run) == [BACK, pause_at(9)]
    assert copy_of(run).read_bytes() == before


def test_an_older_file_put_back_does_not_hide_the_later_decision(run):
    rows = [BACK]
    run.decisions.write_text(json.dumps({"sha256": decisions.checksum(rows), "decisions": rows}))
    assert read_decisions(run) == [BACK, pause_at(9)]


@pytest.mark.parametrize("harm", [Path.unlink, flip])
@pytest.mark.parametrize("witness", ["events", "rolled_back"])
def test_without_file_and_copy_a_run_that_was_rolled_back_is_refused(run, harm, witness, capsys):
    if witness == "rolled_back":
        run.events.unlink()
        run.rolled_back(1).mkdir(parents=True)
    for path in (run.decisions, copy_of(run)):
        harm(path)
    with pytest.raises(
        InputError, match=r"decisions.json: is .*put it back, or .*--accept-changes"
    ):
        read_decisions(run)
    accepted = read_decisions(run, accept_changes=True)
    assert {one["action"] for one in accepted} == {"forgotten"}
    assert "is left" in capsys.readouterr().err
    assert read_decisions(run) == accepted  # it is asked for once
    training = SimpleNamespace(decisions=accepted, state=SimpleNamespace(changes=[]))
    assert guard.changes_of(training) == []


def test_a_run_without_decisions_has_no_file(tmp_path):
    run = RunFolder(tmp_path)
    log_event(run, "stop", 9, reason="budget")
    assert read_decisions(run) == [] and not run.decisions.exists()


def test_an_alarm_is_answered_until_a_roll_back_makes_its_step_anew():
    rows = [pause_at(5), pause_at(9, "held_out_drop", "stop")]
    assert answered(rows) == {("kl", 5), ("held_out_drop", 9)}
    assert answered([*rows, BACK | {"to_step": 6}]) == {("kl", 5)}


@pytest.mark.parametrize("place", ["rename", "write_bytes"])
def test_a_full_disk_in_a_roll_back_is_one_sentence_and_nothing_is_lost(run, monkeypatch, place):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    made = {step: run.rollouts(step) for step in (4, 5, 6)}
    made[5].parent.mkdir()
    for step, path in made.items():
        path.write_text(f"those of step {step}")
    run.metrics.write_text("all metrics")
    begun = [BACK | {"done": False}]
    write_decisions(run, begun)
    run.events.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(*((guard.Path, place) if place == "rename" else (guard, place)), full)
        with pytest.raises(
            InputError, match=r"roll-back to step 4 could not .*No space .*--resume"
        ):
            guard.decisions_at_start(run)
    assert read_decisions(run) == begun
    assert all(path.exists() for path in made.values())
    assert guard.decisions_at_start(run) == read_decisions(run) == [BACK]
    kept = run.rolled_back(1)
    assert [path.name for path in sorted((kept / "rollouts").iterdir())] == [
        made[5].name,
        made[6].name,
    ]
    assert made[4].exists() and (kept / "metrics.jsonl").read_text() == "all metrics"


def test_the_cure_names_the_key_that_holds(run):
    plain, own = (
        recipe_with(sentinel=one) for one in ({"action": "stop"}, {"actions": {"kl": "stop"}})
    )
    assert decisions.to_go_on(run, plain, "kl").endswith(
        f"--resume {run.path} sentinel.action=warn"
    )
    assert decisions.to_go_on(run, own, "kl").endswith("sentinel.actions.kl=warn")


def test_a_stop_counts_while_it_is_asked_for_and_the_run_stands_there(run):
    recipe, rows = recipe_with(sentinel={"actions": {"kl": "stop"}}), [pause_at(9, "kl", "stop")]
    append_jsonl(run.metrics, {"step": 9})
    assert decisions.ending(run, recipe, rows) == rows[-1]
    assert decisions.ending(run, recipe, [pause_at(9)]) is None
    assert decisions.ending(run, recipe, [*rows, BACK]) is None
    other = recipe_with(sentinel={"actions": {"kl": "pause"}})
    assert decisions.ending(run, other, rows) is None
    append_jsonl(run.metrics, {"step": 10})
    assert decisions.ending(run, recipe, rows) is None


# --- runs ---


def test_a_stop_stays_one_until_the_recipe_asks_for_something_else(tmp_path, capsys):
    recipe = squeezed(action="stop")
    run = start(recipe, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    told = r"truncation at step 8.*ended the training after step 8.*evaluate .*sentinel.action=warn"
    with pytest.raises(GuardStop, match=told):
        recipe_to_resume(run)
    loop.train(recipe, run)  # a pipeline goes on with the stages after it
    assert "this ended the training after step 8" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    resume(run, "sentinel.action=warn")
    assert read_metrics(run)[-1]["step"] == 10 and events(run, "finish")


def test_a_pause_that_was_killed_before_it_was_noted_is_made_up_for(tmp_path, monkeypatch):
    def die(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(guard, "write_decisions", die)
        with pytest.raises(Killed):
            start(squeezed(action="pause"), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.checkpoint(8).is_dir()
    with pytest.raises(GuardStop, match="paused after step 8"):
        resume(run)


@pytest.mark.parametrize("action", ["pause", "stop"])
def test_an_end_that_cannot_be_saved_says_so_and_is_made_up_for(
    tmp_path, monkeypatch, action, capsys
):
    real = checkpoint._write_parts

    def full(folder, snapshot, tokenizer):
        if snapshot.state.step == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(folder, snapshot, tokenizer)

    recipe = squeezed(action=action)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write_parts", full)
        with pytest.raises(GuardStop, match="after step 8, up to which step 6 is saved") as stop:
            start(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert checkpoint.checkpoint_steps(run) == [6, 4, 2] and "which is saved" not in str(stop.value)
    assert len(decisions.held_decisions(run)) == (action == "pause")  # a stop is to come yet
    resume(run)
    if action == "stop":
        assert read_metrics(run)[-1]["step"] == 8 and not events(run, "finish")
        assert [one["to_step"] for one in decisions.held_decisions(run)] == [8]
        assert checkpoint.checkpoint_steps(run)[0] == 8
        assert "the training ends here, after step 8, which is saved" in capsys.readouterr().err
    else:
        assert events(run, "finish")


def test_a_pause_by_the_held_out_score_lets_the_run_go_on_until_the_next_score(
    tmp_path, monkeypatch
):
    real, scores = loop.evaluate_model, {0: 0.9, 2: 0.5, 4: 0.4}

    def scored(*args, **settings):
        summary = real(*args, **settings)
        value = scores[settings["step"]]
        summary["scores"]["pass@1"] |= {"value": value, "low": value - 0.02, "high": value + 0.02}
        return summary

    monkeypatch.setattr(loop, "evaluate_model", scored)
    recipe = recipe_with(
        rollout=SMALL["rollout"],
        data={"train": {"task": "arithmetic", "count": 12, "levels": [1]}},
        train={"num_steps": 4, "save_every": 4},
        evaluate={"every": 2, "validation_samples": 2},
        sentinel={"action": "off", "actions": {"held_out_drop": "pause"}},
    )
    with pytest.raises(
        GuardStop, match=r"paused after step 2.*sentinel\.actions\.held_out_drop=warn"
    ):
        start(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    with pytest.raises(GuardStop, match="paused after step 4"):  # the next score is news
        resume(run)
    resume(run, "sentinel.actions.held_out_drop=warn")
    assert events(run, "finish")
    assert [row["step"] for row in events(run, "alarm")] == [2, 4]
    keys = {key for row in read_metrics(run) for key in row}
    assert keys <= {"step", *metric_names(recipe)}
