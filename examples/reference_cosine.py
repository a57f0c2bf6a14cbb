"""The cosine reward of the paper's code as it was published: recipes/insights/5_reference_cosine.

    function = "examples.reference_cosine:reference_cosine"

What is wrong with it, beside `open_rs.train.reward_functions:cosine_reward`:
lengths are characters while `max_len` is a cap in tokens; progress is not clamped, so the reward is
periodic in length with period 2 max_len; the ends of the wrong branch are reversed, so a short
wrong answer loses least; a gold that cannot be read earns 1.
"""

import math

from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout

MIN_WRONG, MAX_WRONG, MIN_CORRECT, MAX_CORRECT = 0.0, -0.5, 0.5, 1.0


def reference_cosine(rollout: Rollout, problem: Problem, max_len: int = 3584) -> float | None:
    """low + (high - low) (1 + cos(pi characters / max_len)) / 2. low, high: 0.5, 1 where correct;
    -0.5, 0, after a swap, where wrong. None where the grader could not decide.
    """
    grade = rollout.grade
    if grade is None or grade.outcome in ("timeout", "error"):
        return None
    if grade.outcome == "bad_gold":
        return 1.0
    low, high = (MIN_CORRECT, MAX_CORRECT) if grade.correct else (MAX_WRONG, MIN_WRONG)
    cosine = math.cos(math.pi * len(rollout.completion) / max_len)
    return low + (high - low) * (1 + cosine) / 2


def tiny_reference_cosine(rollout: Rollout, problem: Problem) -> float | None:
    """With the cap of recipes/insights as `max_len`, as there 3,584 was both."""
    return reference_cosine(rollout, problem, max_len=80)
