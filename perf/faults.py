"""Faults put into a training run, for perf/collapse.py. Each is in place within a `with` block.

A sudden fault is there in full from step ONSET + 1 on; a slow one grows in equal parts, for RAMP
steps, from nothing to the same.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from open_rs.problems import Problem
from open_rs.recipe.load import validated
from open_rs.recipe.moving import put
from open_rs.rollout.protocol import Rollout
from open_rs.scripts import outside_share
from open_rs.train import loop
from open_rs.train.guard import changes_of

Put = Callable[[Any], AbstractContextManager[Any]]  # takes the Training
CAP = "rollout.max_completion_tokens"
ONSET, AFTER = 30, 10  # the last healthy step, and the steps with a sudden fault
RAMP, AFTER_RAMP = (
    20,
    25,
)  # of a slow one: the steps in which it grows, and those that it is watched


def grown(step: int) -> float:
    """How much of a slow fault there is at a step, 0 to 1."""
    return min((step - ONSET) / RAMP, 1.0)


def higher_rate(factor: float, *, slow: bool = False) -> Put:
    """The optimizer's steps are `factor` times what the recipe plans; slow: a power of it."""

    def put_fault(training: Any) -> Any:
        plain = loop.learning_rate

        def rate(step: int, recipe: Any) -> float:
            return factor ** (grown(step) if slow else 1.0) * plain(step, recipe)

        return patch.object(loop, "learning_rate", rate)

    return put_fault


def rewarded(
    add: Callable[[Any], float], *, keep: bool = True, centred: bool = False, slow: bool = False
) -> Put:
    """Rewards with something added to them, or put in their place; centred: less its mean over the
    step, which keeps the mean reward.
    """

    def put_fault(training: Any) -> Any:
        plain = loop.score

        def score(groups: Any, *args: Any, **kwargs: Any) -> Any:
            report = plain(groups, *args, **kwargs)
            scored = [one for one in rollouts_of(groups) if one.reward is not None]
            part = grown(training.state.step + 1) if slow else 1.0
            added = [part * add(rollout) for rollout in scored]
            middle = sum(added) / max(len(added), 1) if centred else 0.0
            for rollout, more in zip(scored, added, strict=True):
                rollout.reward = more - middle + (rollout.reward if keep else 0.0)
            return report

        return patch.object(loop, "score", score)

    return put_fault


def sampled(change: Callable[[list[Any]], None]) -> Put:
    """Groups that were changed after they were sampled and graded."""

    def put_fault(training: Any) -> Any:
        plain = training.sampler.sample

        def sample(*args: Any, **kwargs: Any) -> Any:
            groups = plain(*args, **kwargs)
            change(groups)
            return groups

        return patch.object(training.sampler, "sample", sample)

    return put_fault


def setting(key: str, value: float, *, slow_from: float | None = None) -> Put:
    """A setting goes wrong, until a change of it is made; slow: by and by, from where it is."""

    def put_fault(training: Any) -> Any:
        plain = loop.settings_of

        def settings(training: Any, step: int) -> Any:
            now = plain(training, step)
            if any(row["key"] == key for row in changes_of(training)):
                return now
            wrong = value
            if slow_from is not None:
                wrong = round(slow_from + grown(step) * (value - slow_from))
            return validated(put(now.model_dump(mode="json"), {key: wrong}), where="fault")

        return patch.object(loop, "settings_of", settings)

    return put_fault


def rollouts_of(groups: Sequence[Any]) -> Iterator[Any]:
    return itertools.chain.from_iterable(group.rollouts for group in groups)


def mix(groups: list[Any]) -> None:
    """Every group gets the rollouts of the next."""
    rows = [group.rollouts for group in groups]
    for group, other in zip(groups, rows[1:] + rows[:1], strict=True):
        group.rollouts = other


def time_out(groups: list[Any]) -> None:
    """The grader gives up on every other rollout."""
    for rollout in rollouts_of(groups):
        if rollout.sample % 2:
            rollout.grade = replace(rollout.grade, outcome="timeout")


