"""Settings that move during a run: where they lie, what a schedule makes of them at a step, and all
values that they can come to, so that what is not possible, singly or together, is refused before
the run.

Several schedules by step of one key are pieces of one course: each counts from its first point on,
a gap between two of them holds the earlier one's last value, and before the first piece its first
value holds. What a trigger or the sentinel set stays from then on.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from open_rs.errors import InputError
from open_rs.recipe.schedules import Change, Schedule
from open_rs.recipe.schema import Recipe

Settings = dict[str, Any]  # a resolved recipe
CAP = "rollout.max_completion_tokens"
BAND = ("data.min_pass_rate", "data.max_pass_rate")


def locate(settings: Settings, key: str) -> tuple[dict[str, Any], str]:
    """The table that holds `key`, and its last part; `rewards.NAME.weight` finds its reward."""
    section, *middle, last = key.split(".")
    if not middle:
        return settings[section], last
    for reward in settings["rewards"]:
        if middle[0] == reward_name(reward):
            return reward, last
    known = ", ".join(reward_name(reward) for reward in settings["rewards"])
    raise InputError(f"{key}: no reward is named {middle[0]!r}; those there: {known}")


def reward_name(reward: Mapping[str, Any]) -> str:
    """As in the metrics: the type, or of a custom one the function."""
    if reward["type"] != "custom":
        return str(reward["type"])
    return str(reward["function"]).partition(":")[2]


def put(settings: Settings, values: Mapping[str, float]) -> Settings:
    """A copy of the settings with these values, whole numbers where the setting is one."""
    settings = deepcopy(settings)
    for key, value in values.items():
        place, last = locate(settings, key)
        place[last] = round(value) if isinstance(place[last], int) else value
    return settings


def pieces(schedules: Sequence[Schedule]) -> dict[str, list[Schedule]]:
    """The schedules by step of each key, in the order of their first steps."""
    found: dict[str, list[Schedule]] = {}
    for one in schedules:
        if one.points:
            found.setdefault(one.key, []).append(one)
    return {key: sorted(ones, key=lambda one: one.points[0]) for key, ones in found.items()}


def values_at(schedules: Sequence[Schedule], step: int) -> dict[str, float]:
    """What the schedules by step say of a step."""
    values = {}
    for key, ones in pieces(schedules).items():
        begun = [one for one in ones if one.points[0][0] <= step]
        values[key] = (begun[-1] if begun else ones[0]).value_at(step)
    return values


def refuse_overlaps(schedules: Sequence[Schedule]) -> None:
    """Two schedules of one key may not both say what a step has."""
    for key, ones in pieces(schedules).items():
        for before, after in pairwise(ones):
            last, first = before.points[-1][0], after.points[0][0]
            if first <= last:
                raise InputError(
                    f"schedules: two of {key} overlap, one up to step {last} and one from step "
                    f"{first} on; start the later one after step {last}, or join their points"
                )


def prospects(recipe: Recipe) -> Iterator[tuple[str, Settings]]:
    """(what brings it, the recipe with it) for every point of a schedule and every change."""
    resolved = recipe.model_dump(mode="json")
    for number, one in enumerate(recipe.schedules):
        for step, value in one.points:
            values = values_at(recipe.schedules, step)
            yield f"schedules.{number}, point [{step}, {value:g}]", put(resolved, values)
        if one.when:
            yield from changed(f"schedules.{number}", one, one.when.max_times, recipe, resolved)
    for number, change in enumerate(recipe.sentinel.changes):
        most = recipe.sentinel.max_roll_backs
        yield from changed(f"sentinel.changes.{number}", change, most, recipe, resolved)


def changed(
    name: str, change: Change | Schedule, most: int, recipe: Recipe, resolved: Settings
) -> Iterator[tuple[str, Settings]]:
    """A change made up to `most` times, from the recipe's value and from every scheduled one."""
    if change.to is not None:
        yield f"{name}, to = {change.to:g}", put(resolved, {change.key: change.to})
        return
    assert change.times is not None
    place, last = locate(resolved, change.key)
    bases = {float(place[last])}
    bases |= {value for one in recipe.schedules if one.key == change.key for _, value in one.points}
    for base in sorted(bases):
        for count in range(1, most + 1):
            value = base * change.times**count
            how = f"times = {change.times:g}" + (f" made {count} times" if count > 1 else "")
            yield f"{name}, {how}", put(resolved, {change.key: value})


