"""What a sweep says: each arm over its seeds, and each arm against the first, paired by seed.

The spread is that of training seeds. All runs answer the same test problems, so that the intervals
are about these problems; the interval over problems is in each run's own comparison.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from open_rs.evaluate.compare import verdict_of
from open_rs.evaluate.family import METHOD, holm
from open_rs.recipe import Recipe
from open_rs.runs import RunFolder, read_json, read_log, read_metrics
from open_rs.sweep.cells import Cell, arms_of, is_finished

Row = dict[str, Any]
NO_SPREAD = (
    "one seed each: nothing can be concluded about a difference between arms, since the same arm "
    "with another seed differs too; give --seeds 5 or more"
)


def summarise(recipe: Recipe, cells: Sequence[Cell]) -> Row:
    """Rows of the runs, the arms and the comparisons; runs that are not finished are left out."""
    confidence = recipe.evaluate.confidence
    runs = [row for cell in cells if (row := run_row(cell)) is not None]
    arms = [arm.name for arm in arms_of(recipe)]
    by_arm = {arm: {row["seed"]: row for row in runs if row["arm"] == arm} for arm in arms}
    compared = [
        difference(arm, by_arm[arms[0]], by_arm[arm], confidence) | {"against": arms[0]}
        for arm in arms[1:]
    ]
    judge_family(compared, confidence)
    few = max((len(rows) for rows in by_arm.values()), default=0) < 2
    return {
        "name": recipe.name,
        "seeds": recipe.sweep.seeds,
        "missing": len(cells) - len(runs),
        "runs": runs,
        "arms": [arm_row(arm, list(rows.values()), confidence) for arm, rows in by_arm.items()],
        "comparisons": compared,
        "method": f"t over seeds, paired by seed; {METHOD} {1 - confidence:g}",
        "note": NO_SPREAD if few else "",
    }


def run_row(cell: Cell) -> Row | None:
    """What one run came to; None where it is not finished."""
    run = cell.run
    comparison = run.evaluation("comparison.json")
    if not is_finished(cell) or (cell.recipe.data.test is not None and not comparison.exists()):
        return None
    metrics = read_metrics(run)
    steps = [row for row in metrics if row["step"] > 0]
    scored = [row for row in metrics if "validation/pass@1" in row]
    test = test_scores(run) if comparison.exists() else {}
    ledger = read_log(run.ledger)
    usd = [row["usd"] for row in ledger if row.get("usd") is not None]
    return {
        "arm": cell.arm,
        "seed": cell.seed,
        "run": str(run.path),
        **test,
        "last_validation": scored[-1]["validation/pass@1"] if scored else None,
        "last_tokens": steps[-1].get("completion/mean_tokens"),
        "completion_tokens": sum(row.get("tokens/completion", 0) for row in steps),
        "seconds": sum(row.get("seconds", 0.0) for row in ledger),
        "usd": sum(usd) if usd else None,
    }


def test_scores(run: RunFolder) -> Row:
    comparison = read_json(run.evaluation("comparison.json"))
    return {
        "before": comparison["scores"]["before"]["pass@1"]["value"],
        "score": comparison["scores"]["after"]["pass@1"]["value"],
        "step": comparison["selection"]["step"],
        "verdict": comparison["verdict"],
    }


def score_of(row: Row) -> float | None:
    """The test score of the selected checkpoint, else the last validation score."""
    score: float | None = row["score"] if "score" in row else row["last_validation"]
    return score


def arm_row(arm: str, rows: Sequence[Row], confidence: float) -> Row:
    """Means over seeds: the score with its interval, length and tokens."""
    scores = [score for row in rows if (score := score_of(row)) is not None]
    lengths = [row["last_tokens"] for row in rows if row["last_tokens"] is not None]
    return {
        "arm": arm,
        "seeds": len(rows),
        **mean_over_seeds(scores, confidence),
        "last_tokens": float(np.mean(lengths)) if lengths else None,
        "completion_tokens": float(np.mean([row["completion_tokens"] for row in rows]))
        if rows
        else None,
    }


def mean_over_seeds(values: Sequence[float], confidence: float) -> Row:
    """Mean, standard deviation and mean -+ t_{n-1} s / sqrt(n); None where n is too small."""
    n = len(values)
    mean = float(np.mean(values)) if n else None
    if n < 2 or mean is None:
        return {"mean": mean, "std": None, "low": None, "high": None, "n": n}
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n)
    return {"mean": mean, "std": std, "low": mean - half, "high": mean + half, "n": n}


def difference(arm: str, base: dict[int, Row], other: dict[int, Row], confidence: float) -> Row:
    """other - base over the seeds that both have."""
    pairs = [(score_of(base[seed]), score_of(other[seed])) for seed in base if seed in other]
    values = [after - before for before, after in pairs if before is not None and after is not None]
    return {"arm": arm, **mean_difference(values, confidence)}


def mean_difference(values: Sequence[float], confidence: float) -> Row:
    """`mean_over_seeds` of differences, one for each seed, with the two-sided p-value of t; what
    the family decides, `judge_family` fills in.
    """
    found = mean_over_seeds(values, confidence) | {"p_holm": None, "verdict": None}
    if len(values) < 2:
        return found | {"p_value": None}
    if found["std"] == 0:
        return found | {"p_value": 1.0 if found["mean"] == 0 else 0.0}
    return found | {"p_value": float(stats.ttest_1samp(values, 0.0).pvalue)}


def judge_family(found: Sequence[Row], confidence: float) -> None:
    """Give each its p-value by Holm over all of them, and the verdict."""
    known = [one for one in found if one["p_value"] is not None]
    adjusted = holm(np.array([one["p_value"] for one in known]))
    for one, p_value in zip(known, adjusted.tolist(), strict=True):
        one["p_holm"] = p_value
        clear = p_value < 1 - confidence
        one["verdict"] = verdict_of(one["low"], one["high"]) if clear else verdict_of(-1, 1)


def summary_text(summary: Row) -> str:
    """The summary as a table for a person."""
    width = max((len(row["arm"]) for row in summary["arms"]), default=4)
    lines = [f"{'arm':<{width}}  score  {'interval over seeds':<20} seeds  tokens"]
    for row in summary["arms"]:
        lines.append(
            f"{row['arm']:<{width}}  {number(row['mean'])}  {interval(row):<20} {row['n']:>5}  "
            f"{row['last_tokens'] or 0:6.0f}"
        )
    for one in summary["comparisons"]:
        if one["mean"] is None:
            continue
        p_value = "" if one["p_holm"] is None else f", p = {one['p_holm']:.2g} (Holm): "
        lines.append(
            f"{one['arm']} - {one['against']}: {one['mean']:+.3f} {interval(one, '+')}{p_value}"
            f"{one['verdict'] or ''}".rstrip()
        )
    if summary["missing"]:
        lines.append(f"{summary['missing']} runs are not finished and not counted")
    return "\n".join([*lines, *([summary["note"]] if summary["note"] else [])])


def number(value: float | None) -> str:
    return "    -" if value is None else f"{value:.3f}"


def interval(row: Row, sign: str = "") -> str:
    if row["low"] is None:
        return ""
    return f"[{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"