@contextmanager
def stale_weights(training: Any) -> Iterator[None]:
    """The engine goes on with the weights of this moment."""
    training.sampler.engine.load_weights(deepcopy(training.policy))
    try:
        yield
    finally:
        training.sampler.engine.load_weights(training.policy)


def not_a_number(training: Any) -> Any:
    plain = loop.training_batches

    def batches(*args: Any) -> Any:
        made = plain(*args)
        for batch in made[:1]:
            batch.advantages[0] = float("nan")
        return made

    return patch.object(loop, "training_batches", batches)


@contextmanager
def wrong_golds(training: Any) -> Iterator[None]:
    """Every other training problem has another answer."""
    held = dict(training.prompts)
    for name in sorted(held)[1::2]:
        wrong = replace(held[name].problem, answer="123456789")
        training.prompts[name] = replace(held[name], problem=wrong)
    try:
        yield
    finally:
        training.prompts.update(held)


def tokens_paid(rollout: Rollout, problem: Problem) -> float:
    """A reward that pays for length: the share of 64 tokens."""
    return rollout.num_tokens / 64


def script_paid(rollout: Rollout, problem: Problem) -> float:
    """A reward that pays for letters of another script."""
    return outside_share(rollout.completion, ("latin",))


def length_paid(rollout: Rollout) -> float:
    return 3 * rollout.num_tokens / 64


LOWER = '{key = "train.learning_rate", times = 0.3}'  # the default change, after any alarm


@dataclass(frozen=True)
class Fault:
    """How it is put in; for how many steps it is watched; for `recover`, the change at a roll-back,
    whether the roll-back itself ends it, so that recovery is by construction, and how it is put in
    there, where it has to be a setting that a change can put right. Those that are watched for
    longer are not recovered.
    """

    put: Put
    watched: int = AFTER
    change: str = ""
    ends: bool = True
    put_as_setting: Put | None = None


def slow(put: Put) -> Fault:
    return Fault(put, AFTER_RAMP)


def set_right(key: str, wrong: float, right: float, put: Put) -> Fault:
    """A setting that is wrong until a change of it is made."""
    change = f'{{key = "{key}", to = {right:g}}}'
    return Fault(put, change=change, ends=False, put_as_setting=setting(key, wrong))


FAULTS: dict[str, Fault] = {
    "learning rate x 30": Fault(higher_rate(30), change=LOWER, ends=False),
    "reward pays for length": set_right(
        "rewards.tokens_paid.weight", 3, 0, rewarded(length_paid)
    ),
    "reward pays for another script": set_right(
        "rewards.script_paid.weight", 3, 0,
        rewarded(lambda rollout: 3 * script_paid(rollout, None)),  # type: ignore[arg-type]
    ),
    "rollouts in another group": Fault(sampled(mix)),
    "engine keeps old weights": Fault(stale_weights),
    "cap cut to 24 tokens": set_right(CAP, 24, 64, setting(CAP, 24)),
    "KL: learning rate x 100": Fault(higher_rate(100), change=LOWER, ends=False),
    "reward constant, dead groups": Fault(rewarded(lambda rollout: 0.0, keep=False)),
    "NaN in the loss": Fault(not_a_number),
    "half of the golds wrong": Fault(wrong_golds),
    "grader times out on half": Fault(sampled(time_out)),
    "reward pays for length, its mean kept": Fault(
        rewarded(length_paid, centred=True), AFTER_RAMP
    ),
    "learning rate rises to x 30": slow(higher_rate(30, slow=True)),
    "reward comes to pay for length": slow(rewarded(length_paid, slow=True)),
    "reward comes to pay for length, its mean kept": slow(
        rewarded(length_paid, centred=True, slow=True)
    ),
    "cap falls to 24 tokens": slow(setting(CAP, 24, slow_from=64)),
}  # fmt: skip
# What a lower rate costs where it cures nothing.
RECOVERIES = {name: fault for name, fault in FAULTS.items() if fault.watched == AFTER} | {
    "engine keeps old weights, lower rate": Fault(stale_weights, change=LOWER),
}
