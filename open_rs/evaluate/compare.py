"""Is one model better than another? Paired by problem, from files alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from open_rs.errors import InputError
from open_rs.evaluate.family import METHOD as FAMILY_METHOD
from open_rs.evaluate.family import holm
from open_rs.evaluate.importers import read_evaluation
from open_rs.evaluate.paired import METHOD, Paired, paired_differences
from open_rs.evaluate.records import JUDGE, RECORDS, SUMMARY, Tally, read_summary, tally
from open_rs.evaluate.scores import expected_maximum, sampling_variances, score_table
from open_rs.runs import different_keys

IMPROVED, WORSE, NOISE = "improved", "worse", "not distinguishable from noise"
DIFFERENT = "different harness: not comparable"

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
    refuse_other_records(path, summary, rows, counts)
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
    left out of both and counted in `left_out`. A verdict has to stand when every undecided sample
    counts against it too (`undecided`), and the same weights (`same_model`) get none.
    `smallest_gain` is what would have been found with a chance of 80 %.
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
    found = paired_differences(means[1] - means[0], drawn_samples(before, after), confidence)
    tables = [
        score_table(c, m, num_samples=one.summary["num_samples"], confidence=confidence)
        for c, m, one in zip(correct, decided, (before, after), strict=True)
    ]
    low, high = float(found.low), float(found.high)
    undecided = with_undecided(before, after, found, confidence)
    weights = [one.summary.get("model_sha256") for one in (before, after)]
    verdict = verdict_of(min(low, undecided["low"]), max(high, undecided["high"]))
    same_model = weights[0] is not None and weights[0] == weights[1]
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
        "verdict": DIFFERENT if differing else NOISE if same_model else verdict,
        "undecided": undecided,
        "same_model": same_model,
        "different_harness": differing,
        "untold": [
            *dict.fromkeys(before.summary.get("untold", []) + after.summary.get("untold", []))
        ],
        "scores": {"before": tables[0], "after": tables[1]},
    }


def drawn_samples(before: Evaluation, after: Evaluation) -> int:
    """The number of samples a problem that tell something: that of the side with fewer, and 1 where
    those of every problem agree on both sides, as greedy ones do.
    """
    sides = (before.tally, after.tally)
    spread = any(((one.correct > 0) & (one.correct < one.decided)).any() for one in sides)
    return min(one.summary["num_samples"] for one in (before, after)) if spread else 1


def with_undecided(
    before: Evaluation, after: Evaluation, found: Paired, confidence: float
) -> dict[str, Any]:
    """How many samples of each side the grader could not judge, and the interval and p-value if all
    of them count against the difference that was `found`: right before and wrong after where that
    is a gain. Otherwise a model could gain by answers that the grader gives up on.
    """
    samples = [one.summary["num_samples"] for one in (before, after)]
    missing = [k - one.tally.decided for k, one in zip(samples, (before, after), strict=True)]
    told = {"before": int(missing[0].sum()), "after": int(missing[1].sum())}
    if not any(told.values()):
        ends = {"low": float(found.low), "high": float(found.high)}
        return {**told, **ends, "p_value": float(found.p_value)}
    as_right = (1, 0) if found.value > 0 else (0, 1)
    old, new = (
        (one.tally.correct + right * open_ones) / k
        for one, right, open_ones, k in zip(
            (before, after), as_right, missing, samples, strict=True
        )
    )
    least = paired_differences(new - old, drawn_samples(before, after), confidence)
    reversed_sign = float(least.value) * float(found.value) <= 0
    p_value = 1.0 if reversed_sign else max(float(least.p_value), float(found.p_value))
    return {**told, "low": float(least.low), "high": float(least.high), "p_value": p_value}


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
            told = {"candidate": str(path), "benchmark": name or benchmark_of(base.summary)}
            rows.append(told | _compared(base, candidate, confidence, allow_different_harness))
        found += rows
        if len(rows) > 1:
            best.append(best_of(base.tally, rows))
    family = judge_as_family(found, confidence)
    return {"base": str(paths[0]), "family": family, "comparisons": found, "best": best}


def benchmark_of(summary: dict[str, Any]) -> str:
    """The benchmark's name; of an evaluation that tells none, its own."""
    return str((summary["fingerprint"].get("benchmark") or summary)["name"])


def judge_as_family(found: Sequence[dict[str, Any]], confidence: float) -> dict[str, Any]:
    """Give each comparison its Holm-adjusted p-value, undecided samples counted against it, and
    take back the verdicts that it does not bear; returns what the family was.
    """
    adjusted = holm(np.array([one["undecided"]["p_value"] for one in found]))
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


def refuse_other_records(
    path: Path, summary: dict[str, Any], rows: Sequence[dict[str, Any]], counts: Tally
) -> None:
    """InputError where the records are not those that the summary tells of: edited, put together
    from several evaluations, or half regraded.
    """
    fingerprint = summary["fingerprint"]
    for key, told in (("policy_version", "grader_policy"), ("seed", "seed")):
        other = next((row for row in rows if row.get(key) != fingerprint.get(told)), None)
        if other is not None:
            raise InputError(
                f"{path}: {key} of sample {other['sample']} of problem {other['problem_id']!r} is "
                f"{other.get(key)!r} and the summary's {told} is {fingerprint.get(told)!r}; grade "
                f"anew by open-rs evaluate --regrade {path}, or evaluate again"
            )
    known = counts.decided > 0
    told_score = summary["scores"]["pass@1"]["value"]
    if known.any():
        score = float(np.mean(counts.correct[known] / counts.decided[known]))
        if not abs(score - told_score) <= 1e-9:
            raise InputError(
                f"{path}: pass@1 is {score:.4g} by {RECORDS} and {SUMMARY} says {told_score:.4g}; "
                f"the files do not belong together: grade anew by open-rs evaluate --regrade "
                f"{path}, or evaluate again"
            )


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
    keys = sorted(
        key
        for key in different_keys(old, new)
        if key == f"versions.{JUDGE}" or key.partition(".")[0] not in HARMLESS
    )
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
