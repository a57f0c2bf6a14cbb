"""Is one model better than another? Paired by problem, from files alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit  # scipy.stats takes a second to import

from open_rs.errors import InputError
from open_rs.evaluate.family import METHOD as FAMILY_METHOD
from open_rs.evaluate.family import holm
from open_rs.evaluate.importers import read_evaluation
from open_rs.evaluate.records import RECORDS, SUMMARY, Tally, read_summary, tally
from open_rs.evaluate.scores import Interval, expected_maximum, sampling_variances, score_table
from open_rs.runs import different_keys

METHOD = "paired t over problems as clusters, squares raised by half a changed sample"
IMPROVED, WORSE, NOISE = "improved", "worse", "not distinguishable from noise"
DIFFERENT = "different harness: not comparable"
POWER = 0.8

# What may differ between two fingerprints: it changes the draw or its precision, not what is
# measured. Anything else, known to this version or not, moves scores.
HARMLESS = ("seed", "num_samples", "device", "versions")


class DifferentHarness(InputError):
    """Two evaluations were not measured alike, so their difference says nothing of the models."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation as comparisons need it; the tally is in the order of problem ids."""

    path: Path
    summary: dict[str, Any]
    tally: Tally


def open_evaluation(path: Path, metric: str | None = None) -> Evaluation:
    """A finished evaluation: a folder of open-rs, or a file of samples from another harness."""
    summary, rows = read_evaluation(path, metric)
    counts = tally(rows)
    order = np.argsort(counts.problem_ids)
    ids = [counts.problem_ids[place] for place in order]
    return Evaluation(path, summary, Tally(ids, counts.correct[order], counts.decided[order]))


def compare(
    before: Path,
    after: Path,
    confidence: float = 0.95,
    *,
    allow_different_harness: bool = False,
    metric: str | None = None,
) -> dict[str, Any]:
    """Difference in pass@1, after - before, with interval, p-value and verdict.

    `before` and `after` are finished evaluations of the same problems under the same harness;
    InputError says what differs otherwise. With `allow_different_harness` the difference is told,
    and the verdict is that it says nothing. A problem of which one side has no decided sample is
    left out of both and counted in `left_out`. `smallest_gain` is what would have been found with a
    chance of 80 %.
    """
    old, new = open_evaluation(before, metric), open_evaluation(after, metric)
    return _compared(old, new, confidence, allow_different_harness)


def _compared(
    before: Evaluation, after: Evaluation, confidence: float, allow_different_harness: bool
) -> dict[str, Any]:
    refuse_other_problems(before, after)
    old, new = before.summary["fingerprint"], after.summary["fingerprint"]
    if not allow_different_harness:
        refuse_other_harness(before.path, after.path, old, new)
    differing = harness_differences(old, new)
    sides = (before.tally, after.tally)
    correct, decided = (
        np.stack([getattr(side, name) for side in sides]) for name in ("correct", "decided")
    )  # [2, n] each
    paired = (decided > 0).all(axis=0)
    if not paired.any():
        raise InputError(
            f"{before.path} and {after.path}: the grader could judge no problem on both sides; "
            "look at the outcomes in the records"
        )
    correct, decided = correct[:, paired], decided[:, paired]
    means = correct / decided
    num_samples = min(one.summary["num_samples"] for one in (before, after))
    found = paired_differences(means[1] - means[0], num_samples, confidence)
    tables = [
        score_table(c, m, num_samples=one.summary["num_samples"], confidence=confidence)
        for c, m, one in zip(correct, decided, (before, after), strict=True)
    ]
    low, high = float(found.low), float(found.high)
    return {
        "before": before.summary["name"],
        "after": after.summary["name"],
        "num_problems": int(paired.sum()),
        "num_samples": num_samples,
        "left_out": int((~paired).sum()),
        "difference": {
            "value": float(found.value),
            "low": low,
            "high": high,
            "confidence": confidence,
            "method": METHOD,
        },
        "p_value": float(found.p_value),
        "smallest_gain": float(found.smallest_gain),
        "verdict": DIFFERENT if differing else verdict_of(low, high),
        "different_harness": differing,
        "scores": {"before": tables[0], "after": tables[1]},
    }


