"""Is the model after training better than the one before? Paired by problem, from files alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # scipy.stats takes a second to import

from open_rs.errors import InputError
from open_rs.evaluate.records import read_records, read_summary, tally
from open_rs.evaluate.scores import Interval, score_table
from open_rs.runs import different_keys

METHOD = "paired t over problems as clusters, variance raised by one changed sample"
IMPROVED, WORSE, NOISE = "improved", "worse", "not distinguishable from noise"

# What may differ between two fingerprints: it changes the draw or its precision, not what is
# measured. Anything else, known to this version or not, moves scores.
HARMLESS = ("seed", "num_samples", "device", "versions")


def compare(before: Path, after: Path, confidence: float = 0.95) -> dict[str, Any]:
    """Difference in pass@1, after - before, with interval, p-value and verdict.

    `before` and `after` are folders of finished evaluations of the same problems under the same
    harness; InputError says what differs otherwise. A problem of which one side has no decided
    sample is left out of both and counted in `left_out`.
    """
    summaries = [read_summary(before), read_summary(after)]
    tallies = [
        tally(read_records(folder, summary))
        for folder, summary in zip((before, after), summaries, strict=True)
    ]
    refuse_other_problems(before, after, tallies[0].problem_ids, tallies[1].problem_ids)
    refuse_other_harness(before, after, summaries[0]["fingerprint"], summaries[1]["fingerprint"])
    order = [np.argsort(one.problem_ids) for one in tallies]
    correct, decided = (
        np.stack([getattr(one, name)[place] for one, place in zip(tallies, order, strict=True)])
        for name in ("correct", "decided")
    )  # [2, n] each
    paired = (decided > 0).all(axis=0)
    if not paired.any():
        raise InputError(
            f"{before} and {after}: the grader could judge no problem on both sides; look at the "
            "outcomes in the records"
        )
    correct, decided = correct[:, paired], decided[:, paired]
    means = correct / decided
    num_samples = min(summary["num_samples"] for summary in summaries)
    difference, p_value = paired_difference(means[1] - means[0], num_samples, confidence)
    tables = [
        score_table(c, m, num_samples=summary["num_samples"], confidence=confidence)
        for c, m, summary in zip(correct, decided, summaries, strict=True)
    ]
    return {
        "before": summaries[0]["name"],
        "after": summaries[1]["name"],
        "num_problems": int(paired.sum()),
        "num_samples": num_samples,
        "left_out": int((~paired).sum()),
        "difference": {
            "value": difference.value,
            "low": difference.low,
            "high": difference.high,
            "confidence": confidence,
            "method": METHOD,
        },
        "p_value": p_value,
        "verdict": verdict_of(difference.low, difference.high),
        "scores": {"before": tables[0], "after": tables[1]},
    }


def verdict_of(low: float, high: float) -> str:
    """`improved` or `worse` only where the whole interval lies on one side of 0."""
    if low > 0:
        return IMPROVED
    return WORSE if high < 0 else NOISE


def paired_difference(
    differences: NDArray[np.float64], num_samples: int, confidence: float
) -> tuple[Interval, float]:
    """(interval of the mean, two-sided p-value) of per-problem differences [n] in [-1, 1].

    Problems are the clusters: the k samples of one problem are not independent tries, their
    difference is one number per problem. The mean d is compared with its standard error by t with
    n - 1 degrees of freedom, where

        s^2 = (sum (d_i - d)^2 + 1 / k^2) / (n - 1)

    counts one more sample, on one problem, as changed. Under no difference the d_i are symmetric
    about 0, where t keeps its level or stays below it for the spiky distributions that scores give
    (Benjamini 1983). The added 1 / k^2 matters where few samples changed: with k = 1 the d_i are
    -1, 0, 1, mostly 0, and plain t is too sure of itself. It lies between plain t and the 2 / k^2
    of Bonett & Price 2012, the same idea for paired proportions, and vanishes as n or k grow. With
    k = 1 and every possible table counted, a model is `improved` against itself at most 2.5 % of
    the time at confidence 0.95.

    A sign-flip permutation test agrees with this t (with signs flipped, t is a monotone function of
    the mean) but its attainable levels make it four times as strict as asked at n = 30, k = 1, and
    inverting it gives an interval of no width where nearly all d_i are equal.
    `perf/false_gains.py` measures rates, coverage and power.

    Where all d_i are equal the spread is unknown, not 0. What can be said is that at most a share
    q = 1 - (alpha / 2)^(1/n) of the problems that could have been asked differs otherwise, by up to
    1 in either direction: the interval is d - q (1 + d) to d + q (1 - d), its p-value
    2 (1 + |d|)^-n. The interval excludes 0 exactly where p < alpha = 1 - confidence.
    """
    n = len(differences)
    mean = float(np.mean(differences))
    alpha = 1 - confidence
    if np.ptp(differences) < 1e-12:
        share = 1 - (alpha / 2) ** (1 / n)
        low, high = mean - share * (1 + mean), mean + share * (1 - mean)
        return Interval(mean, low, high), min(1.0, 2 * (1 + abs(mean)) ** -n)
    squares = float(np.sum((differences - mean) ** 2)) + num_samples**-2
    error = math.sqrt(squares / (n - 1) / n)
    half = float(stdtrit(n - 1, 1 - alpha / 2)) * error
    p_value = float(2 * stdtr(n - 1, -abs(mean) / error))
    return Interval(mean, max(mean - half, -1.0), min(mean + half, 1.0)), p_value


def refuse_other_problems(
    before: Path, after: Path, old_ids: list[str], new_ids: list[str]
) -> None:
    """InputError with the first ten problem ids that only one side holds."""
    only_old, only_new = sorted(set(old_ids) - set(new_ids)), sorted(set(new_ids) - set(old_ids))
    if only_old or only_new:
        named = [f"{one} (only in {before})" for one in only_old]
        named += [f"{one} (only in {after})" for one in only_new]
        raise InputError(
            f"{before} and {after} hold different problems, {len(named)} of them: "
            f"{', '.join(named[:10])}{', ...' if len(named) > 10 else ''}; evaluate both on one set"
        )


def refuse_other_harness(
    before: Path, after: Path, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """InputError with every setting that moves scores and differs."""
    differing = sorted(
        key for key in different_keys(old, new) if key.partition(".")[0] not in HARMLESS
    )
    if differing:
        told = [f"{key} ({_at(old, key)!r} and {_at(new, key)!r})" for key in differing]
        raise InputError(
            f"{before} and {after} were not measured alike: {', '.join(told)}; "
            "evaluate both under the same settings"
        )


def _at(tree: Any, key: str) -> Any:
    """The value at a dotted path; None where it is absent."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
