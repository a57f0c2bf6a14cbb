"""Settings that move during a run: where they lie, what a schedule makes of them at a step, and all
values that they can come to, so that one that is not possible is refused before the run.

Several schedules by step of one key are pieces of one course: each counts from its first point on,
a gap between two of them holds the earlier one's last value, and before the first piece its first
value holds. What a trigger or the sentinel set stays from then on.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

from open_rs.errors import InputError
from open_rs.recipe.schedules import Change, Schedule
from open_rs.recipe.schema import Recipe

Settings = dict[str, Any]  # a resolved recipe


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
