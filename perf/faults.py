"""Faults put into a training run, for perf/collapse.py. Each is in place within a `with` block."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from open_rs.problems import Problem
from open_rs.recipe.load import validated
from open_rs.recipe.moving import put
from open_rs.rollout.protocol import Rollout
from open_rs.scripts import outside_share
from open_rs.train import loop
from open_rs.train.guard import changes_of

Fault = Callable[[Any], AbstractContextManager[Any]]  # takes the Training
CAP = "rollout.max_completion_tokens"


def higher_rate(factor: float) -> Fault:
    """The optimizer's steps are `factor` times what the recipe plans."""

    def fault(training: Any) -> Any:
        plain = loop.learning_rate
        return patch.object(loop, "learning_rate", lambda *args: factor * plain(*args))

    return fault


def rewarded(add: Callable[[Any], float], *, keep: bool = True) -> Fault:
    """Rewards with something added to them, or put in their place."""

    def fault(training: Any) -> Any:
        plain = loop.score

        def score(groups: Any, *args: Any, **kwargs: Any) -> Any:
            report = plain(groups, *args, **kwargs)
            for rollout in rollouts_of(groups):
                if rollout.reward is not None:
                    rollout.reward = add(rollout) + (rollout.reward if keep else 0.0)
            return report

        return patch.object(loop, "score", score)

    return fault


def sampled(change: Callable[[list[Any]], None]) -> Fault:
    """Groups that were changed after they were sampled and graded."""

    def fault(training: Any) -> Any:
        plain = training.sampler.sample

        def sample(*args: Any, **kwargs: Any) -> Any:
            groups = plain(*args, **kwargs)
            change(groups)
            return groups

        return patch.object(training.sampler, "sample", sample)

    return fault


def setting(key: str, value: float) -> Fault:
    """A setting goes wrong, until a change of it is made."""

    def fault(training: Any) -> Any:
        plain = loop.settings_of

        def settings(training: Any, step: int) -> Any:
            now = plain(training, step)
            if any(row["key"] == key for row in changes_of(training)):
                return now
            return validated(put(now.model_dump(mode="json"), {key: value}), where="fault")

        return patch.object(loop, "settings_of", settings)

    return fault


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


FAULTS: dict[str, Fault] = {
    "learning rate x 30": higher_rate(30),
    "reward pays for length": rewarded(lambda rollout: 3 * rollout.num_tokens / 64),
    "reward pays for another script": rewarded(lambda rollout: 3 * script_paid(rollout, None)),  # type: ignore[arg-type]
    "rollouts in another group": sampled(mix),
    "engine keeps old weights": stale_weights,
    "cap cut to 24 tokens": setting(CAP, 24),
    "KL: learning rate x 100": higher_rate(100),
    "reward constant, dead groups": rewarded(lambda rollout: 0.0, keep=False),
    "NaN in the loss": not_a_number,
    "half of the golds wrong": wrong_golds,
    "grader times out on half": sampled(time_out),
}
LOWER = '{key = "train.learning_rate", times = 0.3}'  # the default change, after any alarm
# For `recover`: the fault, the changes at a roll-back, and whether the roll-back itself ends it.
# Weights of rewards and the cap go wrong as settings here, so that a change can put them right.
RECOVERIES: dict[str, tuple[Fault, str, bool]] = {
    name: (fault, "", True) for name, fault in FAULTS.items()
} | {
    "learning rate x 30": (higher_rate(30), LOWER, False),
    "KL: learning rate x 100": (higher_rate(100), LOWER, False),
    "reward pays for length": (
        setting("rewards.tokens_paid.weight", 3), '{key = "rewards.tokens_paid.weight", to = 0}',
        False,
    ),
    "reward pays for another script": (
        setting("rewards.script_paid.weight", 3), '{key = "rewards.script_paid.weight", to = 0}',
        False,
    ),
    "cap cut to 24 tokens": (setting(CAP, 24), f'{{key = "{CAP}", to = 64}}', False),
    "engine keeps old weights, lower rate": (stale_weights, LOWER, True),
}  # fmt: skip