def compare_all(
    paths: Sequence[Path],
    confidence: float = 0.95,
    *,
    allow_different_harness: bool = False,
    metric: str | None = None,
) -> dict[str, Any]:
    """Every path after the first against the first, on every benchmark that it holds, judged as one
    family.

    A path is an evaluation, or a folder of several (one a benchmark, paired by name). A verdict
    asks for a Holm-adjusted p below 1 - confidence; intervals and p-values are those of each
    comparison alone. `best` puts beside the best of several candidates what the best of as many
    would seem to gain if none differed from the base.
    """
    held = [evaluations_in(path) for path in paths]
    for path, names in zip(paths[1:], held[1:], strict=True):
        refuse_other_benchmarks(paths[0], path, held[0], names)
    found, best = [], []
    for name, base_path in held[0].items():
        base, rows = open_evaluation(base_path, metric), []
        for path, names in zip(paths[1:], held[1:], strict=True):
            candidate = open_evaluation(names[name], metric)
            told = {"candidate": str(path), "benchmark": name or base.summary["name"]}
            rows.append(told | _compared(base, candidate, confidence, allow_different_harness))
        found += rows
        if len(rows) > 1:
            best.append(best_of(base.tally, rows))
    family = judge_as_family(found, confidence)
    return {"base": str(paths[0]), "family": family, "comparisons": found, "best": best}


def judge_as_family(found: Sequence[dict[str, Any]], confidence: float) -> dict[str, Any]:
    """Give each comparison its Holm-adjusted p-value and take back the verdicts that it does not
    bear; returns what the family was.
    """
    adjusted = holm(np.array([one["p_value"] for one in found]))
    for one, p_value in zip(found, adjusted, strict=True):
        one["p_adjusted"] = float(p_value)
        if one["verdict"] != DIFFERENT and p_value >= 1 - confidence:
            one["verdict"] = NOISE
    return {"comparisons": len(found), "method": f"{FAMILY_METHOD} {1 - confidence:.2g}"}


def evaluations_in(path: Path) -> dict[str, Path]:
    """Evaluations by benchmark: the path itself under the name "", or the folders in it."""
    if path.is_file() or (path / SUMMARY).is_file():
        return {"": path}
    inside = {
        one.parent.name: one.parent
        for one in sorted(path.glob(f"*/{SUMMARY}"))
        if (one.parent / RECORDS).is_file()
    }
    if not inside:
        read_summary(path)  # its error says what is missing
    return inside


def refuse_other_benchmarks(
    base: Path, path: Path, held: Mapping[str, Path], names: Mapping[str, Path]
) -> None:
    if ("" in held) != ("" in names):
        one, many = (base, path) if "" in held else (path, base)
        raise InputError(
            f"{one} is one evaluation and {many} a folder of several; name the one in it"
        )
    apart = sorted(held.keys() ^ names.keys())
    if apart:
        raise InputError(
            f"{base} and {path} do not hold the same benchmarks: {', '.join(apart[:10])}; "
            "evaluate both on all of them, or give the folder of one"
        )


def best_of(base: Tally, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The best of m candidates on one benchmark beside the mean best of m equals of the base: the
    standard deviation of a score over samples of these problems times the mean of the largest of m
    standard normal draws. With one sample a problem it is an upper bound (`at_most`).
    """
    known = base.decided > 0
    spread = sampling_variances(base.correct[known], base.decided[known])
    deviation = float(np.sqrt(np.sum(spread))) / int(known.sum())
    best = max(rows, key=lambda one: one["difference"]["value"])
    return {
        "benchmark": best["benchmark"],
        "candidate": best["candidate"],
        "best_of": len(rows),
        "gain": best["difference"]["value"],
        "expected_if_none_differs": deviation * expected_maximum(len(rows)),
        "at_most": bool(base.decided.max() == 1),
    }


def verdict_of(low: float, high: float) -> str:
    """`improved` or `worse` only where the whole interval lies on one side of 0."""
    if low > 0:
        return IMPROVED
    return WORSE if high < 0 else NOISE


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


def refuse_other_problems(before: Evaluation, after: Evaluation) -> None:
    """InputError with the first ten problem ids that only one side holds."""
    old, new = set(before.tally.problem_ids), set(after.tally.problem_ids)
    if old != new:
        named = [f"{one} (only in {before.path})" for one in sorted(old - new)]
        named += [f"{one} (only in {after.path})" for one in sorted(new - old)]
        raise InputError(
            f"{before.path} and {after.path} hold different problems, {len(named)} of them: "
            f"{', '.join(named[:10])}{', ...' if len(named) > 10 else ''}; evaluate both on one set"
        )


def harness_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Every setting that moves scores and differs, with both values."""
    keys = sorted(key for key in different_keys(old, new) if key.partition(".")[0] not in HARMLESS)
    return [f"{key} ({_at(old, key)!r} and {_at(new, key)!r})" for key in keys]


def refuse_other_harness(
    before: Path, after: Path, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """DifferentHarness with every setting that moves scores and differs."""
    differing = harness_differences(old, new)
    if differing:
        raise DifferentHarness(
            f"{before} and {after} were not measured alike: {', '.join(differing)}; "
            "evaluate both under the same settings"
        )


def _at(tree: Any, key: str) -> Any:
    """The value at a dotted path; None where it is absent."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
