import time

import pytest

from open_rs.grade import POLICY_VERSION, Grader
from open_rs.grade.extract import extract_answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"\boxed{7}", "7"),
        (r"first \boxed{7}, then \boxed{8}", "8"),
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right."),
        (r"\[ \boxed{7} \]", "7"),
        (r"$\boxed{3}$ and $\boxed{5}$", "3, 5"),
        (r"\boxed{3} or \boxed{5}", "3, 5"),
        (r"\boxed{3}, \boxed{5}.", "3, 5"),
        (r"\boxed{3}\text{ and }\boxed{5}", "3, 5"),
        ("\\boxed{5}\n\n$\\boxed{5}$", "5"),
        ("\\boxed{3}\n\n$\\boxed{5}$", "5"),
        (r"\boxed{5} and \boxed{ 5 }", "5"),
        (r"\boxed{3}\; \boxed{5}", "5"),
        (r"$\boxed{3}$; $\boxed{5}$, $\boxed{3}$", "3, 5"),
        (r"\boxed{3} but not \boxed{5}", "5"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{7} \boxed{8", "7"),  # the last complete box
        (r"\boxed{}", None),
        (r"\boxed{ }", None),
        (r"\boxed{7", None),
        (r"boxed{7}", None),
        ("the answer is 7", None),
        (r"<think>\boxed{7}", None),
        (r"<think>\boxed{7}</think>", None),
        (r"\boxed{7} <think> no, \boxed{8}", None),
        (r"<think>\boxed{6}</think> \boxed{7}", "7"),
        (r"<think>a</think> <think>\boxed{6}</think> \boxed{7}", "7"),
        ("", None),
    ],
)
def test_policy_case_by_case(completion, answer):
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(
    "hostile",
    [
        "\\boxed{" * 100_000,
        "\\boxed{" * 50_000 + "}" * 50_000,
        "{" * 300_000,
        "\\boxed{1} and " * 50_000,
        "\\boxed{1}" + " and" * 100_000,
        "<think>" * 50_000 + "</think>" * 50_000,
        "\\" * 300_000,
    ],
    ids=lambda text: text[:12],
)
def test_time_is_linear_in_hostile_text(hostile):
    started = time.process_time()
    extract_answer(hostile)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("so it is 12.", "12"),
        ("first 3, then -4.5", "-4.5"),
        ("the sum is 1,234", "1,234"),
        ("a half is 1/2", "1/2"),
        ("</think> 7 apples", "7"),
        ("x2 and v3 are names", None),
        ("no number", None),
        ("The length is 3.5cm.", "3.5"),
        ("It costs 12,500m", "12,500"),
        ("3/4x", "3/4"),
        ("so 1.2e5", None),
        ("is −7", "−7"),
        ("answer is .5", ".5"),
        (r"12 \boxed{}", None),  # there is a box: it decides
        (r"12 \boxed{3", None),
        (r"\boxed{3} and 12", "3"),
    ],
)
def test_a_number_without_a_box_counts_only_where_it_is_allowed(completion, answer):
    assert extract_answer(completion, unboxed_numbers=True) == answer
    if "boxed" not in completion:
        assert extract_answer(completion) is None


def test_an_open_thought_has_no_number_either():
    assert extract_answer("it is 12", opens_think=True, unboxed_numbers=True) is None


def test_the_version_says_that_numbers_were_allowed():
    with Grader(unboxed_numbers=True) as grader:
        assert grader.policy_version == f"{POLICY_VERSION}+unboxed_numbers"
        assert grader.grade("it is 12", "12").outcome == "correct"
    with Grader() as grader:
        assert grader.policy_version == POLICY_VERSION
        assert grader.grade("it is 12", "12").outcome == "no_answer"
