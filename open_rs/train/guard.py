"""What follows when a run leaves its course: alarms told with their evidence, settings changed by
triggers, the run paused, rolled back or stopped, as the recipe says.

Alarms and triggers are functions of the metrics, and the changes that they make are part of a
checkpoint's state, so a resumed run makes them again or finds them made. A roll-back cannot be
found that way, since it takes its metrics with it: `roll_backs.json` of the run holds it, first as
begun, then as done, so that one which was killed half-way is completed at the next start.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from open_rs.console import say
from open_rs.errors import GuardStop
from open_rs.recipe import Action, Recipe
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.runs import RunFolder, log_event, read_json, read_metrics, write_bytes, write_json
from open_rs.scripts import outside_share
from open_rs.train.checkpoint import checkpoint_steps, damage, remove_checkpoint, restore
from open_rs.train.metrics import NGRAM_SIZE, SCRIPT
from open_rs.train.resume import made_after, saved_metrics
from open_rs.train.reward_functions import repeated_share
from open_rs.train.sentinel import Alarm, Sentinel, with_plan
from open_rs.train.settings import (
    MOVES_SERIES,
    changed_value,
    fired,
    jumps,
    planned_rate,
    settings_at,
)
from open_rs.train.setup import Training

SHOWN = 3  # rollouts that an alarm names as its evidence
SEVERITY = ("off", "warn", "roll_back", "pause", "stop")


class Paused(Exception):
    """The sentinel pauses the run: save, and end with status 3."""


class Stopped(Exception):
    """The sentinel ends the training: save, and go on to evaluation."""


class RolledBack(Exception):
    """The run stands at an earlier checkpoint again, with settings changed."""


def follow(
    training: Training, row: Mapping[str, Any], groups: Sequence[RolloutGroup]
) -> list[Alarm]:
    """Show a row of metrics to the detectors, and tell the alarms that they raise.

    `groups` are the rollouts of the row's step, empty for a held-out score.
    """
    if groups and jumps(training.recipe, row["step"]):
        training.sentinel.learn_anew()
    alarms = training.sentinel.observe(planned(training, row))
    for alarm in alarms:
        name, wanted = alarm.detector.name, action_after(training.recipe, alarm)
        if wanted == "off":
            continue
        say(f"alarm: {alarm.sentence()}")
        log_event(
            training.run,
            "alarm",
            alarm.step,
            detector=name,
            series=alarm.detector.series,
            value=alarm.value,
            expected=alarm.expected,
            sentence=alarm.sentence(),
            action=wanted,
            rollouts=evidence(name, groups),
        )
    return alarms


def action_after(recipe: Recipe, alarm: Alarm) -> Action:
    return recipe.sentinel.actions.get(alarm.detector.name, recipe.sentinel.action)


def act(training: Training, alarms: Sequence[Alarm]) -> None:
    """The strongest of what the recipe wants after these alarms, once their step is complete."""
    if not alarms:
        return
    alarm = max(alarms, key=lambda one: SEVERITY.index(action_after(training.recipe, one)))
    action = action_after(training.recipe, alarm)
    if action in ("off", "warn"):
        return
    if action == "stop":
        raise Stopped(alarm.sentence())
    if action == "roll_back":
        step = healthy_checkpoint(training, alarm)
        done = read_roll_backs(training.run)
        if step is None:
            why = "no checkpoint before it is healthy"
        elif len(done) >= training.recipe.sentinel.max_roll_backs:
            why = f"after {len(done)} roll-backs"
        elif was_useless(done, alarm, step):
            why = f"it is back after a roll-back to step {step} that changed nothing"
        else:
            roll_back(training, alarm, step)
            raise RolledBack
        raise Paused(f"{alarm.sentence()} ({why})")
    raise Paused(alarm.sentence())


# --- evidence ---


def evidence(detector: str, groups: Sequence[RolloutGroup]) -> list[dict[str, Any]]:
    """The rollouts that show it most: problem id, sample and tokens."""
    weigh = SHOWS.get(detector, lowest_reward)
    rows = [(group, rollout) for group in groups for rollout in group.rollouts]
    rows.sort(key=lambda one: weigh(one[1]), reverse=True)
    return [
        {
            "problem_id": group.problem.id,
            "sample": rollout.sample,
            "num_tokens": rollout.num_tokens,
            "reward": rollout.reward,
        }
        for group, rollout in rows[:SHOWN]
    ]


def lowest_reward(rollout: Rollout) -> float:
    return float("-inf") if rollout.reward is None else -rollout.reward


SHOWS: dict[str, Callable[[Rollout], float]] = {
    "length_up": lambda rollout: rollout.num_tokens,
    "length_down": lambda rollout: -rollout.num_tokens,
    "truncation": lambda rollout: rollout.finish_reason == "length",
    "repetition": lambda rollout: repeated_share(rollout.completion_ids, NGRAM_SIZE),
    "language": lambda rollout: outside_share(rollout.completion, SCRIPT),
    "dead_groups": lambda rollout: rollout.advantage == 0,
    "undecided": lambda rollout: rollout.reward is None,
}


# --- settings that change ---


def settings_of(training: Training, step: int) -> Recipe:
    """The recipe as it holds at a step."""
    return settings_at(training.recipe, step, changes_of(training))


def changes_of(training: Training) -> list[dict[str, Any]]:
    """All changes so far, of triggers and of roll-backs, by step."""
    by_roll_backs: list[dict[str, Any]] = []
    for one in read_roll_backs(training.run):  # what was changed behind its place is undone by it
        by_roll_backs = [row for row in by_roll_backs if row["step"] <= one["to_step"]]
        by_roll_backs += one["changes"]
    return sorted([*training.state.changes, *by_roll_backs], key=lambda row: row["step"])


def pull_triggers(training: Training, step: int) -> None:
    """Make the changes of the schedules whose trigger fires after this step."""
    if not any(schedule.when for schedule in training.recipe.schedules):
        return
    rows, changes = read_metrics(training.run), changes_of(training)
    for index, schedule in fired(training.recipe, rows, changes):
        value = changed_value(settings_of(training, step + 1), schedule)
        change = {"step": step, "key": schedule.key, "value": value, "schedule": index}
        training.state.changes.append(change)
        say(f"schedule: {schedule.key} is {value:g} from step {step + 1} on")
        log_event(training.run, "change", step, key=schedule.key, value=value, cause="trigger")
        watch_again(training)


# --- roll-backs ---


def read_roll_backs(run: RunFolder) -> list[dict[str, Any]]:
    """The roll-backs of the run, oldest first."""
    held: list[dict[str, Any]] = read_json(run.roll_backs) if run.roll_backs.exists() else []
    return held


def healthy_checkpoint(training: Training, alarm: Alarm) -> int | None:
    """The newest intact checkpoint far enough before the alarm; None where there is none.

    The one that the last roll-back went to stays healthy: where the alarm comes back soon after it,
    what it went on with is at fault, and the changes are made once more.
    """
    training.saver.wait()
    went_to = [one["to_step"] for one in read_roll_backs(training.run)]
    latest = max(alarm.step - training.recipe.sentinel.healthy_margin, *went_to[-1:], 0)
    for step in checkpoint_steps(training.run):  # newest first
        if step <= latest and damage(training.run.checkpoint(step)) is None:
            return step
    return None


def was_useless(done: Sequence[Mapping[str, Any]], alarm: Alarm, step: int) -> bool:
    """Whether the last roll-back went to the same step after the same alarm and changed nothing:
    the same rollouts would come again, and with a lasting cause the same alarm.
    """
    last = done[-1] if done else {}
    same = (last.get("detector"), last.get("to_step")) == (alarm.detector.name, step)
    return same and not last["changes"]


def roll_back(training: Training, alarm: Alarm, step: int) -> None:
    """Put the run back to a checkpoint, with the recipe's changes; what came after it is kept under
    rolled_back/.
    """
    run, recipe = training.run, training.recipe
    now = settings_of(training, step + 1)
    changes = [
        {"step": step, "key": change.key, "value": changed_value(now, change)}
        for change in recipe.sentinel.changes
        if not change.after or alarm.detector.name in change.after
    ]
    entry = {
        "from_step": alarm.step,
        "to_step": step,
        "detector": alarm.detector.name,
        "cause": alarm.sentence(),
        "changes": changes,
        "done": False,
    }
    write_json(run.roll_backs, [*read_roll_backs(run), entry])
    complete_roll_back(run)
    training.state = restore(
        run.checkpoint(step), training.policy, training.optimizer, training.layout
    )
    training.find_place()
    write_bytes(run.metrics, saved_metrics(run, step))
    watch_again(training)
    told = ", ".join(f"{one['key']} = {one['value']:g}" for one in changes) or "no setting changed"
    say(f"rolled back from step {alarm.step} to {step}: {told}")
    log_event(run, "roll_back", step, from_step=alarm.step, cause=alarm.sentence(), changes=changes)


def complete_roll_back(run: RunFolder) -> None:
    """Move away what was made after the step that the last roll-back went to, if that is not done
    yet. Nothing is made meanwhile, so doing it twice is doing it once.
    """
    held = read_roll_backs(run)
    if not held or held[-1]["done"]:
        return
    step, kept = held[-1]["to_step"], run.rolled_back(len(held))
    kept.mkdir(parents=True, exist_ok=True)
    if run.metrics.exists():
        shutil.copy2(run.metrics, kept / run.metrics.name)
    for path in made_after(run, step):
        target = kept / path.relative_to(run.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for newer in checkpoint_steps(run):
        if newer > step:
            remove_checkpoint(run.checkpoint(newer))
    write_json(run.roll_backs, [*held[:-1], {**held[-1], "done": True}])


def watch_again(training: Training) -> None:
    """The sentinel as it is after the last row of the metrics.

    It knows the rows since a setting changed of which the series themselves are made: another cap
    makes other lengths. A learning rate does not, and what was normal before stays so. Held-out
    scores are taken in the same way all along, and the best one is not forgotten.
    """
    moved = {row["step"] for row in changes_of(training) if row["key"].startswith(MOVES_SERIES)}
    training.sentinel = Sentinel()
    before = 0
    for row in read_metrics(training.run):
        if row["step"] > before and (before in moved or jumps(training.recipe, row["step"])):
            training.sentinel.learn_anew()
        before = row["step"]
        training.sentinel.observe(planned(training, row))
    if before in moved:
        training.sentinel.learn_anew()


def planned(training: Training, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with its update beside the plan of the learning rate. What a roll-back changed is no
    plan: the smaller steps that it is meant to bring are to be seen.
    """
    rate = planned_rate(training.recipe, row["step"], training.state.changes) if row["step"] else 0
    return with_plan(row, rate)


def pause(training: Training, reason: object) -> GuardStop:
    """The end of a paused run, resumable."""
    run, step = training.run, training.state.step
    log_event(run, "stop", step, reason="alarm", cause=str(reason))
    return GuardStop(
        f"sentinel: {reason}; paused after step {step}, which is saved; look at its rollouts, then "
        f"open-rs train --resume {run.path}, with sentinel.action=warn to go on as it is"
    )
