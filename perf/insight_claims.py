"""The seven experiments: what each measures, and what is claimed of it.

A claim is a number for each seed that is above 0 where the claim is right. Its mean over seeds has
a t interval; over the claims of one experiment the p-values are Holm's. The verdict is computed:
it holds, it fails (the opposite is clear), or it is not distinguishable from noise. What could not
come out otherwise is not judged: only its size is told.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from open_rs.evaluate.compare import IMPROVED, NOISE, WORSE
from open_rs.sweep.summary import judge_family, mean_difference, mean_over_seeds

Run = Mapping[str, Any]
Arms = Mapping[str, Mapping[int, Run]]  # by arm and seed
Value = Callable[[Run], float]

CONFIDENCE = 0.95
HOLDS, FAILS, UNCLEAR = "holds here", "fails here", "not distinguishable here"
SURE = "by construction"
VERDICTS = {IMPROVED: HOLDS, WORSE: FAILS, NOISE: UNCLEAR}


def final(run: Run) -> float:
    """The score of the last step: nothing was chosen, so it is nobody's best."""
    return float(run["score"][-1])


def early_index(run: Run) -> int:
    """Where in `steps` a quarter of the training is over; fixed before anything was seen."""
    return next(i for i, step in enumerate(run["steps"]) if 4 * step >= run["steps"][-1])


def early(run: Run) -> float:
    return float(run["score"][early_index(run)])


def early_share(run: Run) -> float:
    """Gain of the first quarter of the steps less the gain of the other three."""
    return (early(run) - float(run["score"][0])) - (final(run) - early(run))


def fallen(run: Run) -> float:
    """From the first quarter to the end; no peak was looked for, since a peak is a choice."""
    return early(run) - final(run)


def hard_final(run: Run) -> float:
    return float(run["hard_score"][-1])


def series(run: Run, key: str) -> list[float]:
    """One of the run's series; "band" is the distance of the 10th and 90th percentile of length."""
    if key == "band":
        return [high - low for low, high in zip(run["p10"], run["p90"], strict=True)]
    return list(run[key])


def last_third(key: str) -> Value:
    """The mean of a series of training over the last third of its steps."""

    def value(run: Run) -> float:
        values = series(run, key)
        return float(np.mean(values[-(len(values) // 3) :]))

    return value


def unsteady(run: Run) -> float:
    """How far the mean length moves from one step to the next: the standard deviation."""
    return float(np.std(np.diff(series(run, "length"))))


def drift(run: Run) -> float:
    """By how much the share of letters in other scripts has risen in the first quarter."""
    return float(run["other_script"][early_index(run)] - run["other_script"][0])


def script_final(run: Run) -> float:
    return float(run["other_script"][-1])


def thousand_tokens(run: Run) -> float:
    return float(run["drawn"]) / 1000


def overstated(run: Run) -> float:
    """What the best checkpoint scores on the small set that chose it, less its fresh score."""
    return float(run["chosen"][-1]["seen"] - run["chosen"][-1]["fresh"])


def untrue_gain(run: Run) -> float:
    """What choosing the best of all seems to gain over keeping the last, on the small set, less
    what it gains on fresh problems.
    """
    last, best = run["chosen"][0], run["chosen"][-1]
    return float((best["seen"] - last["seen"]) - (best["fresh"] - last["fresh"]))


def true_gain(run: Run) -> float:
    """What choosing the best of all on the small set gains over keeping the last, on fresh ones."""
    return float(run["chosen"][-1]["fresh"] - run["chosen"][0]["fresh"])


@dataclass(frozen=True)
class Claim:
    """`says`: the claim, as a sentence; `opposite`: what is true where it fails; `places`: digits
    behind the point of its numbers; `sure`: it cannot fail, but for the noise of its estimate.
    """

    says: str
    opposite: str
    values: Callable[[Arms], list[float]]
    places: int = 3
    sure: bool = False


def of(arm: str, value: Value) -> Callable[[Arms], list[float]]:
    """A number of each seed of one arm."""
    return lambda arms: [value(run) for run in arms[arm].values()]


def more(first: str, second: str, value: Value) -> Callable[[Arms], list[float]]:
    """first - second over the seeds that both have."""

    def values(arms: Arms) -> list[float]:
        both = [seed for seed in arms[first] if seed in arms[second]]
        return [value(arms[first][seed]) - value(arms[second][seed]) for seed in both]

    return values


@dataclass(frozen=True)
class Experiment:
    """What is told of one recipe.

    Attributes:
        about: the paper's claim, or the project's, and how it is put to the test here.
        columns: (head, value of a run, digits) of the table of arms.
        panels: (title, series) of the figure.
    """

    title: str
    about: str
    columns: tuple[tuple[str, Value, int], ...]
    claims: tuple[Claim, ...]
    panels: tuple[tuple[str, str], ...]


def judged(experiment: Experiment, arms: Arms) -> list[dict[str, Any]]:
    """Each claim with mean, interval, p-values and verdict, which is None with too few seeds."""
    found = []
    for claim in experiment.claims:
        values = claim.values(arms)
        made = mean_difference(values, CONFIDENCE, grain=0.0 if claim.sure else grain_of(arms))
        found.append({**made, "claim": claim, "values": values})
    judge_family([row for row in found if not row["claim"].sure], CONFIDENCE)
    for row in found:
        if row["claim"].sure:
            row |= {"verdict": SURE, "p_value": None, "p_holm": None}
        else:
            row["verdict"] = VERDICTS[row["verdict"]] if row["verdict"] else None
    return found


def grain_of(arms: Arms) -> float:
    """By how much one graded sample moves a mean over all of them."""
    runs = [run for by_seed in arms.values() for run in by_seed.values()]
    return max((1 / (run["problems"] * run["samples"]) for run in runs), default=0.0)


def arm_rows(experiment: Experiment, arms: Arms) -> dict[str, list[dict[str, Any]]]:
    """By arm, mean and interval over seeds of each column."""
    return {
        arm: [
            mean_over_seeds([value(run) for run in runs.values()], CONFIDENCE)
            for _, value, _ in experiment.columns
        ]
        for arm, runs in arms.items()
    }


def arms_of(data: Mapping[str, Any], name: str) -> Arms:
    """The finished runs of an experiment by arm and seed."""
    return {
        arm: {data["runs"][key]["seed"]: data["runs"][key] for key in keys}
        for arm, keys in data["experiments"][name].items()
    }
