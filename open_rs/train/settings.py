"""The recipe as it holds at a step: schedules by step, and the changes that triggers and the
sentinel have made so far (`guard.changes_of`).

The loop asks for the recipe of its step and reads nothing else, so whatever may change is changed
in one place.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from open_rs.recipe import Change, Recipe, Schedule
from open_rs.recipe.load import validated
from open_rs.recipe.moving import locate, put, reward_name, values_at
from open_rs.train.schedule import learning_rate

Row = Mapping[str, Any]
MOVES_SERIES = ("rollout.", "rewards.", "data.")
JUMP = 0.1  # of a value in a step: slower ramps are followed as any drift is


def settings_at(recipe: Recipe, step: int, changes: Iterable[Row] = ()) -> Recipe:
    """The recipe with the values of `step`; `changes` are rows {"step", "key", "value"} in their
    order, and count from the step after their own.
    """
    values = values_of(recipe, step, changes)
    if not values:
        return recipe
    return validated(put(recipe.model_dump(mode="json"), values), where=f"step {step}")


def values_of(recipe: Recipe, step: int, changes: Iterable[Row]) -> dict[str, float]:
    """The settings of a step that schedules and changes set."""
    values = values_at(recipe.schedules, step)
    return values | {row["key"]: row["value"] for row in changes if row["step"] < step}


def changed_value(recipe: Recipe, change: Change | Schedule) -> float:
    """What a change makes of a setting, where `recipe` is that of the step."""
    if change.to is not None:
        return change.to
    assert change.times is not None
    place, last = locate(recipe.model_dump(mode="json"), change.key)
    return float(place[last] * change.times)


def fired(
    recipe: Recipe, metrics: Sequence[Row], changes: Sequence[Row]
) -> list[tuple[int, Schedule]]:
    """The schedules, by index, whose trigger fires after the last of these rows of metrics.

    A trigger sees the rows since it last fired and needs `steps` of them that hold its metric.
    """
    found = []
    for index, schedule in enumerate(recipe.schedules):
        when = schedule.when
        if when is None:
            continue
        earlier = [row["step"] for row in changes if row.get("schedule") == index]
        if len(earlier) >= when.max_times:
            continue
        since = max(earlier, default=0)
        seen = [row[when.metric] for row in metrics if row["step"] > since and when.metric in row][
            -when.steps :
        ]
        if len(seen) < when.steps:
            continue
        mean = sum(seen) / len(seen)
        above = when.above is not None and mean > when.above
        below = when.below is not None and mean < when.below
        if above or below:
            found.append((index, schedule))
    return found


def planned_rate(recipe: Recipe, step: int, changes: Iterable[Row] = ()) -> float:
    """The learning rate that the recipe means a step to have: its warm-up and cosine with what
    schedules and these changes make of the peak.
    """
    peak = values_of(recipe, step, changes).get("train.learning_rate", recipe.train.learning_rate)
    return learning_rate(step, recipe.train.model_copy(update={"learning_rate": peak}))


def jumps(recipe: Recipe, step: int) -> bool:
    """Whether the plan moves, at this step and by more than JUMP of its value, a setting of which
    the series of the metrics themselves are made: another cap makes other lengths.
    """
    updates = recipe.train.updates_per_batch
    if (step - 1) % updates:  # a batch has the settings of its first step
        return False
    now, before = values_at(recipe.schedules, step), values_at(recipe.schedules, step - updates)
    return any(
        key.startswith(MOVES_SERIES) and abs(value - before[key]) > JUMP * abs(before[key])
        for key, value in now.items()
    )


def moving_keys(recipe: Recipe) -> set[str]:
    """The settings that a schedule, a trigger or a roll-back can change."""
    return {one.key for one in recipe.schedules} | {one.key for one in recipe.sentinel.changes}


def scheduled_weights(recipe: Recipe, now: Recipe) -> dict[str, float]:
    """The weights of this step, by reward, that some schedule or change may move."""
    moving = moving_keys(recipe)
    weights = {reward_name(one.model_dump()): one.weight for one in now.rewards}
    return {name: one for name, one in weights.items() if f"rewards.{name}.weight" in moving}


def outside_band(now: Recipe, pass_rates: Mapping[str, float]) -> set[str]:
    """Problems whose pass rate is known and outside of what this step trains on."""
    low, high = now.data.min_pass_rate, now.data.max_pass_rate
    return {id for id, rate in pass_rates.items() if not low <= rate <= high}


def uses_band(recipe: Recipe) -> bool:
    """Whether problems are ever chosen by their pass rate."""
    stated = recipe.data.min_pass_rate > 0 or recipe.data.max_pass_rate < 1
    return stated or bool(moving_keys(recipe) & {"data.min_pass_rate", "data.max_pass_rate"})


def uses_kl(recipe: Recipe) -> bool:
    """Whether the frozen start is ever needed: now, by a schedule or after an alarm."""
    return recipe.loss.kl_coef > 0 or "loss.kl_coef" in moving_keys(recipe)
