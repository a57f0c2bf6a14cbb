"""pass@1 and pass@k with intervals that are clustered by problem. Pure functions of counts.

n problems; `decided` [n] counts the samples of each problem that the grader could judge, `correct`
[n] those of them that are correct. An undecided sample (grader timeout or error) is in neither.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # scipy.stats takes a second to import

from open_rs.errors import InputError

METHOD = "Wilson score with the effective sample size of problems as clusters, t quantile"


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

    pass@1 is the share of correct samples. More than a problem has samples is never extrapolated.
    """
    if k < 1:
        raise InputError(f"pass@{k}: k must be at least 1")
    fewest = int(np.min(decided, initial=k))
    if fewest < k:
        raise InputError(
            f"pass@{k} needs {k} graded samples of every problem and one has {fewest}; "
            "sample more or ask for a smaller k"
        )
    return np.array(
        [
            1 - math.comb(m - c, k) / math.comb(m, k)
            for c, m in zip(correct.tolist(), decided.tolist(), strict=True)
        ]
    )


def mean_interval(
    values: NDArray[np.float64], confidence: float, most_effective: int | None = None
) -> Interval:
    """The mean of per-problem scores [n] in [0, 1], problems being a sample of those that could
    have been asked.

    Wilson's score interval with, in place of the number of trials, the effective sample size of
    clustered data n_eff = n p (1 - p) / s^2 (s^2: variance over problems; Korn & Graubard 1998 use
    it in the same way), and the t quantile of n - 1 degrees of freedom:

        (p + t^2 / 2 n_eff +- t sqrt(p (1 - p) / n_eff + t^2 / 4 n_eff^2)) / (1 + t^2 / n_eff)

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
    t = float(stdtrit(n - 1, 0.5 + confidence / 2))
    centre = mean + t * t / (2 * effective)
    half = t * math.sqrt(mean * (1 - mean) / effective + (t / (2 * effective)) ** 2)
    scale = 1 + t * t / effective
    low, high = (centre - half) / scale, (centre + half) / scale
    return Interval(mean, min(max(low, 0.0), mean), max(min(high, 1.0), mean))


def score_table(
    correct: NDArray[np.integer],
    decided: NDArray[np.integer],
    *,
    num_samples: int,
    confidence: float,
) -> dict[str, dict[str, Any]]:
    """pass@1 and pass@k for k = 2, 4, 8, ... and `num_samples`, each with n, k and an interval.

    A problem with fewer than k decided samples is left out of pass@k; n says how many are in. A k
    that no problem has samples for is absent.
    """
    powers = {1 << e for e in range(num_samples.bit_length()) if 1 << e <= num_samples}
    table = {}
    for k in sorted(powers | {num_samples}):
        enough = decided >= k
        if k > 1 and not enough.any():
            continue
        values = pass_at_k(correct[enough], decided[enough], k)
        found = mean_interval(values, confidence, int(decided[enough].sum()) // k)
        table[f"pass@{k}"] = {
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "n": len(values),
            "k": num_samples,
            "confidence": confidence,
            "method": METHOD,
        }
    return table
