"""pass@1 and pass@k with intervals, over problems and over samples alone. Pure functions of counts.

n problems; `decided` [n] counts the samples of each problem that the grader could judge, `correct`
[n] those of them that are correct. An undecided sample (grader timeout or error) is in neither.

Two questions, two intervals. Over problems: how would the model do on other problems of this kind?
The k samples of a problem are one cluster. Over samples: how would it do on these very problems, if
sampled again? That interval is narrower, and says nothing about other problems.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaln, ndtri, stdtrit  # scipy.stats takes a second to import

from open_rs.errors import InputError

METHOD = (
    "over problems: Wilson score with the effective sample size of problems as clusters, t quantile"
)
SAMPLES_METHOD = (
    "over samples of the same problems: Wilson score with the variance within problems, "
    "raised by one changed sample"
)
ONE_SAMPLE_METHOD = (
    "over samples of the same problems: at most this wide (Wilson score; one sample a problem "
    "tells nothing of its spread)"
)


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def pass_at_k(
    correct: NDArray[np.integer], decided: NDArray[np.integer], k: int
) -> NDArray[np.float64]:
    """Unbiased pass@k of each problem [n]: the chance that k of its samples, drawn without
    replacement, hold a correct one, 1 - C(m - c, k) / C(m, k) (Chen et al. 2021, arXiv 2107.03374).

    In whole numbers, so exact at any size. pass@1 is the share of correct samples. More than a
    problem has samples is never extrapolated.
    """
    if k < 1:
        raise InputError(f"pass@{k}: k must be at least 1")
    fewest = int(np.min(decided, initial=k))
    if fewest < k:
        raise InputError(
            f"pass@{k} needs {k} graded samples of every problem and one has {fewest}; "
            "sample more or ask for a smaller k"
        )
    pairs = zip(correct.tolist(), decided.tolist(), strict=True)
    return np.array([_pass_at_k(c, m, k) for c, m in pairs])


@cache
def _pass_at_k(c: int, m: int, k: int) -> float:
    return 1 - math.comb(m - c, k) / math.comb(m, k)


def wilson(mean: float, effective: float, quantile: float) -> Interval:
    """Wilson's score interval for a share seen in `effective` independent trials.

    (p + q^2 / 2 N +- q sqrt(p (1 - p) / N + q^2 / 4 N^2)) / (1 + q^2 / N)   (Newcombe 1998,
    method 3; q: quantile of the standard normal or of t)
    """
    centre = mean + quantile * quantile / (2 * effective)
    half = quantile * math.sqrt(mean * (1 - mean) / effective + (quantile / (2 * effective)) ** 2)
    scale = 1 + quantile * quantile / effective
    low, high = (centre - half) / scale, (centre + half) / scale
    return Interval(mean, min(max(low, 0.0), mean), max(min(high, 1.0), mean))


def mean_interval(
    values: NDArray[np.float64], confidence: float, most_effective: int | None = None
) -> Interval:
    """The mean of per-problem scores [n] in [0, 1], problems being a sample of those that could
    have been asked.

    Wilson's interval with, in place of the number of trials, the effective sample size of clustered
    data n_eff = n p (1 - p) / s^2 (s^2: variance over problems; Korn & Graubard 1998 use it in the
    same way), and the t quantile of n - 1 degrees of freedom.

    p and s^2 of n_eff alone count half a problem wholly right and half a one wholly wrong on top,
    so that n_eff goes to n, not to infinity, where all problems score alike near 0 or 1. With one
    sample per problem n_eff = n exactly. Unlike mean +- t s / sqrt(n), the interval keeps its
    coverage at small n near 0 and 1 (n = 30, mean 0.97: 94-97 % against 60-74 %). n_eff is at most
    `most_effective`, the number of samples.
    """
    n = len(values)
    if n == 0:
        raise InputError("a score needs at least one problem with a graded sample")
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, 0.0, 1.0)  # one problem says nothing about how others would do
    smoothed = (mean * n + 0.5) / (n + 1)
    squares = np.sum((values - smoothed) ** 2) + 0.5 * smoothed**2 + 0.5 * (1 - smoothed) ** 2
    effective = float(n * smoothed * (1 - smoothed) / (squares / (n + 1)))
    effective = min(effective, most_effective or n)
    return wilson(mean, effective, float(stdtrit(n - 1, 0.5 + confidence / 2)))


def sampling_variances(
    correct: NDArray[np.integer], decided: NDArray[np.integer], k: int = 1
) -> NDArray[np.float64]:
    """Variance [n] of each problem's pass@k over samples alone, its pass rate being fixed.

    With U_j = C(m - c, j) / C(m, j), pass@k is 1 - U_k and U_k^2 - U_2k is unbiased for its
    variance; for k = 1 that is p (1 - p) / (m - 1). With m < 2k samples there is no such estimate:
    there it is the variance expected of a problem with these samples under the Beta distribution of
    pass rates that fits all problems (`fit_beta`). Where m = 1 nothing is known of the spread; it
    is that of a problem with the mean pass rate, which is the most that it can be on average.
    """
    mean = float(np.mean(correct / decided))
    a, b = fit_beta(correct, decided)

    def variance(c: int, m: int) -> float:
        if m == 1:
            return mean * (1 - mean)
        if m >= 2 * k:
            return (1 - _pass_at_k(c, m, k)) ** 2 - (1 - _pass_at_k(c, m, 2 * k))
        return _expected_variance(m, k, a + c, b + m - c)

    pairs = list(zip(correct.tolist(), decided.tolist(), strict=True))
    known = {pair: variance(*pair) for pair in set(pairs)}
    return np.array([known[pair] for pair in pairs])


def _expected_variance(m: int, k: int, a: float, b: float) -> float:
    """E Var pass@k(C), C ~ Binomial(m, p), p ~ Beta(a, b): E U_k^2 - E (1 - p)^2k."""
    counts = np.arange(m + 1)
    missed = np.array([1 - _pass_at_k(c, m, k) for c in range(m + 1)])
    log_choose = -np.log(m + 1) - betaln(counts + 1, m - counts + 1)
    chance = np.exp(log_choose + betaln(a + counts, b + m - counts) - betaln(a, b))
    return float(chance @ missed**2 - np.exp(betaln(a, b + 2 * k) - betaln(a, b)))


def fit_beta(
    correct: NDArray[np.integer], decided: NDArray[np.integer], concentration: float = 0.8
) -> tuple[float, float]:
    """(a, b) of the Beta distribution of pass rates with the mean and spread of these problems.

    The variance of pass rates is the variance over problems less what sampling adds to it; a + b =
    M (1 - M) / variance - 1, kept between 0.05 and 1000. With one sample per problem the spread
    cannot be told and a + b is `concentration`: 0.8 is what benchmarks of this kind show, most
    problems near 0 or 1 and some between.
    """
    trials = float(np.sum(decided))
    mean = (float(np.sum(correct)) + 0.5) / (trials + 1)
    often = decided > 1
    if often.sum() > 1:
        rates = correct[often] / decided[often]
        within = float(np.mean(rates * (1 - rates) / (decided[often] - 1)))
        between = float(np.var(rates, ddof=1)) - within
        most = mean * (1 - mean)
        concentration = min(max(most / max(between, most / 1001) - 1, 0.05), 1000.0)
    return mean * concentration, (1 - mean) * concentration


def samples_interval(
    values: NDArray[np.float64],
    variances: NDArray[np.float64],
    trials: float,
    confidence: float,
) -> Interval:
    """The mean of per-problem scores [n] over samples alone: the same problems, sampled again.

    Wilson's interval with N = p (1 - p) / V trials, V = (sum of `variances` + u^2) / n^2, where
    u = n / trials is what one changed sample can change: without it scores that happened to come
    out alike in every sample would look certain. `trials` is the number of samples (of groups of k
    for pass@k); p in N alone counts half a success in one more of them.
    """
    n, mean = len(values), float(np.mean(values))
    variance = (float(np.sum(variances)) + (n / trials) ** 2) / n**2
    smoothed = (mean * trials + 0.5) / (trials + 1)
    effective = smoothed * (1 - smoothed) / variance
    return wilson(mean, effective, float(ndtri(0.5 + confidence / 2)))


def score_row(
    values: NDArray[np.float64],
    variances: NDArray[np.float64] | None,
    *,
    num_samples: int,
    trials: int,
    confidence: float,
) -> dict[str, Any]:
    """One score with n, k and both intervals; `variances` is None where the samples tell none."""
    over_problems = mean_interval(values, confidence, trials)
    if variances is None:
        quantile = float(ndtri(0.5 + confidence / 2))
        over_samples = wilson(over_problems.value, len(values), quantile)
    else:
        over_samples = samples_interval(values, variances, trials, confidence)
    return {
        "value": over_problems.value,
        "low": over_problems.low,
        "high": over_problems.high,
        "n": len(values),
        "k": num_samples,
        "confidence": confidence,
        "method": METHOD,
        "samples_low": over_samples.low,
        "samples_high": over_samples.high,
        "samples_method": ONE_SAMPLE_METHOD if variances is None else SAMPLES_METHOD,
    }


def score_table(
    correct: NDArray[np.integer],
    decided: NDArray[np.integer],
    *,
    num_samples: int,
    confidence: float,
) -> dict[str, dict[str, Any]]:
    """pass@1 and pass@k for k = 2, 4, 8, ... and `num_samples`, each with n, k and two intervals.

    A problem with fewer than k decided samples is left out of pass@k; n says how many are in. A k
    that no problem has samples for is absent.
    """
    powers = {1 << e for e in range(num_samples.bit_length()) if 1 << e <= num_samples}
    table = {}
    for k in sorted(powers | {num_samples}):
        enough = decided >= k
        if k > 1 and not enough.any():
            continue
        right, judged = correct[enough], decided[enough]
        values = pass_at_k(right, judged, k)
        if len(values) == 0:
            raise InputError("a score needs at least one problem with a graded sample")
        spread = None if judged.max() == 1 else sampling_variances(right, judged, k)
        table[f"pass@{k}"] = score_row(
            values,
            spread,
            num_samples=num_samples,
            trials=int(judged.sum()) // k,
            confidence=confidence,
        )
    return table


def expected_best(score: float, trials: int, best_of: int) -> float:
    """The mean of the best of `best_of` scores that differ by chance alone: each is the share of
    `trials` independent tries that succeed with probability `score`.

    E max = sum over x = 0 .. N - 1 of (1 - F(x)^m) / N, F the binomial distribution. It is at least
    what a choice among equals on the test set adds by itself (the winner's curse); samples of
    problems of different difficulty vary less than independent tries.
    """
    below = 1 - bdtrc(np.arange(trials), trials, score)
    return float(np.sum(1 - below**best_of) / trials)


def expected_maximum(count: int) -> float:
    """The mean of the largest of `count` standard normal draws: U^(1 / count) has the distribution
    of the largest of `count` uniform ones.
    """
    grid = (np.arange(100_000) + 0.5) / 100_000
    return float(np.mean(ndtri(grid ** (1 / count))))
