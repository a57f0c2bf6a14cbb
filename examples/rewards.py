"""Rewards for a recipe run from the root of the repository: `examples.rewards:boxed`."""

from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout


def boxed(rollout: Rollout, problem: Problem) -> float | None:
    """1 if the completion has a boxed answer, right or wrong; None where grading was undecided.

    For a model that mostly forgets the box: the first thing that it can learn. Give it a small
    weight beside accuracy, since a box around anything earns it.
    """
    if rollout.grade is None or not rollout.grade.decided:
        return None
    return float(rollout.grade.outcome != "no_answer")
