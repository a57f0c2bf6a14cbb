"""What a probe makes of the answers that it saw."""

import pytest

from open_rs.grade import Grade
from open_rs.plan.probe import chance_of_judging
from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout, RolloutGroup


def group(answer: str, extracted: list[str | None]) -> RolloutGroup:
    rollouts = [
        Rollout([], [], "", "stop", sample, grade=Grade("wrong", one, 0.0))
        for sample, one in enumerate(extracted)
    ]
    return RolloutGroup(Problem("a", "", answer), [1], rollouts)


def test_the_chance_that_an_answer_has_to_be_judged():
    plain = group("3", ["3", "4", None, "5"])
    assert chance_of_judging([plain], 12) == 1 - (4 / 16) ** 0.5  # 0.5: none among four
    roots = group(r"\frac{\sqrt{2}}{2}", [r"\frac{1}{\sqrt{2}}"])
    # one among five, and five more to come
    assert chance_of_judging([plain, roots], 5) == pytest.approx(1 - (5 / 10) ** 1.5)
