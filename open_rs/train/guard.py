"""What follows when a run leaves its course: alarms told with their evidence, settings changed by
triggers, the run paused, rolled back or stopped, as the recipe says.

Alarms and triggers are functions of the metrics, and the changes that they make are part of a
checkpoint's state, so a resumed run makes them again or finds them made. What followed from an
alarm cannot be found that way: `decisions` holds it, a roll-back first as begun, then as done, so
that one which was killed half-way is completed at the next start.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from open_rs.console import say
from open_rs.errors import GuardStop, InputError
from open_rs.recipe import Recipe
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.runs import RunFolder, log_event, read_metrics, write_bytes
from open_rs.scripts import outside_share
from open_rs.train.checkpoint import (
    checkpoint_steps,
    damage,
    planned_steps,
    remove_checkpoint,
    restore,
)
from open_rs.train.decisions import (
    Decision,
    answered,
    last_folder,
    read_decisions,
    roll_backs,
    to_go_on,
    write_decisions,
)
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


class Ended(Exception):
    """An alarm ends the steps, as the recipe asks; `why` where it asks for something else."""

    def __init__(self, alarm: Alarm, why: str = "") -> None:
        super().__init__(alarm.sentence() + (f" ({why})" if why else ""))
        self.alarm = alarm


class Paused(Ended):
    """The sentinel pauses the run: save, and end with status 3."""


class Stopped(Ended):
    """The sentinel ends the training: save, and go on to evaluation."""


class RolledBack(Exception):
    """The run stands at an earlier checkpoint again, with settings changed."""


def follow(
    training: Training, row: Mapping[str, Any], groups: Sequence[RolloutGroup]
) -> list[Alarm]:
    """Show a row of metrics to the detectors, and tell the alarms that they raise.

    `groups` are the rollouts of the row's step, empty for a held-out score.
    """
    if groups and begins_anew(training, row["step"]):
        training.sentinel.learn_anew()
    alarms = to_answer(training, training.sentinel.observe(planned(training, row)))
    for alarm in alarms:
        name = alarm.detector.name
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
            action=training.recipe.sentinel.action_for(name),
            rollouts=evidence(name, groups),
        )
    return alarms


def to_answer(training: Training, alarms: Sequence[Alarm]) -> list[Alarm]:
    """The alarms that count: of detectors that are on, and not those after which the run was ended
    and the user has resumed it.
    """
    seen, recipe = answered(training.decisions), training.recipe
    return [
        alarm
        for alarm in alarms
        if recipe.sentinel.action_for(alarm.detector.name) != "off"
        and (alarm.detector.name, alarm.step) not in seen
    ]


def act(training: Training, alarms: Sequence[Alarm]) -> None:
    """The strongest of what the recipe wants after these alarms, once their step is complete."""
    if not alarms:
        return
    wanted = {one: training.recipe.sentinel.action_for(one.detector.name) for one in alarms}
    alarm = max(alarms, key=lambda one: SEVERITY.index(wanted[one]))
    if wanted[alarm] in ("off", "warn"):
        return
    if wanted[alarm] == "stop":
        raise Stopped(alarm)
    if wanted[alarm] == "roll_back":
        step = healthy_checkpoint(training, alarm)
        done = roll_backs(training.decisions)
        if step is None:
            why = "no checkpoint before it is healthy"
        elif len(done) >= training.recipe.sentinel.max_roll_backs:
            why = f"after {len(done)} roll-backs"
        elif was_useless(done, alarm, step):
            why = f"it is back after a roll-back to step {step} that changed nothing"
        else:
            roll_back(training, alarm, step)
            raise RolledBack
        raise Paused(alarm, why)
    raise Paused(alarm)


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
    for one in roll_backs(training.decisions):  # what was changed behind its place is undone by it
        by_roll_backs = [row for row in by_roll_backs if row["step"] <= one["to_step"]]
        by_roll_backs += one["changes"]
    return sorted([*training.state.changes, *by_roll_backs], key=lambda row: row["step"])


def pull_triggers(training: Training, step: int) -> None:
    """Make the changes of the schedules whose trigger fires after this step. They count from the
    next batch that is not drawn yet.
    """
    recipe = training.recipe
    if not any(schedule.when for schedule in recipe.schedules):
        return
    rows, changes = read_metrics(training.run), changes_of(training)
    after = step + recipe.rollout.staleness * recipe.train.updates_per_batch
    for index, schedule in fired(recipe, rows, changes):
        value = changed_value(settings_of(training, after + 1), schedule)
        change = {"step": after, "key": schedule.key, "value": value, "schedule": index}
        training.state.changes.append(change)
        say(f"schedule: {schedule.key} is {value:g} from step {after + 1} on")
        log_event(training.run, "change", step, key=schedule.key, value=value, cause="trigger")
        watch_again(training)


# --- roll-backs ---


def healthy_checkpoint(training: Training, alarm: Alarm) -> int | None:
    """The newest intact checkpoint far enough before the alarm; None where there is none. Those
    that a stop saved do not count.

    The one that the last roll-back went to stays healthy: where the alarm comes back soon after it,
    what it went on with is at fault, and the changes are made once more.
    """
    training.saver.wait()
    went_to = [one["to_step"] for one in roll_backs(training.decisions)]
    latest = max(alarm.step - training.recipe.sentinel.healthy_margin, *went_to[-1:], 0)
    for step in planned_steps(training.run):  # newest first
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
        "action": "roll_back",
        "from_step": alarm.step,
        "to_step": step,
        "detector": alarm.detector.name,
        "cause": alarm.sentence(),
        "changes": changes,
        "folder": last_folder(run) + 1,
        "done": False,
    }
    training.decisions.append(entry)
    write_decisions(run, training.decisions)
    training.journal.forget()
    complete_roll_back(run, training.decisions)
    training.state = restore(
        run.checkpoint(step), training.policy, training.optimizer, training.layout
    )
    training.find_place()
    write_bytes(run.metrics, saved_metrics(run, step))
    told = ", ".join(f"{one['key']} = {one['value']:g}" for one in changes) or "no setting changed"
    say(f"rolled back from step {alarm.step} to {step}: {told}")
    log_event(run, "roll_back", step, from_step=alarm.step, cause=alarm.sentence(), changes=changes)


def decisions_at_start(run: RunFolder, *, accept_changes: bool = False) -> list[Decision]:
    """The run's decisions, the last of them carried out."""
    decisions = read_decisions(run, accept_changes=accept_changes)
    complete_roll_back(run, decisions)
    return decisions


