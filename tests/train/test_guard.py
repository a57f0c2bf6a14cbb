"""Alarms, triggers and roll-backs in real runs of the shipped model, killed and resumed too."""

import json
import signal
from types import SimpleNamespace

import pytest
from test_resume import Killed, kill_at, recipe_with, start, trace

from open_rs import interrupt
from open_rs.errors import GuardStop
from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.runs import read_log, read_metrics
from open_rs.train import guard, loop, sentinel
from open_rs.train.checkpoint import checkpoint_steps
from open_rs.train.decisions import held_decisions, roll_backs
from open_rs.train.guard import evidence
from open_rs.train.resume import recipe_to_resume

CAP = "rollout.max_completion_tokens"
SQUEEZE = {"key": CAP, "points": [[5, 32], [6, 4]], "between": "hold"}
SMALL = {  # a step takes a tenth of a second
    "data": {"validation": None},
    "rollout": {"prompts_per_step": 2, "max_completion_tokens": 32},
}


@pytest.fixture(autouse=True)
def short_warm_up_and_fault(monkeypatch):
    put_in_place(monkeypatch)


def put_in_place(patch):
    """The detectors of a run of ten steps judge from step 5 on. Runs named "squeezed" have a fault:
    from step 6 on completions are cut after 4 tokens, and no recipe says so, until a change does.
    """
    plain = guard.settings_at

    def faulty(recipe, step, changes=()):
        now = plain(recipe, step, changes)
        if recipe.name != "squeezed" or step <= 5 or any(row["key"] == CAP for row in changes):
            return now
        return now.model_copy(
            update={"rollout": now.rollout.model_copy(update={"max_completion_tokens": 4})}
        )

    patch.setattr(sentinel, "WARM_UP", 4)
    patch.setattr(guard, "settings_at", faulty)


def squeezed(**settings):
    """Ten steps, truncation alone watched; `settings` of the sentinel."""
    silent = {one: "off" for one in sentinel.detector_names() if one != "truncation"}
    recipe = recipe_with(
        **SMALL,
        train={"num_steps": 10, "save_every": 2},
        sentinel={"actions": silent, "healthy_margin": 3} | settings,
    )
    return recipe.model_copy(update={"name": "squeezed"})


def events(run, name):
    return [row for row in read_log(run.events) if row["event"] == name]


def resume(run, *changes):
    loop.train(recipe_to_resume(run, changes), run)


def rolled(run):
    return roll_backs(held_decisions(run))


def test_an_alarm_is_told_with_its_evidence_and_the_run_goes_on(tmp_path):
    run = start(squeezed(), tmp_path / "run")
    assert read_metrics(run)[-1]["step"] == 10
    alarm, *more = events(run, "alarm")
    assert not more
    assert (alarm["detector"], alarm["step"], alarm["action"]) == ("truncation", 8, "warn")
    assert "completion/truncated_frac is 1, expected" in alarm["sentence"]
    assert len(alarm["rollouts"]) == 3
    assert all(one["num_tokens"] == 4 for one in alarm["rollouts"])


def test_a_schedule_sets_the_cap_of_each_step_and_is_no_alarm(tmp_path):
    recipe = recipe_with(
        **SMALL, train={"num_steps": 10, "save_every": 2}, schedules=[SQUEEZE],
        sentinel={"action": "roll_back", "healthy_margin": 3},
    )  # fmt: skip
    run = start(recipe, tmp_path / "run")
    longest = {row["step"]: row["completion/max_tokens"] for row in read_metrics(run)
               if "completion/max_tokens" in row}  # fmt: skip
    assert all(longest[step] > 4 for step in range(1, 6))
    assert all(longest[step] == 4 for step in range(6, 11))
    assert not events(run, "alarm")


