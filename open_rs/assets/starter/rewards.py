"""A reward of your own: a number for a completion. The recipe names it as "rewards:brevity"."""

from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout


def brevity(rollout: Rollout, problem: Problem) -> float:
    """1 for a right answer in no tokens, falling to 0 at 200 tokens; 0 for a wrong answer."""
    if rollout.grade is None or not rollout.grade.correct:
        return 0.0
    return max(0.0, 1 - len(rollout.completion_ids) / 200)
