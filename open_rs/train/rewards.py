"""Rewards: plain functions of a graded rollout and its problem, and the weighted sum of them.

A reward function returns a number, or None where it cannot say. None, an exception and a number
that is not finite leave the rollout undecided: it is counted and stays out of its group's mean; it
is never 0 or 1 by accident. Lengths are in tokens. No torch.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from open_rs.errors import InputError
from open_rs.grade import Grade
from open_rs.plugins import load_function
from open_rs.problems import Problem
from open_rs.recipe import CosineReward, CustomReward, OverlongReward, RewardSpec
from open_rs.rollout.protocol import Rollout, RolloutGroup

RewardFunction = Callable[[Rollout, Problem], float | None]

# `metrics.reward_metrics` says these of the sum, as reward/mean: no part may be called so
TAKEN_NAMES = ("mean", "std", "undecided_frac")


class Reward(NamedTuple):
    """A reward ready for use; `name` is its key in `reward_breakdown` and in the metrics."""

    name: str
    weight: float
    function: RewardFunction


@dataclass(frozen=True)
class ScoreReport:
    """What scoring could not decide; `first_error` says what the first failing reward did."""

    undecided: int
    first_error: str | None


def accuracy_reward(rollout: Rollout, problem: Problem) -> float | None:
    """1 if the answer is correct, 0 if wrong or missing, None if the grader could not decide."""
    grade = grade_of(rollout)
    return float(grade.correct) if grade.decided else None


def format_reward(rollout: Rollout, problem: Problem, *, template_opens_think: bool) -> float:
    """1 if the whole completion is one closed, non-empty thought and then a non-empty answer.

    `<think>`, thought, `</think>`, answer, with nothing before and each tag once. Where the chat
    template ends the prompt with `<think>` (`template_opens_think`), the completion begins inside
    the thought. Tags `<answer>` around the answer are welcome but are not an answer themselves.
    """
    text = rollout.completion.strip()
    if not template_opens_think:
        if not text.startswith("<think>"):
            return 0.0
        text = text.removeprefix("<think>")
    if "<think>" in text or text.count("</think>") != 1:
        return 0.0
    thought, answer = text.split("</think>")
    answer = answer.replace("<answer>", "").replace("</answer>", "")
    return 1.0 if thought.strip() and answer.strip() else 0.0


def cosine_reward(
    rollout: Rollout,
    problem: Problem,
    *,
    max_completion_tokens: int,
    max_correct: float = 1.0,
    min_correct: float = 0.5,
    min_wrong: float = -0.5,
    max_wrong: float = 0.0,
    truncated: float | None = None,
) -> float | None:
    """end + (start - end) (1 + cos(pi L / L_max)) / 2, L in tokens, clamped to [0, L_max].

    Correct: start = max_correct, end = min_correct. Wrong: start = min_wrong, end = max_wrong. So
    shorter correct answers earn more and longer wrong ones lose less (arXiv 2502.03373, C.1). A
    completion that was cut off earns `truncated` where that is set. None where undecided.
    """
    grade = grade_of(rollout)
    if not grade.decided:
        return None
    if truncated is not None and rollout.finish_reason == "length":
        return truncated
    progress = min(len(rollout.completion_ids) / max_completion_tokens, 1.0)
    start, end = (max_correct, min_correct) if grade.correct else (min_wrong, max_wrong)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def soft_overlong_penalty(
    length: int, *, max_completion_tokens: int, overlong_buffer: int
) -> float:
    """0 up to L_max - buffer, then linear to -1 at L_max, -1 beyond; lengths in tokens.

    DAPO's soft overlong punishment, arXiv 2503.14476, eq. 13.
    """
    over = length - (max_completion_tokens - overlong_buffer)
    return -min(max(over / overlong_buffer, 0.0), 1.0)


def overlong_reward(
    rollout: Rollout, problem: Problem, *, max_completion_tokens: int, overlong_buffer: int
) -> float:
    """`soft_overlong_penalty` of the completion's tokens."""
    return soft_overlong_penalty(
        len(rollout.completion_ids),
        max_completion_tokens=max_completion_tokens,
        overlong_buffer=overlong_buffer,
    )