def test_pause_saves_and_goes_on_when_resumed(tmp_path):
    recipe = squeezed(action="pause")
    with pytest.raises(GuardStop, match="paused after step 8, which is saved"):
        start(recipe, tmp_path / "run")
    run = loop.RunFolder(tmp_path / "run")
    assert run.checkpoint(8).is_dir() and read_metrics(run)[-1]["step"] == 8
    resume(run)
    assert events(run, "finish") and read_metrics(run)[-1]["step"] == 10
    warned = start(squeezed(), tmp_path / "warned")
    ours, theirs = trace(run, 10), trace(warned, 10)
    for files in (ours[2], theirs[2]):
        files.pop("trainer/origin.json")  # holds the recipe, in which the action differs
    assert ours == theirs  # the pause has changed nothing


def test_stop_ends_the_training_early_with_a_checkpoint(tmp_path):
    run = start(squeezed(action="stop"), tmp_path / "run")
    assert read_metrics(run)[-1]["step"] == 8 and run.checkpoint(8).is_dir()
    assert events(run, "stop")[0]["reason"] == "alarm" and not events(run, "finish")


def test_updates_larger_than_planned_are_found_in_the_warm_up_too(tmp_path, monkeypatch):
    plain = loop.learning_rate
    monkeypatch.setattr(
        loop, "learning_rate", lambda step, train: plain(step, train) * (30 if step > 8 else 1)
    )
    recipe = recipe_with(
        **SMALL,
        train={"num_steps": 13, "save_every": 13, "warmup_ratio": 0.9},
        sentinel={"actions": dict.fromkeys(sentinel.detector_names(), "off") | {LARGE: "warn"}},
    )
    run = start(recipe, tmp_path / "run")
    (alarm,) = events(run, "alarm")
    assert alarm["detector"] == LARGE and 11 <= alarm["step"] <= 13
    assert "optim/update_per_rate is" in alarm["sentence"]


LARGE = "update_size"
WIDER = {"action": "roll_back", "changes": [{"key": CAP, "to": 24}]}


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory):
    """The run that rolls back from step 8 to 4, and then goes on with a cap of 24."""
    with pytest.MonkeyPatch.context() as patch:
        put_in_place(patch)
        return start(squeezed(**WIDER), tmp_path_factory.mktemp("whole") / "run")


def test_roll_back_goes_on_from_a_healthy_checkpoint_with_the_change(rolled_back):
    run = rolled_back
    (entry,) = rolled(run)
    assert (entry["from_step"], entry["to_step"], entry["done"]) == (8, 4, True)
    assert entry["changes"] == [{"step": 4, "key": CAP, "value": 24}]
    rows = [row for row in read_metrics(run) if "completion/max_tokens" in row]
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert all(row["completion/max_tokens"] > 4 for row in rows)
    kept = run.rolled_back(1)
    assert {path.name for path in (kept / "rollouts").iterdir()} == {
        f"{step:06d}.jsonl.gz" for step in (5, 6, 7, 8)
    }
    assert read_log(kept / "metrics.jsonl")[-1]["step"] == 8
    assert events(run, "roll_back")[0]["cause"].startswith("truncation at step 8")


@pytest.mark.parametrize(
    "place",
    [
        "cleared",
        "later",
        pytest.param("begun", marks=pytest.mark.slow),
        pytest.param("restored", marks=pytest.mark.slow),
    ],
)
def test_a_roll_back_that_is_killed_is_completed(rolled_back, tmp_path, monkeypatch, place):
    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        if place == "begun":
            patch.setattr(guard, "complete_roll_back", die)
        elif place == "cleared":
            patch.setattr(guard, "restore", die)
        elif place == "restored":
            patch.setattr(guard, "say", lambda text: die() if text.startswith("rolled") else None)
        else:
            real = loop.learn
            patch.setattr(
                loop, "learn",
                lambda training, *args, **kwargs: die()
                if training.decisions and training.state.step == 6
                else real(training, *args, **kwargs),
            )  # fmt: skip
        with pytest.raises(Killed):
            start(squeezed(**WIDER), tmp_path / "run")
    run = loop.RunFolder(tmp_path / "run")
    if place == "later":  # the copy of the decisions tells what was changed
        run.decisions.write_bytes(run.decisions.read_bytes()[:-9])
    resume(run)
    assert trace(run, 10) == trace(rolled_back, 10)
    assert len(rolled(run)) == 1


