"""The rewards: loaded, and tried on a group of made-up completions."""

import time
from collections.abc import Iterator
from numbers import Number
from typing import Any

from open_rs.errors import InputError
from open_rs.grade import Grade
from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, skipped, warn
from open_rs.plan.doctor.subject import Subject
from open_rs.problems import Problem
from open_rs.recipe import CustomReward
from open_rs.rollout.protocol import FinishReason, Rollout, RolloutGroup
from open_rs.train.rewards import Reward, evaluate, open_rewards, score

PROBLEM = Problem("doctor", "What is 2 + 3?", "5", "2 + 3 = 5, so \\boxed{5}.", "doctor")
SLOW_S = 0.05  # for one completion


def opened(subject: Subject) -> list[Reward]:
    """The rewards of the recipe, with their processes."""
    if "rewards" not in subject.kept:
        subject.kept["rewards"] = subject.open(
            open_rewards(
                subject.recipe.rewards,
                max_completion_tokens=subject.recipe.rollout.max_completion_tokens,
                template_opens_think=opens_think(subject),
            )
        )
    return list(subject.kept["rewards"])


def opens_think(subject: Subject) -> bool:
    spec = subject.recipe.rollout.engine
    if spec.type == "openai" and not subject.needs_tokenizer:
        return spec.opens_think
    try:
        return subject.prompter.opens_think
    except InputError:  # template.renders says why; rewards can be tried all the same
        return False


def made_up_group(subject: Subject) -> RolloutGroup:
    """Right and wrong, long and short, with a thought and without, cut off, in another language."""
    cap = subject.recipe.rollout.max_completion_tokens
    start = "" if opens_think(subject) else "<think>"
    texts = [
        (f"{start}2 and 3 make 5.</think>\nThe answer is \\boxed{{5}}.", "correct", cap // 4),
        ("The answer is \\boxed{5}.", "correct", cap // 8),
        (f"{start}2 and 3 make 6.</think>\nThe answer is \\boxed{{6}}.", "wrong", cap // 2),
        ("6", "no_answer", 1),
        ("2 加 3 等于 5。\\boxed{5}", "correct", cap // 3),
        (f"{start}" + "wait, " * 40, "no_answer", cap),
    ]
    rollouts = []
    for sample, (text, outcome, length) in enumerate(texts):
        length = max(length, 1)
        finish: FinishReason = "length" if length >= cap else "stop"
        ids = [7] * length if finish == "length" else list(range(length))
        answer = "5" if outcome == "correct" else "6" if outcome == "wrong" else None
        grade = Grade(outcome, answer, 0.0)  # type: ignore[arg-type]
        rollouts.append(Rollout(ids, [-1.0] * length, text, finish, sample, grade))
    return RolloutGroup(PROBLEM, [1, 2, 3], rollouts)


def loads(subject: Subject) -> Verdict:
    """The rewards that the recipe names can be loaded."""
    return ok(", ".join(f"{one.weight:g} x {one.name}" for one in opened(subject)))


def runs(subject: Subject) -> Verdict:
    """They give numbers on made-up completions: none raises, hangs or returns NaN."""
    group = made_up_group(subject)
    report = score([group], opened(subject))
    if report.first_error is not None:
        return fail(report.first_error, "mend the reward")
    return ok(f"{len(group.rollouts)} made-up completions")


def values(subject: Subject, reward: Reward) -> list[float | None]:
    group = made_up_group(subject)
    return [evaluate(reward, one, group, {})[0] for one in group.rollouts]


def varies(subject: Subject) -> Verdict:
    """None gives the same number to right and wrong, long and short alike."""
    for reward in opened(subject):
        given = values(subject, reward)
        if len(set(given)) == 1:
            return warn(
                f"reward {reward.name!r} is {given[0]} on every one of {len(given)} completions of "
                "all kinds, so nothing is learnt from it",
                "mend the reward, or remove it",
            )
    return ok("all do")


def repeats(subject: Subject) -> Verdict:
    """They give the same number to the same completion: a resumed run depends on it."""
    for reward in opened(subject):
        if values(subject, reward) != values(subject, reward):
            return warn(
                f"reward {reward.name!r} gives another number to the same completion",
                "draw no random numbers in it, and keep nothing between calls",
            )
    return ok("all do")


def own(subject: Subject) -> Iterator[Reward]:
    """The user's rewards that run in this process."""
    for spec, reward in zip(subject.recipe.rewards, opened(subject), strict=True):
        if isinstance(spec, CustomReward) and not spec.isolated:
            yield reward


def returns(subject: Subject) -> Verdict:
    """The user's own return numbers or None, and not texts or tensors."""
    group = made_up_group(subject)
    names = []
    for reward in own(subject):
        names.append(reward.name)
        seen: dict[str, Any] = {"group": group} if reward.sees_group else {}
        value = reward.function(group.rollouts[0], PROBLEM, **seen)
        if value is not None and not isinstance(value, Number):
            return warn(
                f"reward {reward.name!r} returns {type(value).__name__}, read as {float(value):g}",
                "return a float, or None where it cannot say",
            )
    return ok(", ".join(names)) if names else skipped("no reward is the user's own")


def quick(subject: Subject) -> Verdict:
    """They are quick beside sampling."""
    rollout = subject.recipe.rollout
    rows = rollout.prompts_per_step * rollout.group_size
    for reward in opened(subject):
        started = time.perf_counter()
        number = len(values(subject, reward))
        each = (time.perf_counter() - started) / number
        if each > SLOW_S:
            return warn(
                f"reward {reward.name!r} takes {each:.2f} s for one completion, {each * rows:.0f} "
                "s a step",
                "make it quicker: training waits for it",
            )
    return ok(f"under {SLOW_S:g} s for one completion")


CHECKS = (
    Check("rewards.load", loads),
    Check("rewards.run", runs, needs=("rewards.load",)),
    Check("rewards.vary", varies, needs=("rewards.run",)),
    Check("rewards.repeat", repeats, needs=("rewards.run",)),
    Check("rewards.return", returns, needs=("rewards.run",)),
    Check("rewards.quick", quick, needs=("rewards.run",)),
)
