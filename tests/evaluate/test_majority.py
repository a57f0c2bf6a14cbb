"""maj@k: ties, grouping of answers, samples without a vote."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from open_rs.evaluate.majority import majority, majority_row, votes
from open_rs.evaluate.records import scores_of
from open_rs.evaluate.scores import ONE_SAMPLE_METHOD


def samples(problem: str, *answers: tuple[str | None, bool | None]) -> list[dict[str, Any]]:
    return [
        {"problem_id": problem, "sample": number, "extracted": text, "correct": correct}
        for number, (text, correct) in enumerate(answers)
    ]


def value(*rows: list[dict[str, Any]], k: int = 4) -> float:
    found = majority_row([row for one in rows for row in one], num_samples=k, confidence=0.95)
    assert found is not None
    return found["value"]


def test_the_most_frequent_answer_decides() -> None:
    right, wrong = ("4", True), ("5", False)
    assert value(samples("a", right, right, wrong, ("6", False))) == 1.0
    assert value(samples("a", right, wrong, wrong, ("6", False))) == 0.0


def test_a_tie_counts_as_the_share_that_is_correct() -> None:
    # 2 x "4" (right), 2 x "5": one half; "4", "5", "6" once each: one third.
    assert value(samples("a", ("4", True), ("5", False), ("4", True), ("5", False))) == 0.5
    assert value(samples("a", ("4", True), ("5", False), ("6", False))) == pytest.approx(1 / 3)
    assert value(samples("a", ("5", False), ("5", False), ("6", False), ("6", False))) == 0.0


def test_a_tie_equals_the_mean_over_all_ways_to_break_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.integers(1, 4, size=4)
        right = np.array([True, False, False, False])
        orders = [[r for r, c in zip(right, counts, strict=True) if c == counts.max()]]
        picked = [pick for (pick,) in product(*orders)]
        assert majority(counts, right) == pytest.approx(sum(picked) / len(picked))


def test_answers_are_the_same_where_the_grader_or_its_normal_form_says_so() -> None:
    # Both spellings are right, so they vote together against two equal wrong ones written apart.
    rows = samples("a", ("1/2", True), ("0.5", True), (r"\dfrac{1}{2}", True), ("3", False))
    assert value(rows) == 1.0
    rows = samples("a", (r"\dfrac{1}{3}", False), (r"\frac{1}{3}", False), ("0.5", True))
    assert value(rows) == 0.0


def test_silent_and_undecided_samples_have_no_vote() -> None:
    rows = samples("a", (None, False), (None, False), (None, False), ("4", True))
    assert value(rows) == 1.0
    assert value(samples("a", (None, False)), samples("b", ("4", True))) == 0.5
    counts = votes(samples("a", ("4", None), ("4", None)) + samples("b", ("4", True)))
    assert counts["a"] is None and counts["b"] is not None  # not judged: left out, not wrong
    assert value(samples("a", ("4", None)), samples("b", ("4", True))) == 1.0
    assert majority_row(samples("a", (None, False)), num_samples=1, confidence=0.95) is None


def test_certain_votes_have_the_narrower_interval_over_samples() -> None:
    split = [
        samples(str(i), ("1", True), ("1", True), ("2", False), ("2", False)) for i in range(9)
    ]
    clear = [samples(str(i), *[("1", i % 2 == 0)] * 4) for i in range(9)]
    unsure, sure = (
        majority_row([row for one in rows for row in one], num_samples=4, confidence=0.95)
        for rows in (split, clear)
    )
    assert unsure is not None and sure is not None
    width = [one["samples_high"] - one["samples_low"] for one in (unsure, sure)]
    assert width[1] < width[0] and unsure == majority_row(
        [row for one in split for row in one], num_samples=4, confidence=0.95
    )
    assert "tie" in sure["ties"] and sure["n"] == 9 and sure["k"] == 4


def test_it_is_in_the_table_of_records() -> None:
    rows = samples("a", ("4", True), ("4", True)) + samples("b", ("4", False), ("5", True))
    table = scores_of(rows, num_samples=2, confidence=0.95)
    assert list(table) == ["pass@1", "pass@2", "maj@2"]
    assert table["maj@2"]["value"] == 0.75  # b is a tie, one half


def test_one_vote_tells_nothing_of_its_spread() -> None:
    rows = samples("a", ("4", True)) + samples("b", ("5", False))
    found = majority_row(rows, num_samples=1, confidence=0.95)
    assert found is not None and found["value"] == 0.5
    assert found["samples_method"] == ONE_SAMPLE_METHOD