@pytest.mark.parametrize("killed", ["drawn_groups", "training_batches"])  # journal, or record
def test_a_roll_back_to_the_step_before_takes_no_rollouts_that_it_has_put_away(
    tmp_path, monkeypatch, killed
):
    def observe(self, row):
        seen = row["step"] == 3 and row["completion/max_tokens"] > 4
        return [sentinel.Alarm(3, sentinel.DETECTORS[0], 0.0, 0.0)] if seen else []

    monkeypatch.setattr(sentinel.Sentinel, "observe", observe)
    recipe = recipe_with(
        **SMALL,
        train={"num_steps": 4, "save_every": 1},
        sentinel=WIDER | {"healthy_margin": 0, "changes": [{"key": CAP, "to": 4}]},
    )
    whole = start(recipe, tmp_path / "whole")
    assert [(one["from_step"], one["to_step"]) for one in rolled(whole)] == [(3, 2)]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, killed, 3, after=killed == "drawn_groups")
        start(recipe, tmp_path / "run")
    run = loop.RunFolder(tmp_path / "run")
    resume(run)
    assert trace(run, 4) == trace(whole, 4)


def test_what_a_stop_saved_moves_no_roll_back(rolled_back, tmp_path, monkeypatch):
    """Step 5 is no planned save; a run that nobody stopped goes back to step 4."""
    real = loop.learn

    def learn(training, *args, **kwargs):
        made = real(training, *args, **kwargs)
        if training.state.step == 5:
            interrupt.ask(signal.SIGTERM)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learn", learn)
        with pytest.raises(interrupt.Interrupted):
            start(squeezed(**WIDER), tmp_path / "run")
    run = loop.RunFolder(tmp_path / "run")
    assert checkpoint_steps(run) == [5, 4, 2]
    resume(run)
    assert [one["to_step"] for one in rolled(run)] == [4]
    assert trace(run, 10) == trace(rolled_back, 10)


def test_without_a_healthy_checkpoint_or_after_too_many_roll_backs_the_run_is_paused(tmp_path):
    with pytest.raises(GuardStop, match="no checkpoint before it is healthy"):
        start(squeezed(**WIDER, healthy_margin=7), tmp_path / "first")
    useless = squeezed(**WIDER | {"changes": []}, max_roll_backs=1)
    with pytest.raises(GuardStop, match="after 1 roll-backs"):
        start(useless, tmp_path / "second")


def test_an_alarm_that_comes_back_unchanged_pauses_instead_of_the_same_steps_again(tmp_path):
    with pytest.raises(GuardStop, match="back after a roll-back to step 4 that changed nothing"):
        start(squeezed(**WIDER | {"changes": []}), tmp_path / "run")
    assert len(rolled(loop.RunFolder(tmp_path / "run"))) == 1


def test_a_roll_back_undoes_what_an_earlier_one_changed_behind_its_place(tmp_path):
    key = "train.learning_rate"
    rows = [
        {
            "action": "roll_back",
            "to_step": step,
            "changes": [{"step": step, "key": key, "value": to}],
        }
        for step, to in ((20, 3e-7), (10, 9e-8))
    ]
    training = SimpleNamespace(decisions=rows, state=SimpleNamespace(changes=[]))
    assert guard.changes_of(training) == rows[1]["changes"]


