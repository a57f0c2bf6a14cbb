"""Each filter as a function: problems in, None or the reason out."""

import pytest
from curation_stand_ins import problem

from open_rs.curate.filters import (
    boxed,
    custom,
    gold,
)
from open_rs.curate.stages import Drop
from open_rs.errors import InputError
from open_rs.grade import Grade, Grader
from open_rs.recipe import (
    BoxedFilter,
    CustomFilter,
    GoldFilter,
)


def custom_verdicts(problems, keep):
    return custom(problems, CustomFilter(function="mine:keep"), keep)


def test_boxed():
    solutions = [
        "so \\boxed{3}",
        "\\boxed{\\frac{1}{2}}",
        "so 3",
        "  ",
        "\\boxed{\\frac{1}{2}",  # not closed
        "\\boxed{ }",
    ]
    verdicts = boxed(
        [problem(str(i), solution=text) for i, text in enumerate(solutions)], BoxedFilter()
    )
    assert verdicts == [
        None,
        None,
        Drop("no \\boxed{} in the solution"),
        Drop("no solution"),
        Drop("no \\boxed{} in the solution"),
        Drop("empty \\boxed{} in the solution"),
    ]


def test_gold_through_the_grader():
    golds = ["12", "\\frac{1}{2}", "", "\\frac{", "\\text{}", "(1, 2)"]
    with Grader() as grader:
        verdicts = gold(
            [problem(str(i), answer=one) for i, one in enumerate(golds)],
            GoldFilter(),
            grader.check_gold,
        )
    assert verdicts[:2] == [None, None]
    assert verdicts[5] is None
    assert verdicts[2:5] == [
        Drop("no gold"),
        Drop("gold cannot be read as an answer", "\\frac{"),
        Drop("gold cannot be parsed", "\\text{}"),
    ]


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("wrong", "gold does not grade itself correct"),
        ("no_answer", "gold cannot be read as an answer"),
        ("bad_gold", "gold cannot be parsed"),
        ("timeout", "grading the gold against itself took too long"),
        ("error", "grading the gold against itself failed"),
    ],
)
def test_gold_names_each_outcome_and_cuts_a_long_gold(outcome, reason):
    verdicts = gold(
        [problem("a", answer="9" * 70)], GoldFilter(), lambda one: Grade(outcome, one, 0.0)
    )
    assert verdicts == [Drop(reason, "9" * 60 + "...")]


def test_gold_asks_once_for_each_distinct_gold():
    asked = []

    def check(one):
        asked.append(one)
        return Grade("correct", one, 0.0)

    assert (
        gold([problem(str(i), answer=str(i % 2)) for i in range(6)], GoldFilter(), check)
        == [None] * 6
    )
    assert asked == ["0", "1"]


# correct, decided of 8 samples: rates 0, 1/8, 1, 1/2 (of two decided), undecided
def test_custom_takes_the_reason_as_it_is():
    verdicts = custom_verdicts(
        [problem("a", "short"), problem("b", "much longer")],
        lambda one: "too long" if len(one.problem) > 6 else None,
    )
    assert verdicts == [None, Drop("too long")]


@pytest.mark.parametrize("returned", [True, False, "", "  ", 3])
def test_custom_refuses_what_is_no_reason(returned):
    with pytest.raises(InputError, match=r"mine:keep: returned .* problem a; return the reason"):
        custom_verdicts([problem("a")], lambda one: returned)


def test_custom_that_raises_is_named():
    with pytest.raises(InputError, match="mine:keep: problem a made it raise ZeroDivisionError"):
        custom_verdicts([problem("a")], lambda one: 1 / 0)
