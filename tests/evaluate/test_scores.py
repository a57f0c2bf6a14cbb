"""pass@k against enumeration, intervals against scipy and by hand, coverage by simulation."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from open_rs.errors import InputError
from open_rs.evaluate.scores import (
    ONE_SAMPLE_METHOD,
    expected_best,
    expected_maximum,
    fit_beta,
    mean_interval,
    pass_at_k,
    samples_interval,
    sampling_variances,
    score_table,
    wilson,
)


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


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(right: int, n: int, low: float, high: float) -> None:
    # Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3.
    found = wilson(right / n, n, 1.959964)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


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


def test_variance_over_samples_is_unbiased_by_enumeration() -> None:
    # E over c of the estimate equals Var pass@k exactly where m >= 2k.
    for m, k in ((2, 1), (4, 1), (4, 2), (7, 3)):
        for p in (0.1, 0.5, 0.8):
            chance = stats.binom.pmf(np.arange(m + 1), m, p)
            counts_of, judged = np.arange(m + 1), np.full(m + 1, m)
            scores = pass_at_k(counts_of, judged, k)
            true = chance @ (scores - chance @ scores) ** 2
            assert chance @ sampling_variances(counts_of, judged, k) == pytest.approx(
                true, abs=1e-12
            )


def test_variance_over_samples_by_hand() -> None:
    # m = 4, c = 1: p (1 - p) / (m - 1) = (3/16) / 3 = 1/16
    assert sampling_variances(counts(1, 4), counts(4, 4))[0] == pytest.approx(1 / 16, abs=1e-15)
    # one sample each: p (1 - p) of the mean pass rate 1/4
    assert sampling_variances(counts(1, 0, 0, 0), counts(1, 1, 1, 1)).tolist() == [0.1875] * 4


def test_variance_of_pass_at_m_is_what_the_fitted_difficulty_expects() -> None:
    # m = k = 2 by quadrature: posterior Beta(a + c, b + m - c), variance q^2 (1 - q^2), q = 1 - p
    correct, judged = counts(0, 0, 1, 2, 2), counts(2, 2, 2, 2, 2)
    a, b = fit_beta(correct, judged)
    grid = (np.arange(20_000) + 0.5) / 20_000
    for c, found in zip(correct, sampling_variances(correct, judged, 2), strict=True):
        missed = (1 - stats.beta.ppf(grid, a + c, b + 2 - c)) ** 2
        assert found == pytest.approx(np.mean(missed * (1 - missed)), rel=5e-3)


def test_fit_beta_recovers_what_it_was_drawn_from() -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(0.3, 0.5, size=4000)
    a, b = fit_beta(rng.binomial(8, rates), np.full(4000, 8))
    assert (a, b) == pytest.approx((0.3, 0.5), rel=0.1)
    a, b = fit_beta(rng.binomial(1, rates), np.full(4000, 1))
    assert a + b == pytest.approx(0.8, abs=1e-12)  # one sample tells no spread: the default


def test_samples_interval_by_hand() -> None:
    # n = 2, m = 4: values 1/4 and 1, variances 1/16 and 0, 8 trials; u = 2 / 8;
    # V = (1/16 + 1/16) / 4 = 1/32; p = (5/8 * 8 + .5) / 9 = 11/18, N = (11/18)(7/18) 32 = 7.604938
    found = samples_interval(np.array([0.25, 1.0]), np.array([1 / 16, 0.0]), 8, 0.95)
    oracle = wilson(0.625, 7.604938, 1.959964)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-6)


def test_over_samples_is_narrower_than_over_problems_and_named() -> None:
    table = score_table(counts(4, 4, 0, 0, 2), np.full(5, 4), num_samples=4, confidence=0.95)
    one = table["pass@1"]
    assert one["low"] < one["samples_low"] < one["value"] < one["samples_high"] < one["high"]
    assert one["method"].startswith("over problems: ")
    assert one["samples_method"].startswith("over samples of the same problems: ")
    single = score_table(counts(1, 0), counts(1, 1), num_samples=1, confidence=0.95)["pass@1"]
    assert single["samples_method"] == ONE_SAMPLE_METHOD


@pytest.mark.parametrize(("n", "m", "k"), [(30, 4, 1), (30, 16, 1), (200, 4, 4), (30, 16, 4)])
def test_coverage_over_samples_of_the_same_problems(n: int, m: int, k: int) -> None:
    # 3 x 400 draws: one standard error is 0.6 points. pass@m errs on the wide side.
    rng = np.random.default_rng([n, m, k])
    inside = 0
    for mean in (0.29, 0.65, 0.83):
        rates = rng.beta(0.8 * mean, 0.8 * (1 - mean), size=n)
        truth = float(np.mean(1 - (1 - rates) ** k))
        for correct in rng.binomial(m, rates, size=(400, n)):
            judged = np.full(n, m)
            values = pass_at_k(correct, judged, k)
            variances = sampling_variances(correct, judged, k)
            found = samples_interval(values, variances, n * m / k, 0.95)
            inside += found.low <= truth <= found.high
    assert 0.93 <= inside / 1200 <= 0.99


def test_expected_best_by_hand_and_by_simulation() -> None:
    # Best of two fair coins: 3/4. One try: the score itself.
    assert expected_best(0.5, 1, 2) == pytest.approx(0.75, abs=1e-12)
    assert expected_best(0.3, 30, 1) == pytest.approx(0.3, abs=1e-12)
    draws = np.random.default_rng(0).binomial(30, 0.3, size=(200_000, 8)).max(axis=1) / 30
    assert expected_best(0.3, 30, 8) == pytest.approx(draws.mean(), abs=4 * draws.std() / 447)


def test_expected_maximum_of_normal_draws() -> None:
    # 1 / sqrt(pi) for two, 3 / (2 sqrt(pi)) for three (David & Nagaraja 2003, table of means)
    assert expected_maximum(1) == pytest.approx(0, abs=1e-6)
    assert expected_maximum(2) == pytest.approx(np.pi**-0.5, abs=1e-3)
    assert expected_maximum(3) == pytest.approx(1.5 * np.pi**-0.5, abs=1e-3)
