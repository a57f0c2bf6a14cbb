"""Settings that change during a run: by step, by trigger, or after an alarm of the sentinel."""

import difflib
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from open_rs.recipe.section import Section

# What the loop reads anew at every step. `rewards.NAME.weight` comes to these.
CHANGEABLE = (
    "rollout.max_completion_tokens",
    "rollout.temperature",
    "loss.kl_coef",
    "loss.clip_low",
    "loss.clip_high",
    "train.learning_rate",
    "data.min_pass_rate",
    "data.max_pass_rate",
)


def check_key(key: str) -> str:
    parts = key.split(".")
    weight = len(parts) == 3 and parts[0] == "rewards" and parts[2] == "weight"
    if key not in CHANGEABLE and not weight:
        raise ValueError(
            f"{key!r} cannot change during a run; those that can: {', '.join(CHANGEABLE)}, "
            "rewards.NAME.weight"
        )
    return key


Key = Annotated[str, Field(description="the dotted name of the setting")]


class Change(Section):
    """A setting's new value: `to`, or `times` the value that it has."""

    key: Key
    to: float | None = Field(None, description="the new value")
    times: float | None = Field(None, gt=0, description="factor on the value that it has")

    _known = field_validator("key")(check_key)

    @model_validator(mode="after")
    def one_of_both(self) -> Self:
        if (self.to is None) == (self.times is None):
            raise ValueError("a change needs exactly one of to, times")
        return self


class Trigger(Section):
    """The mean of a metric over the last steps is above, or below, a bound."""

    metric: str = Field(description='a key of metrics.jsonl, as "completion/truncated_frac"')
    above: float | None = Field(None, description="fires where the mean is above this")
    below: float | None = Field(None, description="fires where the mean is below this")
    steps: int = Field(10, ge=1, description="steps that are averaged, since the last firing")
    max_times: int = Field(1, ge=1, description="how often it may fire in a run")

    @model_validator(mode="after")
    def one_bound(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("a trigger needs exactly one of above, below")
        return self


class Schedule(Section):
    """A setting by step: `points` of [step, value], or a change `when` a trigger fires."""

    key: Key
    points: tuple[tuple[int, float], ...] = Field(
        (), description="[step, value] pairs; constant before the first and after the last"
    )
    between: Literal["linear", "hold"] = Field(
        "linear", description="between two points: a line, or the earlier value"
    )
    when: Trigger | None = Field(None, description="change once this fires")
    to: float | None = Field(None, description="with when: the new value")
    times: float | None = Field(None, gt=0, description="with when: factor on the value it has")

    _known = field_validator("key")(check_key)

    @model_validator(mode="after")
    def points_or_trigger(self) -> Self:
        if bool(self.points) == (self.when is not None):
            raise ValueError("a schedule needs exactly one of points, when")
        if (self.when is not None) != ((self.to is None) != (self.times is None)):
            raise ValueError("when needs exactly one of to, times; points need neither")
        steps = [step for step, _ in self.points]
        if steps and (steps[0] < 1 or any(after <= before for before, after in pairwise(steps))):
            raise ValueError(f"the steps {steps} of the points should rise from 1 or more")
        return self

    def value_at(self, step: int) -> float:
        """The value that `points` give at a step."""
        before = [point for point in self.points if point[0] <= step]
        after = [point for point in self.points if point[0] > step]
        if not before:
            return after[0][1]
        if not after or self.between == "hold":
            return before[-1][1]
        (left, low), (right, high) = before[-1], after[0]
        return low + (high - low) * (step - left) / (right - left)


# What `train.sentinel` watches for.
DETECTOR_NAMES = (
    "reward_drop",
    "reward_jump",
    "dead_groups",
    "length_up",
    "length_down",
    "truncation",
    "repetition",
    "language",
    "entropy_up",
    "kl",
    "engine_kl",
    "gradient_norm",
    "update_size",
    "clipping",
    "undecided",
    "held_out_drop",
    "nonfinite",
)


# Those that smaller steps can help: after the others, a lower rate would only cost progress.
TOO_FAST = (
    "reward_drop",
    "repetition",
    "entropy_up",
    "kl",
    "gradient_norm",
    "update_size",
    "clipping",
    "held_out_drop",
    "nonfinite",
)


def check_detectors(names: Iterable[str]) -> None:
    for name in names:
        if name not in DETECTOR_NAMES:
            close = difflib.get_close_matches(name, DETECTOR_NAMES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(DETECTOR_NAMES)}"
            raise ValueError(f"no detector is named {name!r}; {hint}")


Action = Literal["off", "warn", "pause", "roll_back", "stop"]


class SentinelChange(Change):
    """What is changed when the run is rolled back."""

    after: tuple[str, ...] = Field(
        (), description="only after alarms of these detectors; empty: after any"
    )

    @field_validator("after")
    @classmethod
    def of_detectors(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_detectors(names)
        return names


class SentinelRecipe(Section):
    """What happens when a series of the run leaves its course (`train.sentinel`)."""

    action: Action = Field(
        "warn",
        description="warn: say it and go on; pause: save and end with status 3; roll_back: go on "
        "from the last healthy checkpoint with `changes`; stop: save and end the training",
    )
    actions: dict[str, Action] = Field({}, description="another action for single detectors")
    changes: tuple[SentinelChange, ...] = Field(
        (SentinelChange(key="train.learning_rate", times=0.3, after=TOO_FAST),),
        description="made when the run is rolled back",
    )
    max_roll_backs: int = Field(3, ge=1, description="the next alarm pauses the run")
    healthy_margin: int = Field(
        10, ge=0, description="a checkpoint counts as healthy so many steps before the alarm"
    )

    @field_validator("actions")
    @classmethod
    def of_detectors(cls, actions: dict[str, Action]) -> dict[str, Action]:
        check_detectors(actions)
        return actions

    def action_for(self, detector: str) -> Action:
        return self.actions.get(detector, self.action)
