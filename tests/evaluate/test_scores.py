"""pass@k against enumeration, intervals against scipy and by hand, coverage by simulation."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from open_rs.errors import InputError
from open_rs.evaluate.scores import mean_interval, pass_at_k, score_table


def counts(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_pass_at_1_is_the_share_of_correct_samples() -> None:
    assert pass_at_k(counts(1, 4, 0), counts(4, 4, 3), 1).tolist() == [0.25, 1.0, 0.0]


def test_pass_at_k_equals_enumeration() -> None:
    for m in range(1, 8):
        for c in range(m + 1):
            for k in range(1, m + 1):
                draws = list(combinations([True] * c + [False] * (m - c), k))
                expected = sum(any(draw) for draw in draws) / len(draws)
                found = pass_at_k(counts(c), counts(m), k)[0]
                assert found == pytest.approx(expected, abs=1e-12), (m, c, k)


def test_pass_at_k_by_hand_and_at_sizes_that_overflow_floats() -> None:
    # 1 - C(3, 2) / C(5, 2) = 1 - 3 / 10
    assert pass_at_k(counts(2), counts(5), 2)[0] == pytest.approx(0.7, abs=1e-15)
    # one correct of m: the chance that it is among the k drawn is k / m; C(4000, 2000) > 1e1200
    assert pass_at_k(counts(1), counts(4000), 2000)[0] == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("k", "message"), [(5, "pass@5 needs 5 .* one has 4"), (0, "at least 1")])
def test_k_is_never_extrapolated(k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pass_at_k(counts(1, 1), counts(8, 4), k)


@pytest.mark.parametrize(("right", "n"), [(0, 20), (1, 29), (9, 30), (15, 148), (30, 30)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_one_sample_per_problem_is_wilson_with_the_t_quantile(
    right: int, n: int, confidence: float
) -> None:
    found = mean_interval(np.repeat([1.0, 0.0], [right, n - right]), confidence, n)
    t = stats.t.ppf(0.5 + confidence / 2, n - 1)
    same_quantile = 2 * stats.norm.cdf(t) - 1
    oracle = stats.binomtest(right, n).proportion_ci(same_quantile, method="wilson")
    assert found.value == pytest.approx(right / n, abs=1e-15)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_published_example() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263 is 0.2553 to 0.3662; t instead of z adds 0.0005.
    found = mean_interval(np.repeat([1.0, 0.0], [81, 182]), 0.95, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=6e-4)


def test_clustered_interval_by_hand() -> None:
    # p = .5 also with half a 0 and half a 1; squares .25 + 0 + 0 + .25 + .125 + .125 = .75;
    # n_eff = 4 * .25 / (.75 / 5) = 20/3; t(3) = 3.182446;
    # half = t sqrt(.25 / n_eff + (t / 2 n_eff)^2) / (1 + t^2 / n_eff)
    #      = 3.182446 * sqrt(.0375 + .0569692) / 2.519195 = 0.978145 / 2.519195
    found = mean_interval(np.array([0.0, 0.5, 0.5, 1.0]), 0.95, 16)
    assert (found.low, found.high) == pytest.approx((0.5 - 0.388277, 0.5 + 0.388277), abs=1e-5)


def test_more_samples_of_the_same_problems_do_not_count_as_more_problems() -> None:
    # Every problem is always right or always wrong: 16 samples say no more than one does.
    rates = np.repeat([1.0, 0.0], [12, 18])
    once, often = mean_interval(rates, 0.95, 30), mean_interval(rates, 0.95, 30 * 16)
    assert often == once


def test_effective_size_is_at_most_the_number_of_samples() -> None:
    # All problems at exactly .5 with 4 samples: no better than 120 independent tries.
    found = mean_interval(np.full(30, 0.5), 0.95, 120)
    t = stats.t.ppf(0.975, 29)
    # half = t sqrt(1 / (4 n) + t^2 / 4 n^2) / (1 + t^2 / n) = t / (2 sqrt(n + t^2)), n = 120
    assert found.high - 0.5 == pytest.approx(t / 2 / np.sqrt(120 + t * t), abs=1e-12)


def test_no_cliff_at_a_perfect_score() -> None:
    perfect = mean_interval(np.ones(30), 0.95, 480)
    nearly = mean_interval(np.array([1.0] * 29 + [15 / 16]), 0.95, 480)
    assert perfect.high == 1.0
    assert perfect.low == pytest.approx(0.878, abs=1e-3)  # 1 / (1 + 2.0452^2 / 30)
    assert abs(nearly.low - perfect.low) < 0.02


def test_one_problem_says_nothing_about_others() -> None:
    assert mean_interval(np.array([1.0]), 0.95, 64).low == 0.0
    with pytest.raises(InputError, match="at least one problem"):
        mean_interval(np.array([]), 0.95)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=2, max_size=40),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_interval_properties(correct: list[int], confidence: float) -> None:
    rates = np.array(correct) / 8
    found = mean_interval(rates, confidence, 8 * len(rates))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low  # never certain
    mirrored = mean_interval(1 - rates, confidence, 8 * len(rates))
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)
    wider = mean_interval(rates, 0.995, 8 * len(rates))
    assert wider.low <= found.low and wider.high >= found.high


def test_score_table_leaves_problems_with_too_few_samples_out_of_pass_at_k() -> None:
    table = score_table(counts(3, 0, 1), counts(6, 6, 3), num_samples=6, confidence=0.9)
    assert list(table) == ["pass@1", "pass@2", "pass@4", "pass@6"]
    # (3/6 + 0 + 1/3) / 3 = 5 / 18
    assert table["pass@1"]["value"] == pytest.approx(5 / 18, abs=1e-12)
    # 1 - C(3, 2) / C(6, 2) = .8; 0; 1 - C(2, 2) / C(3, 2) = 2/3
    assert table["pass@2"]["value"] == pytest.approx((0.8 + 2 / 3) / 3, abs=1e-12)
    assert [one["n"] for one in table.values()] == [3, 3, 2, 2]
    assert {one["k"] for one in table.values()} == {6}
    assert {one["confidence"] for one in table.values()} == {0.9}


def test_score_table_omits_a_k_that_no_problem_has_samples_for() -> None:
    table = score_table(counts(1, 2), counts(3, 3), num_samples=4, confidence=0.95)
    assert list(table) == ["pass@1", "pass@2"]


@pytest.mark.parametrize("k", [1, 4, 16])
@pytest.mark.parametrize("n", [30, 64, 200])
def test_coverage_with_the_difficulty_spread_of_benchmarks(n: int, k: int) -> None:
    # Beta(.8 m, .8 (1 - m)): mean m, most problems near 0 or 1. 3 x 700 draws: +- 1 point.
    rng = np.random.default_rng([n, k])
    inside = 0
    for mean in (0.29, 0.65, 0.83):
        difficulty = rng.beta(0.8 * mean, 0.8 * (1 - mean), size=(700, n))
        for rates in rng.binomial(k, difficulty) / k:
            found = mean_interval(rates, 0.95, n * k)
            inside += found.low <= mean <= found.high
    assert 0.935 <= inside / 2100 <= 0.975