def complete_roll_back(run: RunFolder, decisions: list[Decision]) -> None:
    """Move away what was made after the step that the last roll-back went to, if that is not done
    yet. Nothing is made meanwhile, so doing it twice is doing it once.
    """
    if not decisions or decisions[-1].get("done", True):
        return
    last = decisions[-1]
    try:
        move_away(run, last["to_step"], run.rolled_back(last["folder"]))
        write_decisions(run, [*decisions[:-1], {**last, "done": True}])
    except (OSError, InputError) as error:
        raise InputError(
            f"{run.path}: the roll-back to step {last['to_step']} could not be completed "
            f"({error}); nothing is lost: free space, or make the folder writable, then open-rs "
            f"train --resume {run.path}, which completes it"
        ) from error
    last["done"] = True


def move_away(run: RunFolder, step: int, kept: Path) -> None:
    """What was made after `step` goes to the folder `kept`, with a copy of all metrics."""
    if run.metrics.exists():
        write_bytes(kept / run.metrics.name, run.metrics.read_bytes())
    for path in made_after(run, step):
        target = kept / path.relative_to(run.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for newer in checkpoint_steps(run):
        if newer > step:
            remove_checkpoint(run.checkpoint(newer))


def watch_again(training: Training) -> list[Alarm]:
    """The sentinel as it is after the last row of the metrics, and the alarms of the last batch
    that nothing has followed from yet: the run was killed, or saved by a signal, before it could.

    It knows the rows since a setting changed of which the series themselves are made: another cap
    makes other lengths. A learning rate does not, and what was normal before stays so. Held-out
    scores are taken in the same way all along, and the best one is not forgotten.
    """
    moved = steps_moved(training)
    training.sentinel = Sentinel()
    before, alarms = 0, list[Alarm]()
    for row in read_metrics(training.run):
        if row["step"] > before and (before in moved or jumps(training.recipe, row["step"])):
            training.sentinel.learn_anew()
        before = row["step"]
        alarms += training.sentinel.observe(planned(training, row))
    if before in moved:
        training.sentinel.learn_anew()
    since = training.state.step - training.recipe.train.updates_per_batch
    return to_answer(training, [alarm for alarm in alarms if alarm.step > since])


def begins_anew(training: Training, step: int) -> bool:
    """Whether a setting of which the series themselves are made is another one from this step."""
    return step - 1 in steps_moved(training) or jumps(training.recipe, step)


def steps_moved(training: Training) -> set[int]:
    """The steps after which a trigger or a roll-back has moved such a setting."""
    return {row["step"] for row in changes_of(training) if row["key"].startswith(MOVES_SERIES)}


def planned(training: Training, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with its update beside the plan of the learning rate. What a roll-back changed is no
    plan: the smaller steps that it is meant to bring are to be seen.
    """
    rate = planned_rate(training.recipe, row["step"], training.state.changes) if row["step"] else 0
    return with_plan(row, rate)


# --- ends ---


def note_end(training: Training, end: Ended, action: str) -> None:
    """What ended the steps, once their last one is saved."""
    name, step = end.alarm.detector.name, training.state.step
    decision = {
        "action": action,
        "from_step": end.alarm.step,
        "to_step": step,
        "detector": name,
        "cause": str(end),
    }
    training.decisions.append(decision)
    write_decisions(training.run, training.decisions)
    log_event(
        training.run, "stop", step, reason="alarm", action=action, detector=name, cause=str(end)
    )


def pause(training: Training, end: Paused) -> GuardStop:
    """The end of a paused run, resumable."""
    run, name = training.run, end.alarm.detector.name
    note_end(training, end, "pause")
    return GuardStop(
        f"sentinel: {end}; paused {training.budget.kept}; look at its rollouts, then go on by "
        f"open-rs train --resume {run.path}, or without a pause at later alarms by "
        f"{to_go_on(run, training.recipe, name)}"
    )


def end_for_good(training: Training, end: Stopped) -> None:
    """The training ends here, and the stages after it follow. Where its last step could not be
    saved there is nothing that they could take: the run is to be resumed, and ends then.
    """
    step, budget = training.state.step, training.budget
    if step not in checkpoint_steps(training.run):
        budget.note_stop("unsaved", cause=str(end))
        raise GuardStop(
            f"sentinel: {end}; this ends the training, but it stopped {budget.kept}: mend what "
            f"kept step {step} from being saved, then {budget.way_on()}, which ends it"
        )
    note_end(training, end, "stop")
    say(f"sentinel: {end}; the training ends here, {budget.kept}")
