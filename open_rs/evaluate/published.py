"""Is a published gain a gain? One verdict for each score of a table, all of them as one family."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit  # scipy.stats takes a second to import

from open_rs.errors import InputError
from open_rs.evaluate.compare import DIFFERENT, IMPROVED, NOISE, WORSE, verdict_of
from open_rs.evaluate.family import METHOD as FAMILY_METHOD
from open_rs.evaluate.family import holm
from open_rs.evaluate.scores import Interval, expected_best, wilson
from open_rs.evaluate.tables import Published, plain

OVER_SEEDS = "samples of the same problems: Welch's t over seeds"
SINGLE = "problems and samples, as if the two had met different problems: Newcombe's score interval"
MIXED = (
    "samples of the same problems: at most that of independent tries where one seed was run or all "
    "seeds agree"
)
UNTOLD = "harness not told: not comparable"

Row = dict[str, Any]


def judge(
    rows: Sequence[Published],
    *,
    base: str | None = None,
    models: Sequence[str] = (),
    confidence: float = 0.95,
) -> Row:
    """A verdict for every row against its base on the same benchmark.

    `base` is the model to judge against: rows that name another base are left out, and rows that
    name none in a table in which some do. Without it each row is judged against the base that it
    names. `models` are the only ones to judge. A verdict asks for a Holm-adjusted p below 1 -
    confidence over all rows that are judged; a score chosen as the best of m counts with
    1 - (1 - p)^m. A difference between two harnesses is none between two models: such rows get no
    other verdict and are not counted in the family. Where a single score is held against another
    and a harness is not told, neither `improved` nor `worse` is said: such tables are often put
    together from several sources.
    """
    judged, no_base = [], []
    for row in _asked(rows, base, models):
        name = base or row.base or ""
        against = base_of(row, name, rows)
        if against is None:
            no_base.append({"model": row.model, "benchmark": row.benchmark, "base": name})
        elif plain(name) != plain(row.model):
            judged.append(_judged(row, against, confidence))
    if not judged:
        missing = ", ".join(dict.fromkeys(one["base"] for one in no_base if one["base"]))
        raise InputError(
            f"no score to judge: the table has none of {missing or 'a base'}; add them by another "
            "--published, or name a base of the table by --base"
        )
    family = [one for one in judged if one["verdict"] != DIFFERENT]
    adjusted = holm(np.array([one["p_value"] for one in family]))
    for one, p_value in zip(family, adjusted, strict=True):
        one["p_adjusted"] = float(p_value)
        if p_value >= 1 - confidence:
            one["verdict"] = NOISE
        elif one["verdict"] in (IMPROVED, WORSE) and min(one["seeds"]) == 1:
            one["verdict"] = UNTOLD if None in one["harness"] else one["verdict"]
    for one in judged:
        one["withheld"] = one["difference"]["value"] > 0 and one["verdict"] != IMPROVED
        likely = one["p_value"] if one["p_adjusted"] is None else one["p_adjusted"]
        if one["withheld"] and likely >= 1 - confidence:
            among = "" if one["p_adjusted"] is None else f", {likely:.2g} among {len(family)} rows"
            one["reasons"].append(f"chance alone gives as much: p = {one['p_value']:.2g}{among}")
    return {
        "base": base,
        "confidence": confidence,
        "family": {"comparisons": len(family), "method": f"{FAMILY_METHOD} {1 - confidence:.2g}"},
        "rows": judged,
        "base_missing": no_base,
    }


def _asked(rows: Sequence[Published], base: str | None, models: Sequence[str]) -> list[Published]:
    """The rows that are to be judged."""
    known = {plain(row.model) for row in rows}
    for name in (*([base] if base else []), *models):
        if plain(name) not in known:
            raise InputError(f"no model {name!r} in the table; mend the name")
    wanted = {plain(name) for name in models} or known
    naming = {table_of(row) for row in rows if row.base}
    asked = [row for row in rows if plain(row.model) in wanted]
    if base is None:
        return [row for row in asked if row.base]
    return [
        row
        for row in asked
        if plain(row.model) != plain(base)
        and (plain(row.base) == plain(base) if row.base else table_of(row) not in naming)
    ]


def base_of(row: Published, name: str, rows: Sequence[Published]) -> Published | None:
    """The score of the base `name` on this row's benchmark: that of the same table where it has
    one. Several that differ are refused, since the lowest would make the best gain.
    """
    held = {
        (one.mean, one.std, one.seeds, table_of(one)): one
        for one in rows
        if plain(one.model) == plain(name) and one.benchmark == row.benchmark
    }
    same_table = [one for one in held.values() if table_of(one) == table_of(row)]
    found = same_table or list(held.values())
    if len(found) > 1:
        listed = ", ".join(f"{100 * one.mean:g} ({one.where})" for one in found)
        raise InputError(f"{listed}: {row.benchmark} of {found[0].model} has several; keep one")
    return found[0] if found else None


def table_of(row: Published) -> str:
    return row.where.partition(", line ")[0]


def _judged(row: Published, base: Published, confidence: float) -> Row:
    """One row against its base, before the family is known."""
    if row.problems != base.problems:
        raise InputError(
            f"{row.where}: {row.benchmark} with {row.problems} problems and its base with "
            f"{base.problems} are two sets; compare scores of one"
        )
    found, p_value, error = difference(row, base, confidence)
    chosen = row.best_of if found.value > 0 else 1
    p_value = -math.expm1(chosen * math.log1p(-min(p_value, 1 - 1e-15)))
    apart = row.harness is not None and base.harness is not None and row.harness != base.harness
    return {
        "model": row.model,
        "benchmark": row.benchmark,
        "base": base.model,
        "score": row.mean,
        "base_score": base.mean,
        "problems": row.problems,
        "seeds": [base.seeds, row.seeds],
        "difference": {"value": found.value, "low": found.low, "high": found.high, "error": error},
        "over_problems": over_problems(row, base, confidence),
        "best_of": row.best_of,
        "harness": [base.harness, row.harness],
        "p_value": p_value,
        "p_adjusted": None,
        "verdict": DIFFERENT if apart else verdict_of(found.low, found.high),
        "reasons": _reasons(row, base, confidence, apart) if found.value > 0 else [],
    }


def _reasons(row: Published, base: Published, confidence: float, apart: bool) -> list[str]:
    """What stands against taking a higher score for a gain, from the facts of the two rows."""
    reasons = []
    if row.seeds == 1:
        one = wilson(row.mean, row.problems, _quantile(confidence))
        reasons.append(
            f"n = 1: one sample for each of {row.problems} problems puts {100 * row.mean:.1f} "
            f"between {100 * one.low:.1f} and {100 * one.high:.1f}"
        )
    elif not row.std:
        reasons.append(f"no spread over {row.seeds} seeds: they tell as much as one sample")
    if row.best_of > 1:
        best = expected_best(base.mean, row.problems * row.seeds, row.best_of)
        reasons.append(
            f"chosen on the test set: with no difference from the base the best of {row.best_of} "
            f"scores up to {100 * best:.1f} on average"
        )
    if apart:
        reasons.append(f"another harness: the base by {base.harness}, this by {row.harness}")
    elif min(row.seeds, base.seeds) == 1 and None in (row.harness, base.harness):
        untold = " and ".join(one.model for one in (base, row) if one.harness is None)
        reasons.append(
            f"the harness is not told of {untold}: name it in a column harness or by --facts"
        )
    return reasons


def difference(row: Published, base: Published, confidence: float) -> tuple[Interval, float, str]:
    """(interval of row - base, two-sided p-value, which error is counted).

    With seeds on both sides Welch's t: error^2 = s_1^2 / m_1 + s_2^2 / m_2, the error of the two
    means over further seeds on these problems. With one seed on either side nothing is known of its
    spread but that it is at most that of independent tries, p (1 - p) / n. Figures are rounded:
    standard deviations are taken at their upper end, and the rounding of both scores is taken off
    the difference for p and added to the interval.
    """
    d = row.mean - base.mean
    blur = (row.rounding + base.rounding) / 2
    size = max(abs(d) - blur, 0.0)
    if row.seeds == base.seeds == 1:
        low, high = newcombe(row.mean, row.problems, base.mean, base.problems, confidence)
        return Interval(d, low - blur, high + blur), two_proportions(row, base, size), SINGLE
    parts = [_seed_error(one) for one in (row, base)]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(stdtrit(freedom, 0.5 + confidence / 2)) * math.sqrt(variance) + blur
    p_value = float(2 * stdtr(freedom, -size / math.sqrt(variance)))
    error = OVER_SEEDS if row.std and base.std else MIXED
    return Interval(d, d - half, d + half), p_value, error


def _seed_error(one: Published) -> tuple[float, float]:
    """(squared error of the mean over seeds, its degrees of freedom)."""
    if not one.std:  # seeds that all agree were greedy: they tell as much as one
        return _independent(one), 1e9
    return (one.std + one.rounding / 2) ** 2 / one.seeds, one.seeds - 1.0


def _independent(one: Published) -> float:
    """p (1 - p) / n, p with half a success and half a failure more."""
    smoothed = (one.mean * one.problems + 0.5) / (one.problems + 1)
    return smoothed * (1 - smoothed) / one.problems


def over_problems(row: Published, base: Published, confidence: float) -> Row:
    """The wider interval, which counts the problems as a sample too, as if the two models had met
    different ones; what they have in common cannot be told from means.

    One score has the error^2 p (1 - p) / n for one pass over n problems, and with m seeds less by
    what they average out: p (1 - p) / n - s^2 (1 - 1 / m).
    """
    variance = sum(
        max(
            _independent(one) - (one.std or 0.0) ** 2 * (1 - 1 / one.seeds),
            _independent(one) / one.seeds,
        )
        for one in (row, base)
    )
    half = _quantile(confidence) * math.sqrt(variance)
    d = row.mean - base.mean
    return {"low": max(d - half, -1.0), "high": min(d + half, 1.0)}


def newcombe(p1: float, n1: int, p2: float, n2: int, confidence: float) -> tuple[float, float]:
    """Interval of p1 - p2 for two independent shares: the Wilson limits l, u of each, squared and
    added (Newcombe 1998, Statistics in Medicine 17, 873-890, method 10)

        d - sqrt((p1 - l1)^2 + (u2 - p2)^2)   to   d + sqrt((u1 - p1)^2 + (p2 - l2)^2)
    """
    one, two = (wilson(p, n, _quantile(confidence)) for p, n in ((p1, n1), (p2, n2)))
    low = math.hypot(p1 - one.low, two.high - p2)
    high = math.hypot(one.high - p1, p2 - two.low)
    return p1 - p2 - low, p1 - p2 + high


def two_proportions(row: Published, base: Published, size: float) -> float:
    """Two-sided p-value of a difference of `size` between two shares, with the pooled variance."""
    pooled = (row.mean * row.problems + base.mean * base.problems + 0.5) / (
        row.problems + base.problems + 1
    )
    error = math.sqrt(pooled * (1 - pooled) * (1 / row.problems + 1 / base.problems))
    return float(2 * ndtr(-size / error))


def _quantile(confidence: float) -> float:
    return float(ndtri(0.5 + confidence / 2))