@pytest.mark.parametrize(
    ("went_to", "alarm", "goes_to"),
    [
        ([], 22, 10),  # 22 - 10 is 12
        ([], 19, None),
        ([20], 22, 20),  # the alarm is back soon after a roll-back
        ([10, 20], 35, 20),
        ([10], 41, 30),  # long after it the margin counts
    ],
)
def test_the_checkpoint_of_the_last_roll_back_stays_healthy(
    tmp_path, monkeypatch, went_to, alarm, goes_to
):
    run = loop.RunFolder(tmp_path)
    for step in (10, 20, 30):
        run.checkpoint(step).mkdir(parents=True)
    decisions = [{"action": "roll_back", "to_step": step} for step in went_to]
    monkeypatch.setattr(guard, "damage", lambda folder: None)
    training = SimpleNamespace(
        run=run, recipe=recipe_with(), saver=SimpleNamespace(wait=int), decisions=decisions
    )
    found = sentinel.Alarm(alarm, sentinel.DETECTORS[0], 0.0, 0.0)
    assert guard.healthy_checkpoint(training, found) == goes_to


def test_a_trigger_changes_the_cap_and_survives_a_kill(tmp_path, monkeypatch):
    when = {"metric": "completion/truncated_frac", "above": 0.9, "steps": 2}
    recipe = recipe_with(
        data={"validation": None},
        rollout={"prompts_per_step": 2, "max_completion_tokens": 4},
        train={"num_steps": 6, "save_every": 2},
        schedules=[{"key": CAP, "when": when, "times": 10}],
    )
    whole = start(recipe, tmp_path / "whole")
    caps = [row["completion/max_tokens"] for row in read_metrics(whole)
            if "completion/max_tokens" in row]  # fmt: skip
    assert caps[:2] == [4, 4] and min(caps[2:]) > 4
    assert [row["value"] for row in events(whole, "change")] == [40]
    real = loop.learn
    with monkeypatch.context() as patch:

        def dying(training, *args, **kwargs):
            if training.state.step == 2:
                raise Killed
            return real(training, *args, **kwargs)

        patch.setattr(loop, "learn", dying)
        with pytest.raises(Killed):
            start(recipe, tmp_path / "run")
    run = loop.RunFolder(tmp_path / "run")
    resume(run)
    assert trace(run, 6) == trace(whole, 6)


def test_problems_are_chosen_by_their_pass_rate(tmp_path):
    curated = tmp_path / "run" / "curated"
    curated.mkdir(parents=True)
    problems = [
        {"id": f"p{n}", "problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(6)
    ]
    rates = [
        {"problem_id": f"p{n}", "correct": n, "decided": 5, "num_samples": 5} for n in range(6)
    ]
    for name, rows in (("problems", problems), ("pass_rates", rates)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (curated / f"{name}.jsonl").write_text(text)
    recipe = recipe_with(
        data={"train": None, "validation": None},
        rollout={"prompts_per_step": 2},
        train={"num_steps": 4, "save_every": 4},
        schedules=[
            {"key": "data.min_pass_rate", "points": [[2, 0.8], [3, 0.0]], "between": "hold"}
        ],
    )
    run = start(recipe, tmp_path / "run")
    drawn = [{row["problem_id"] for row in read_log(run.rollouts(step))} for step in range(1, 5)]
    assert drawn[0] == drawn[1] == {"p4", "p5"}
    assert (drawn[2] | drawn[3]) - {"p4", "p5"}


def test_evidence_is_what_shows_it_most():
    def rollout(sample, tokens, reward, text="", end="stop"):
        return Rollout([1] * tokens, [0.0] * tokens, text, end, sample=sample, reward=reward)

    group = RolloutGroup(
        Problem("p", "?", "!"), [1],
        [rollout(0, 9, 1.0), rollout(1, 3, None, "你好"), rollout(2, 30, 0.0, "word", "length"),
         rollout(3, 5, -1.0)],
    )  # fmt: skip
    first = {name: evidence(name, [group])[0]["sample"] for name in sentinel.detector_names()}
    assert first["length_up"] == first["truncation"] == first["repetition"] == 2
    assert first["length_down"] == first["undecided"] == first["language"] == 1
    assert first["reward_drop"] == first["kl"] == 3
