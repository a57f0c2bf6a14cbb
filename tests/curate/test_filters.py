"""Each filter as a function: problems in, None or the reason out."""

import pytest
from curation_stand_ins import problem

from open_rs.curate.filters import (
    PassRate,
    boxed,
    contamination,
    custom,
    exact_duplicates,
    gold,
    held_out_texts,
    pass_rate,
    text_hashes,
)
from open_rs.curate.stages import Drop
from open_rs.errors import InputError
from open_rs.grade import Grade, Grader
from open_rs.recipe import (
    BoxedFilter,
    ContaminationFilter,
    CustomFilter,
    ExactDuplicatesFilter,
    GoldFilter,
)


def copies_of(problems):
    spec = ExactDuplicatesFilter()
    features = text_hashes(problems, spec)
    return exact_duplicates(features, lambda rows: [problems[row] for row in rows], spec)


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


def test_exact_duplicates_keep_the_first_and_none_of_a_conflict():
    verdicts = copies_of(
        [
            problem("a", "Compute 1 + 1.", "2"),
            problem("b", "compute  1+1", "2.0"),  # the same gold
            problem("c", "Compute 2 + 2.", "4"),
            problem("d", "Compute 3 + 3.", "6"),
            problem("e", "COMPUTE 3 + 3.", "7"),
            problem("f", "Compute 3 + 3.", "6"),
        ]
    )
    conflict = Drop("duplicates with different answers", "'6' / '7'")
    assert verdicts == [None, Drop("duplicate", "of a"), None, conflict, conflict, conflict]


def test_golds_that_the_grader_calls_equal_are_no_conflict():
    verdicts = copies_of(
        [
            problem("a", "Compute 1 / 2.", r"\frac{1}{2}"),
            problem("b", "Compute 1 / 2.", "0.5"),
            problem("c", "How long is it?", "8 cm"),
            problem("d", "How long is it?", r"8\text{ centimeters}"),
            problem("e", "Solve it.", "see figure"),
            problem("f", "Solve it.", "See figure."),
        ]
    )
    copies = [None, Drop("duplicate", "of a"), None, Drop("duplicate", "of c")]
    assert verdicts == [*copies, None, Drop("duplicate", "of e")]


def test_contamination_names_the_set_and_the_row():
    held_out = {
        "test": [problem("t1", "Compute 7 + 5."), problem("t2", "Compute 9 - 4.")],
        "aime": [problem("a1", "Find $x$.")],
    }
    verdicts = contamination(
        [
            problem("p", "compute 9 - 4"),
            problem("q", "Compute 9 + 4."),
            problem("r", "Find \\(x\\)."),
        ],
        ContaminationFilter(),
        held_out_texts(held_out),
    )
    assert verdicts == [
        Drop("copy of a row of test", "t2"),
        None,
        Drop("copy of a row of aime", "a1"),
    ]
    assert str(verdicts[0]) == "copy of a row of test: t2"


# correct, decided of 8 samples: rates 0, 1/8, 1, 1/2 (of two decided), undecided
RATES = {
    "never": PassRate(0, 8, 8),
    "rarely": PassRate(1, 8, 8),
    "always": PassRate(8, 8, 8),
    "half": PassRate(1, 2, 8),
    "undecided": PassRate(0, 0, 8),
}


@pytest.mark.parametrize(
    ("above", "below", "kept"),
    [
        (0.0, 1.0, {"rarely", "half"}),
        (-1.0, 1.0, {"never", "rarely", "half"}),
        (0.0, 2.0, {"rarely", "half", "always"}),
        (0.125, 1.0, {"half"}),  # strictly above
        (0.0, 0.5, {"rarely"}),  # strictly below
    ],
)
def test_pass_rate_band(above, below, kept):
    problems = [problem(name) for name in RATES]
    verdicts = pass_rate(problems, RATES, above=above, below=below)
    assert {p.id for p, verdict in zip(problems, verdicts, strict=True) if not verdict} == kept


def test_pass_rate_reasons():
    problems = [problem(name) for name in RATES]
    assert pass_rate(problems, RATES, above=0, below=1) == [
        Drop("pass rate not above 0", "0 of 8 correct"),
        None,
        Drop("pass rate not below 1", "8 of 8 correct"),
        None,
        Drop("pass rate undecided", "none of 8 samples was graded"),
    ]


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