def grade_of(rollout: Rollout) -> Grade:
    """The grade, which must be there before any reward is asked for."""
    if rollout.grade is None:
        raise ValueError("the rollout has no grade; grade before scoring")
    return rollout.grade


def build_rewards(
    specs: Iterable[RewardSpec], *, max_completion_tokens: int, template_opens_think: bool
) -> list[Reward]:
    """The functions that the recipe names. InputError on a bad plug-in or name."""
    rewards = [build_reward(spec, max_completion_tokens, template_opens_think) for spec in specs]
    names = [reward.name for reward in rewards]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two rewards are named {name!r}; remove one or rename its function")
        if name in TAKEN_NAMES:
            raise InputError(f"reward/{name} is a metric of the whole reward; rename the function")
    return rewards


def build_reward(
    spec: RewardSpec, max_completion_tokens: int, template_opens_think: bool
) -> Reward:
    """One spec as a function."""
    function: RewardFunction
    if isinstance(spec, CustomReward):
        function = load_function(spec.function)
        return Reward(spec.function.partition(":")[2], spec.weight, function)
    if isinstance(spec, CosineReward):
        values = spec.model_dump(exclude={"type", "weight"})
        function = partial(cosine_reward, max_completion_tokens=max_completion_tokens, **values)
    elif isinstance(spec, OverlongReward):
        buffer = spec.overlong_buffer or max(1, max_completion_tokens // 5)
        if buffer > max_completion_tokens:
            raise InputError(
                f"overlong_buffer is {buffer}, above max_completion_tokens "
                f"{max_completion_tokens}; lower it"
            )
        function = partial(
            overlong_reward, max_completion_tokens=max_completion_tokens, overlong_buffer=buffer
        )
    elif spec.type == "format":
        function = partial(format_reward, template_opens_think=template_opens_think)
    else:
        function = accuracy_reward
    return Reward(spec.type, spec.weight, function)


def score(groups: Iterable[RolloutGroup], rewards: Sequence[Reward]) -> ScoreReport:
    """Fill `reward_breakdown` (unweighted) and `reward` (the weighted sum) of every rollout.

    `reward` is None where a part with non-zero weight could not be decided, or the sum overflows.
    """
    undecided, first_error = 0, None
    for group in groups:
        for rollout in group.rollouts:
            rollout.reward_breakdown = {}
            for reward in rewards:
                value, error = evaluate(reward, rollout, group.problem)
                rollout.reward_breakdown[reward.name] = value
                first_error = first_error or error
            rollout.reward = weighted_sum(rollout.reward_breakdown, rewards)
            if rollout.reward is not None and not math.isfinite(rollout.reward):
                first_error = first_error or f"the weighted sum of rewards is {rollout.reward}"
                rollout.reward = None
            undecided += rollout.reward is None
    return ScoreReport(undecided, first_error)


def evaluate(reward: Reward, rollout: Rollout, problem: Problem) -> tuple[float | None, str | None]:
    """(value, None), (None, None) where the reward abstains, (None, what went wrong) else."""
    where = f"reward {reward.name!r} on problem {problem.id}, sample {rollout.sample}"
    try:
        returned = reward.function(rollout, problem)
        value = None if returned is None else float(returned)
    except Exception as error:  # the user's code may raise anything; it is counted and reported
        return None, f"{where} raised {type(error).__name__}: {error}"
    if value is not None and not math.isfinite(value):
        return None, f"{where} returned {value}"
    return value, None


def weighted_sum(breakdown: dict[str, float | None], rewards: Sequence[Reward]) -> float | None:
    """sum_k weight_k part_k over the parts that weigh, None if one of them is undecided."""
    total = 0.0
    for reward in rewards:
        part = breakdown[reward.name]
        if reward.weight == 0:
            continue
        if part is None:
            return None
        total += reward.weight * part
    return total
