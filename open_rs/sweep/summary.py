"""What a sweep says: each arm over its seeds, and each arm against the first, paired by seed.

The spread is that of training seeds. All runs answer the same test problems, so that the intervals
are about these problems; the interval over problems is in each run's own comparison.

A score moves in steps of one graded sample, so a few seeds can agree by chance: a spread counts as
one such step at least. Fewer than `FEWEST` seeds get no verdict: two that agree, or nearly, look
like any certainty one likes. Runs that ended for good before their last step are results; where a
run was begun and neither finished nor ended, its arm is not judged, since the runs that are left
may be those that went well.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from open_rs.evaluate.compare import verdict_of
from open_rs.evaluate.family import METHOD, holm
from open_rs.evaluate.records import is_finished as is_scored
from open_rs.evaluate.records import read_summary
from open_rs.recipe import Recipe
from open_rs.runs import RunFolder, read_json, read_log, read_metrics
from open_rs.sweep.cells import Cell, arms_of, early_end, is_finished, is_open

Row = dict[str, Any]
FEWEST = 3  # seeds of a verdict
FEW_SEEDS = (
    f"fewer than {FEWEST} seeds: nothing can be concluded about a difference, since the same arm "
    "with another seed differs too; give --seeds 5 or more"
)
ROUNDING = 1e-9  # of the values: a spread below it is none


def summarise(recipe: Recipe, cells: Sequence[Cell]) -> Row:
    """Rows of the runs, the arms and the comparisons; runs that are not finished are left out."""
    confidence = recipe.evaluate.confidence
    runs = [row for cell in cells if (row := run_row(cell)) is not None]
    arms = [arm.name for arm in arms_of(recipe)]
    by_arm = {arm: {row["seed"]: row for row in runs if row["arm"] == arm} for arm in arms}
    cells_of_arm = Counter(cell.arm for cell in cells)
    open_runs = Counter(cell.arm for cell in cells if is_open(cell))
    told = [
        arm_row(arm, list(rows.values()), confidence)
        | {"missing": cells_of_arm[arm] - len(rows), "open": open_runs[arm]}
        for arm, rows in by_arm.items()
    ]
    compared = [
        {"against": arms[0], **difference(arm, by_arm[arms[0]], by_arm[arm], confidence)}
        for arm in arms[1:]
    ]
    for one in compared:
        withhold(one, {arm: open_runs[arm] for arm in (arms[0], one["arm"])})
    judge_family(compared, confidence)
    few = min((row["n"] for row in compared or told), default=0) < FEWEST
    return {
        "name": recipe.name,
        "seeds": recipe.sweep.seeds,
        "missing": len(cells) - len(runs),
        "runs": runs,
        "arms": told,
        "comparisons": compared,
        "method": f"t over seeds, paired by seed; {METHOD} {1 - confidence:g}",
        "note": FEW_SEEDS if few else "",
    }


def withhold(one: Row, open_runs: dict[str, int]) -> None:
    """No p-value where the runs that are there may not stand for all that were begun."""
    told = [f"{count} of {arm}" for arm, count in open_runs.items() if count]
    if told and one["p_value"] is not None:
        one |= {"p_value": None, "withheld": f"runs begun and not finished: {', '.join(told)}"}


def run_row(cell: Cell) -> Row | None:
    """What one run came to; None where it is not finished. `stopped`: the step after which it ended
    for good before its last one.
    """
    run = cell.run
    comparison = run.evaluation("comparison.json")
    if not is_finished(cell) or (cell.recipe.data.test is not None and not comparison.exists()):
        return None
    metrics = read_metrics(run)
    steps = [row for row in metrics if row["step"] > 0]
    ledger = read_log(run.ledger)
    usd = [row["usd"] for row in ledger if row.get("usd") is not None]
    return {
        "arm": cell.arm,
        "seed": cell.seed,
        "run": str(run.path),
        **last_validation(run, metrics),
        **(test_scores(run) if comparison.exists() else {}),
        "stopped": early_end(cell.recipe, run),
        "last_tokens": steps[-1].get("completion/mean_tokens") if steps else None,
        "completion_tokens": sum(row.get("tokens/completion", 0) for row in steps),
        "seconds": sum(row.get("seconds", 0.0) for row in ledger),
        "usd": sum(usd) if usd else None,
    }


def last_validation(run: RunFolder, metrics: Sequence[Row]) -> Row:
    """The last score of the validation set, and by how much one graded sample moves it (`grain`),
    as far as that is known.
    """
    scored = [row for row in metrics if "validation/pass@1" in row]
    if not scored:
        return {"last_validation": None, "grain": 0.0}
    folder = run.evaluation(f"validation-{scored[-1]['step']:06d}")
    grain = grain_of(read_summary(folder)) if is_scored(folder) else 0.0
    return {"last_validation": scored[-1]["validation/pass@1"], "grain": grain}


def grain_of(measured: Row) -> float:
    """By how much one graded sample of one problem moves a mean score."""
    return 1 / (measured["num_problems"] * measured["num_samples"])


def test_scores(run: RunFolder) -> Row:
    comparison = read_json(run.evaluation("comparison.json"))
    return {
        "before": comparison["scores"]["before"]["pass@1"]["value"],
        "score": comparison["scores"]["after"]["pass@1"]["value"],
        "step": comparison["selection"]["step"],
        "verdict": comparison["verdict"],
        "grain": grain_of(comparison),
    }


def score_of(row: Row) -> float | None:
    """The test score of the selected checkpoint, else the last validation score."""
    score: float | None = row["score"] if "score" in row else row["last_validation"]
    return score


def arm_row(arm: str, rows: Sequence[Row], confidence: float) -> Row:
    """Means over seeds: the score with its interval, length and tokens; runs that were stopped."""
    scores = [score for row in rows if (score := score_of(row)) is not None]
    lengths = [row["last_tokens"] for row in rows if row["last_tokens"] is not None]
    return {
        "arm": arm,
        "seeds": len(rows),
        **mean_over_seeds(scores, confidence, grain=coarsest(rows), within=(0.0, 1.0)),
        "stopped": sum(row["stopped"] is not None for row in rows),
        "last_tokens": float(np.mean(lengths)) if lengths else None,
        "completion_tokens": float(np.mean([row["completion_tokens"] for row in rows]))
        if rows
        else None,
    }


def coarsest(rows: Sequence[Row]) -> float:
    return max((float(row["grain"]) for row in rows), default=0.0)


def mean_over_seeds(
    values: Sequence[float],
    confidence: float,
    *,
    grain: float = 0.0,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Row:
    """Mean, standard deviation s and mean -+ t_{n-1} max(s, grain) / sqrt(n); None where n is too
    small. `grain`: the least by which a value can move; `within`: where the mean can lie at all.
    """
    n = len(values)
    mean = float(np.mean(values)) if n else None
    if n < 2 or mean is None:
        return {"mean": mean, "std": None, "low": None, "high": None, "n": n}
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * max(std, grain) / math.sqrt(n)
    low, high = max(mean - half, within[0]), min(mean + half, within[1])
    return {"mean": mean, "std": std, "low": low, "high": high, "n": n}


def difference(arm: str, base: dict[int, Row], other: dict[int, Row], confidence: float) -> Row:
    """other - base over the seeds that both have."""
    both = [seed for seed in base if seed in other]
    pairs = [(score_of(base[seed]), score_of(other[seed])) for seed in both]
    values = [after - before for before, after in pairs if before is not None and after is not None]
    grain = coarsest([rows[seed] for seed in both for rows in (base, other)])
    return {"arm": arm, **mean_difference(values, confidence, grain=grain, within=(-1.0, 1.0))}


def mean_difference(
    values: Sequence[float],
    confidence: float,
    *,
    grain: float = 0.0,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Row:
    """`mean_over_seeds` of differences, one for each seed, with the two-sided p-value of

        t = mean sqrt(n) / max(s, grain),  n - 1 degrees of freedom

    None below `FEWEST` seeds, and where the values are equal and their grain is not known; then
    `withheld` says why. What the family decides, `judge_family` fills in.
    """
    found = mean_over_seeds(values, confidence, grain=grain, within=within)
    found |= {"p_value": None, "p_holm": None, "verdict": None, "withheld": ""}
    n = len(values)
    if n < FEWEST:
        return found | {"withheld": f"no verdict below {FEWEST}"}
    spread = max(found["std"], grain)
    if spread <= ROUNDING * float(np.max(np.abs(values))):
        return found | {"withheld": "no verdict, as all are equal"}
    t = abs(found["mean"]) * math.sqrt(n) / spread
    return found | {"p_value": 2 * float(stats.t.sf(t, n - 1))}


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
    lines += map(difference_text, summary["comparisons"])
    for row in summary["arms"]:
        whole = row["seeds"] + row["missing"]
        if row["stopped"]:
            lines.append(
                f"{row['arm']}: {row['stopped']} of {whole} runs ended for good before their last "
                "step; they count by what they came to"
            )
        if row["missing"]:
            lines.append(f"{row['arm']}: {row['missing']} of {whole} runs are not finished")
    return "\n".join([*lines, *([summary["note"]] if summary["note"] else [])])


def difference_text(one: Row) -> str:
    """One comparison by its own number of seeds."""
    if one["mean"] is None:
        return f"{one['arm']} - {one['against']}: no seed that both have a score of"
    seeds = f"{one['n']} seed{'s' if one['n'] > 1 else ''}"
    found = f"{one['mean']:+.3f} {interval(one, '+')}".rstrip()
    judged = one["withheld"]
    if one["p_holm"] is not None:
        judged = f"p = {one['p_holm']:.2g} (Holm): {one['verdict']}"
    return f"{one['arm']} - {one['against']}: {found}, {seeds}, {judged}"


def number(value: float | None) -> str:
    return "    -" if value is None else f"{value:.3f}"


def interval(row: Row, sign: str = "") -> str:
    if row["low"] is None:
        return ""
    return f"[{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"
