"""The rewards of a recipe made ready, and the weighted sum of them.

A reward is a plain function of a graded rollout and its problem, and of its group where it takes a
keyword `group`. It returns a number, or None where it cannot say. None, an exception and a number
that is not finite leave the rollout undecided: it is counted and stays out of its group's mean; it
is never 0 or 1 by accident. No torch.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from open_rs.errors import InputError
from open_rs.interrupt import poll
from open_rs.plugins import load_function
from open_rs.recipe import CosineReward, CustomReward, OverlongReward, RewardSpec
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.train import reward_functions
from open_rs.train.isolation import IsolatedFailure, IsolatedFunction, sees_group

RewardFunction = Callable[..., float | None]

# `metrics.reward_metrics` says these of the sum, as reward/mean: no part may be called so
TAKEN_NAMES = ("mean", "std", "undecided_frac")
REPORTED_ROWS = 20  # undecided rollouts that a report names; it counts them all


class Reward(NamedTuple):
    """A reward ready for use; `name` is its key in `reward_breakdown` and in the metrics."""

    name: str
    weight: float
    function: RewardFunction
    sees_group: bool = False  # called with the keyword `group`
    sees_cap: bool = False  # ... with `max_completion_tokens`, where a schedule changes it


@dataclass
class ScoreReport:
    """What scoring says beside the rewards; `first_error` is what the first failing reward did."""

    undecided: int = 0
    first_error: str | None = None
    # of the first undecided rollouts: problem_id, sample, outcome of the grade
    undecided_rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # by reward
    weights: dict[str, float] = field(default_factory=dict)  # of this step, where scheduled

    def details(self) -> dict[str, Any]:
        """What could not be decided, for events.jsonl."""
        return {
            "count": self.undecided,
            "rows": self.undecided_rows,
            "first_error": self.first_error,
        }


@contextmanager
def open_rewards(
    specs: Iterable[RewardSpec], *, max_completion_tokens: int, template_opens_think: bool
) -> Iterator[list[Reward]]:
    """`build_rewards`, with the processes of isolated rewards started, and ended at the end."""
    with ExitStack() as stack:
        rewards = build_rewards(
            specs,
            max_completion_tokens=max_completion_tokens,
            template_opens_think=template_opens_think,
        )
        for reward in rewards:
            if isinstance(reward.function, IsolatedFunction):
                stack.enter_context(reward.function)
        yield rewards


def build_rewards(
    specs: Iterable[RewardSpec], *, max_completion_tokens: int, template_opens_think: bool
) -> list[Reward]:
    """The functions that the recipe names. InputError on a bad plug-in or name."""
    rewards = [build_reward(spec, max_completion_tokens, template_opens_think) for spec in specs]
    names = [reward.name for reward in rewards]
    taken = {*TAKEN_NAMES, *(f"{name}_weight" for name in names)}
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two rewards are named {name!r}; remove one or rename its function")
        if name in taken:
            raise InputError(f"reward/{name} is another metric; rename the function")
    return rewards


def build_reward(
    spec: RewardSpec, max_completion_tokens: int, template_opens_think: bool
) -> Reward:
    """One spec as a function: its settings by keyword, and what the run alone knows."""
    if isinstance(spec, CustomReward):
        name = spec.function.partition(":")[2]
        if spec.isolated:
            isolated = IsolatedFunction(spec.function, timeout_s=spec.timeout_s)
            return Reward(name, spec.weight, isolated, sees_group=True)
        function = load_function(spec.function)
        return Reward(name, spec.weight, function, sees_group(function))
    settings = spec.model_dump(exclude={"type", "weight"})
    if isinstance(spec, CosineReward | OverlongReward):
        settings["max_completion_tokens"] = max_completion_tokens
    if isinstance(spec, OverlongReward):
        buffer = spec.overlong_buffer
        if buffer is not None and buffer > max_completion_tokens:
            raise InputError(
                f"overlong_buffer is {buffer}, above max_completion_tokens "
                f"{max_completion_tokens}; lower it"
            )
    if spec.type == "format":
        settings["template_opens_think"] = template_opens_think
    shipped = getattr(reward_functions, f"{spec.type}_reward")
    sees_cap = "max_completion_tokens" in settings
    function = partial(shipped, **settings)
    return Reward(spec.type, spec.weight, function, sees_group(shipped), sees_cap)


def score(
    groups: Iterable[RolloutGroup],
    rewards: Sequence[Reward],
    *,
    scheduled: Mapping[str, float] | None = None,
    max_completion_tokens: int | None = None,
) -> ScoreReport:
    """Fill `reward_breakdown` (unweighted) and `reward` (the weighted sum) of every rollout.

    `scheduled`: weights of this step, by name, in place of the rewards' own;
    `max_completion_tokens`: the cap of this step, where it is not the recipe's. `reward` is None
    where a part with non-zero weight could not be decided, or the sum overflows.
    """
    weights = {reward.name: reward.weight for reward in rewards} | dict(scheduled or {})
    report = ScoreReport(
        seconds={reward.name: 0.0 for reward in rewards}, weights=dict(scheduled or {})
    )
    cap = {} if max_completion_tokens is None else {"max_completion_tokens": max_completion_tokens}
    for group in groups:
        for rollout in group.rollouts:
            poll()
            rollout.reward_breakdown = {}
            for reward in rewards:
                started = time.perf_counter()
                value, error = evaluate(reward, rollout, group, cap)
                report.seconds[reward.name] += time.perf_counter() - started
                rollout.reward_breakdown[reward.name] = value
                report.first_error = report.first_error or error
            rollout.reward = weighted_sum(rollout.reward_breakdown, weights)
            if rollout.reward is not None and not math.isfinite(rollout.reward):
                report.first_error = report.first_error or (
                    f"the weighted sum of rewards is {rollout.reward} on {row_name(rollout, group)}"
                )
                rollout.reward = None
            if rollout.reward is None:
                note_undecided(report, rollout, group)
    return report


def unscored(groups: Iterable[RolloutGroup], *, whole: bool) -> list[RolloutGroup]:
    """The groups in which a rollout was not scored yet: `whole`, or only such rollouts of them."""
    found = []
    for group in groups:
        new = [rollout for rollout in group.rollouts if not rollout.reward_breakdown]
        if new:
            found.append(group if whole else RolloutGroup(group.problem, group.prompt_ids, new))
    return found


def note_undecided(report: ScoreReport, rollout: Rollout, group: RolloutGroup) -> None:
    """Count a rollout without a reward, and name it where there is room."""
    report.undecided += 1
    if len(report.undecided_rows) < REPORTED_ROWS:
        outcome = rollout.grade.outcome if rollout.grade else None
        row = {"problem_id": group.problem.id, "sample": rollout.sample, "outcome": outcome}
        report.undecided_rows.append(row)


def row_name(rollout: Rollout, group: RolloutGroup) -> str:
    return f"problem {group.problem.id}, sample {rollout.sample}"


def evaluate(
    reward: Reward, rollout: Rollout, group: RolloutGroup, cap: Mapping[str, int]
) -> tuple[float | None, str | None]:
    """(value, None), (None, None) where the reward abstains, (None, what went wrong) else."""
    where = f"reward {reward.name!r} on {row_name(rollout, group)}"
    seen: dict[str, Any] = {"group": group} if reward.sees_group else {}
    if reward.sees_cap:
        seen |= cap
    try:
        returned = reward.function(rollout, group.problem, **seen)
        value = None if returned is None else float(returned)
    except IsolatedFailure as failure:
        return None, f"{where} {failure}"
    except (Exception, SystemExit) as error:  # of the user's code; it is counted and reported
        return None, f"{where} raised {type(error).__name__}: {error}"
    if value is not None and not math.isfinite(value):
        return None, f"{where} returned {value}"
    return value, None


def weighted_sum(breakdown: dict[str, float | None], weights: dict[str, float]) -> float | None:
    """sum_k weight_k part_k over the parts that weigh, None if one of them is undecided."""
    total = 0.0
    for name, weight in weights.items():
        part = breakdown[name]
        if weight == 0:
            continue
        if part is None:
            return None
        total += weight * part
    return total
