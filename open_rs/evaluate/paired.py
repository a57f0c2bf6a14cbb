"""The mean of paired differences: interval, p-value, smallest gain. Pure functions of numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit  # scipy.stats takes a second to import

from open_rs.evaluate.scores import Interval

METHOD = "paired t over problems as clusters, squares raised by half a changed sample"
POWER = 0.8


@dataclass(frozen=True)
class Paired:
    """Estimates of a mean difference: arrays of one shape, [] for one comparison."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_value: NDArray[np.float64]
    smallest_gain: NDArray[np.float64]


def paired_difference(
    differences: NDArray[np.float64], num_samples: int, confidence: float
) -> tuple[Interval, float]:
    """(interval of the mean, two-sided p-value) of one comparison's differences [n]."""
    found = paired_differences(differences, num_samples, confidence)
    return Interval(float(found.value), float(found.low), float(found.high)), float(found.p_value)


def paired_differences(
    differences: NDArray[np.float64], num_samples: int, confidence: float
) -> Paired:
    """Mean per-problem differences [..., n] in [-1, 1] with interval and p-value, one comparison
    for each row.

    Problems are the clusters: the k samples of one problem are not independent tries, their
    difference is one number per problem. The mean d is compared with its standard error by t with
    n - 1 degrees of freedom, where

        s^2 = (sum (d_i - d)^2 + 1 / 2 k^2) / (n - 1)

    counts half of one more sample as changed. Under no difference the d_i are symmetric about 0,
    where t keeps its level or stays below it for the spiky distributions that scores give
    (Benjamini 1983). The added term matters where few samples changed: with k = 1 the d_i are -1,
    0, 1, mostly 0, and plain t calls 4 gains against no loss an improvement. With it the verdict at
    confidence 0.95 is that of McNemar's mid-p test (Fagerland, Lydersen & Laake 2013) wherever 30
    problems or fewer changed, and with every possible table counted a model is `improved` against
    itself at most 2.5 % of the time, whatever share of problems changes (n >= 10). It vanishes as n
    or k grow.

    A sign-flip permutation test agrees with this t (with signs flipped, t is a monotone function of
    the mean) but its attainable levels make it four times as strict as asked at n = 30, k = 1, and
    inverting it gives an interval of no width where nearly all d_i are equal.
    `perf/false_gains.py` measures rates, coverage and power.

    Where all d_i are equal the spread is unknown, not 0. What can be said is that at most a share
    q = 1 - (alpha / 2)^(1/n) of the problems that could have been asked differs otherwise, by up to
    1 in either direction: the interval is d - q (1 + d) to d + q (1 - d), its p-value
    2 (1 + |d|)^-n. The interval excludes 0 exactly where p < alpha = 1 - confidence.

    The smallest gain is the one that is called `improved` with a chance of 80 % at this standard
    error: (t + z_0.8) times it, where z_0.8 = 0.84.
    """
    n = differences.shape[-1]
    mean = np.mean(differences, axis=-1)
    alpha = 1 - confidence
    alike = np.ptp(differences, axis=-1) < 1e-12
    squares = np.sum((differences - mean[..., None]) ** 2, axis=-1) + 0.5 / num_samples**2
    error = np.sqrt(squares / max(n - 1, 1) / n)
    quantile = float(stdtrit(max(n - 1, 1), 1 - alpha / 2))
    half = quantile * error
    share = 1 - (alpha / 2) ** (1 / n)
    low = np.where(alike, mean - share * (1 + mean), np.maximum(mean - half, -1.0))
    high = np.where(alike, mean + share * (1 - mean), np.minimum(mean + half, 1.0))
    p_alike = np.minimum(1.0, 2 * (1 + np.abs(mean)) ** -float(n))
    p_value = np.where(alike, p_alike, 2 * stdtr(max(n - 1, 1), -np.abs(mean) / error))
    wide = np.where(alike, share * (1 - mean), half)
    smallest = np.minimum(wide * (1 + float(ndtri(POWER)) / quantile), 1.0)
    return Paired(mean, low, high, p_value, smallest)
