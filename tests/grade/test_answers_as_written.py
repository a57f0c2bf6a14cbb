"""Answers as models write them: pairs by hand (written_right, written_wrong) and made ones."""

import pytest
from made_pairs import made_pairs
from written_right import RIGHT
from written_wrong import WRONG


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_right_as_written(gold, answer, grader):
    assert grader.grade(rf"\boxed{{{answer}}}", gold).outcome == "correct"


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_wrong_as_written(gold, answer, grader):
    assert grader.grade(rf"\boxed{{{answer}}}", gold).outcome == "wrong"


def test_made_pairs(grader):
    made = list(made_pairs(rounds=20, seed=1))
    outcomes = grader.grade_many((rf"\boxed{{{pair.answer}}}", pair.gold) for pair in made)
    expected = ["correct" if pair.right else "wrong" for pair in made]
    missed = [
        (pair, grade.outcome)
        for pair, want, grade in zip(made, expected, outcomes, strict=True)
        if want != grade.outcome
    ]
    assert not missed