# --- settings together ---


def turning_points(recipe: Recipe) -> list[int]:
    """The steps between which every scheduled setting is constant or a line: what holds of two
    settings at these holds at all.
    """
    points = {step for one in recipe.schedules for step, _ in one.points}
    last_held = {
        step - 1
        for one in recipe.schedules
        for step, _ in one.points
        if step > 1 and (one.between == "hold" or step == one.points[0][0])
    }
    return sorted({1, *points, *last_held})


@dataclass(frozen=True)
class Reach:
    """What a setting can be over a run: by plan, and whatever is triggered or rolled back."""

    planned: Mapping[int, float]  # by turning point
    set_to: frozenset[float]  # what triggers and changes start from or set; empty without any
    least: float  # factor that they can come to all together
    most: float

    def at(self, step: int) -> tuple[float, float]:
        """The least and the most that it can be at a step."""
        values = [self.planned[step]]
        values += [one * by for one in self.set_to for by in (self.least, self.most)]
        return min(values), max(values)

    def can_be_zero(self, step: int) -> bool:
        """Factors are above 0 and bring nothing to 0."""
        return self.planned[step] == 0 or 0 in self.set_to


def reach(recipe: Recipe, key: str) -> Reach:
    """A trigger may fire, and the run be rolled back, at any step and in any order."""
    own = [one for one in recipe.schedules if one.key == key]
    place, last = locate(recipe.model_dump(mode="json"), key)
    base = float(place[last])
    planned = {step: values_at(own, step).get(key, base) for step in turning_points(recipe)}
    moved: list[tuple[Change | Schedule, int]] = [
        (one, one.when.max_times) for one in own if one.when is not None
    ]
    most = recipe.sentinel.max_roll_backs
    moved += [(one, most) for one in recipe.sentinel.changes if one.key == key]
    factors = [(one.times, times) for one, times in moved if one.times is not None]
    set_to = {one.to for one, _ in moved if one.to is not None}
    return Reach(
        planned=planned,
        set_to=frozenset(set_to | set(planned.values()) if factors else set_to),
        least=math.prod(min(factor, 1.0) ** times for factor, times in factors),
        most=math.prod(max(factor, 1.0) ** times for factor, times in factors),
    )


def largest_cap(recipe: Recipe) -> int:
    """The most completion tokens that any schedule, trigger or change can ask for."""
    cap = reach(recipe, CAP)
    return round(max(cap.at(step)[1] for step in cap.planned))


def refuse_combinations(recipe: Recipe) -> None:
    """Settings that are possible one by one and not together, at some step of the run."""
    lowest, highest, cap = (reach(recipe, key) for key in (*BAND, CAP))
    weights = [reach(recipe, f"rewards.{name}.weight") for name in reward_names(recipe)]
    buffers = [one.overlong_buffer or 0 for one in recipe.rewards if one.type == "overlong"]
    steps = list(cap.planned)
    for step, later in zip(steps, [*steps[1:], steps[-1]], strict=True):
        at = f" at step {step}" if recipe.schedules else ""
        low, high, tokens = lowest.at(step)[1], highest.at(step)[0], round(cap.at(step)[0])
        if low > high:
            raise InputError(
                f"data.min_pass_rate can be {low:.3g} with a data.max_pass_rate of {high:.3g}{at}, "
                "which leaves no problem; keep the first at or below the second in all that "
                "schedules and sentinel.changes make of them"
            )
        if all(one.can_be_zero(step) and one.can_be_zero(later) for one in weights):
            raise InputError(
                f"rewards: every weight is 0, or can be{at}, so nothing can be learnt; weigh one, "
                "whatever schedules and sentinel.changes make of them"
            )
        if tokens < max(buffers, default=0):
            raise InputError(
                f"rewards: overlong_buffer is {max(buffers)} and {CAP} can be {tokens}{at}, so "
                "every completion would be punished for its length; lower it, or leave it out for "
                "a fifth of the cap"
            )


def reward_names(recipe: Recipe) -> list[str]:
    return [reward_name(one.model_dump()) for one in recipe.rewards]
