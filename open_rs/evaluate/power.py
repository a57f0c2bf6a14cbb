"""What gain could an evaluation of n problems x k samples show, and what would a smaller one cost?

A model of the experiment. The pass rate of a problem is drawn from a Beta distribution; a better
model has every pass rate raised by the same step on the logit, which moves problems between 0 and 1
most and hardly those at either end. Both models answer k times and are compared as
`paired.paired_differences` does it. A gain counts as found when the verdict is `improved`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit, nctdtr, ndtri, stdtrit

from open_rs.errors import InputError
from open_rs.evaluate.importers import read_evaluation
from open_rs.evaluate.paired import POWER, paired_differences
from open_rs.evaluate.records import tally
from open_rs.evaluate.scores import fit_beta

CONCENTRATION = 0.8  # a + b of benchmarks: most problems near 0 or 1, some between
GRID = 4001
DRAWS = 2_000_000  # problems that are simulated for one figure: its error is 0.2 points at n = 30
MOST_SAMPLES, MOST_PROBLEMS = 4096, 1_000_000
MOST_OF_REST = 0.999  # of what is left above the mean, the largest gain that a step can bring
LARGEST_STEP = 20.0  # on the logit: every problem is solved
GAIN_MODEL = "the same step on the logit of every problem's pass rate"


@dataclass(frozen=True)
class Difficulty:
    """Pass rates of problems: Beta(a, b). `source` says where the two come from."""

    a: float
    b: float
    source: str

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Its quantiles [GRID]: averages over them are averages over problems."""
        places = (np.arange(GRID) + 0.5) / GRID
        return np.clip(betaincinv(self.a, self.b, places), 1e-12, 1 - 1e-12)

    def describe(self) -> str:
        low, high = ((self.rates < 0.1).mean(), (self.rates > 0.9).mean())
        return (
            f"pass rates Beta({self.a:.2f}, {self.b:.2f}), mean {self.mean:.3f}: "
            f"{100 * low:.0f} % of problems below 0.1, {100 * high:.0f} % above 0.9 ({self.source})"
        )


def assumed(score: float) -> Difficulty:
    """The spread of benchmarks of this kind around a mean pass rate."""
    if not 0 < score < 1:
        raise InputError(f"--score {score:g}: must lie between 0 and 1, as in 0.3")
    concentration = CONCENTRATION
    return Difficulty(score * concentration, (1 - score) * concentration, "assumed")


def from_pilot(path: Path) -> tuple[Difficulty, dict[str, Any]]:
    """The spread of a finished evaluation, and its summary."""
    summary, rows = read_evaluation(path)
    counts = tally(rows)
    known = counts.decided > 0
    if not known.any():
        raise InputError(f"{path}: the grader could judge none of its samples; look at the records")
    correct, decided = counts.correct[known], counts.decided[known]
    a, b = fit_beta(correct, decided, CONCENTRATION)
    spread = "its spread assumed" if decided.max() == 1 else "fitted"
    return Difficulty(a, b, f"{spread}, {len(correct)} problems of {path}"), summary


def raised(rates: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """The pass rates of the better model."""
    return expit(logit(np.clip(rates, 1e-12, 1 - 1e-12)) + step)


def gain_of(difficulty: Difficulty, step: float) -> float:
    """The true gain in pass@1 that a step on the logit brings."""
    return float(np.mean(raised(difficulty.rates, step) - difficulty.rates))


def step_of(difficulty: Difficulty, gain: float) -> float:
    """The step on the logit that brings this gain."""
    most = 1 - difficulty.mean
    if not 0 < gain <= MOST_OF_REST * most:
        raise InputError(
            f"--gain {gain:g}: must lie between 0 and {most:.3f}, what is left above the mean pass "
            f"rate of {difficulty.mean:.3f}"
        )
    return _root(lambda step: gain_of(difficulty, step) - gain, 0.0, 40.0)


def approximate_power(difficulty: Difficulty, step: float, n: float, k: float) -> float:
    """The chance of `improved` if the mean difference were normal: noncentral t with n - 1 degrees
    of freedom, the variance of a problem's difference being

        Var(p' - p) + E [p (1 - p) + p' (1 - p')] / k
    """
    before, after = difficulty.rates, raised(difficulty.rates, step)
    noise = np.mean(before * (1 - before) + after * (1 - after)) / k
    variance = float(np.var(after - before) + noise) + 0.5 / k**2 / n
    centre = float(np.mean(after - before)) / math.sqrt(variance / n)
    return float(1 - nctdtr(n - 1, centre, stdtrit(n - 1, 0.975)))


def simulated_power(
    difficulty: Difficulty,
    step: float,
    n: int,
    k: int,
    *,
    draws: int | None = None,
    seed: int = 0,
) -> float:
    """The share of simulated comparisons of n problems x k samples that end in `improved`."""
    better = raised(difficulty.rates, step)
    return _share_improved(difficulty, lambda rng, places: better[places], n, k, draws, seed)


def concentrated_power(difficulty: Difficulty, gain: float, n: int, k: int) -> float | None:
    """The same for a gain that few problems bring: of those that are solved less than half of the
    time, as many as it takes become solved always. None where all of them would not do.
    """
    rates = difficulty.rates
    share = gain / float(np.mean((rates < 0.5) * (1 - rates)))
    if share > 1:
        return None

    def better(rng: np.random.Generator, places: NDArray[np.int64]) -> NDArray[np.float64]:
        solved = (rates[places] < 0.5) & (rng.random(places.shape) < share)
        return np.where(solved, 1.0, rates[places])

    return _share_improved(difficulty, better, n, k, None, 0)


def _share_improved(
    difficulty: Difficulty,
    better: Callable[[np.random.Generator, NDArray[np.int64]], NDArray[np.float64]],
    n: int,
    k: int,
    draws: int | None,
    seed: int,
) -> float:
    """`better` gives the pass rates of the better model on problems at these places of the grid."""
    rng = np.random.default_rng([seed, n, k])
    times, found = max(1000, (draws or DRAWS) // n), 0
    chunk = max(1, 1_000_000 // n)
    for start in range(0, times, chunk):
        places = rng.integers(GRID, size=(min(chunk, times - start), n))
        before = rng.binomial(k, difficulty.rates[places])
        after = rng.binomial(k, better(rng, places))
        found += int((paired_differences((after - before) / k, k, 0.95).low > 0).sum())
    return found / times


def smallest_step(difficulty: Difficulty, n: int, k: int) -> float | None:
    """The step on the logit that is found in 80 % of comparisons; None where none is.

    Starts from the normal approximation and is corrected by simulation: the probit of the power is
    nearly straight in the gain.
    """
    if simulated_power(difficulty, LARGEST_STEP, n, k, draws=DRAWS // 10) < POWER:
        return None
    step = _likely_step(difficulty, n, k)
    for _ in range(6):
        power = simulated_power(difficulty, step, n, k)
        if abs(power - POWER) < 0.006:
            break
        gain = gain_of(difficulty, step) * _stretch(power)
        step = step_of(difficulty, min(gain, MOST_OF_REST * (1 - difficulty.mean)))
    return step


def likely_smallest_gain(difficulty: Difficulty, n: int, k: int) -> float | None:
    """The gain that is found in 80 % of comparisons by the normal approximation alone: at once,
    where `smallest_step` simulates for seconds. None where no gain is found.
    """
    if approximate_power(difficulty, LARGEST_STEP, n, k) < POWER:
        return None
    return gain_of(difficulty, _likely_step(difficulty, n, k))


def _likely_step(difficulty: Difficulty, n: int, k: int) -> float:
    return _root(lambda one: approximate_power(difficulty, one, n, k) - POWER, 1e-6, LARGEST_STEP)


def problems_needed(difficulty: Difficulty, step: float, k: int) -> int | None:
    """The fewest problems with which this step is found in 80 % of comparisons at k samples."""
    n = _fewest(lambda one: approximate_power(difficulty, step, one, k), 2, MOST_PROBLEMS)
    for _ in range(4):
        if n is None or n > MOST_PROBLEMS:
            return None
        power = simulated_power(difficulty, step, n, k)
        if abs(power - POWER) < 0.008:
            break
        n = max(2, math.ceil(n * _stretch(power) ** 2))
    return n


def samples_needed(difficulty: Difficulty, step: float, n: int) -> int | None:
    """The fewest samples with which this step is found in 80 % of comparisons of n problems; None
    where no number is enough, since problems differ in how much they gain.
    """
    k = _fewest(lambda one: approximate_power(difficulty, step, n, one), 1, MOST_SAMPLES)
    while k is not None and simulated_power(difficulty, step, n, k) < POWER - 0.008:
        k = math.ceil(1.04 * k)
        if k > MOST_SAMPLES:
            return None
    return k


def _stretch(power: float) -> float:
    """By how much an effect has to grow for 80 %, on the probit scale."""
    critical = float(ndtri(0.975))
    reached = float(ndtri(min(max(power, 1e-4), 1 - 1e-4)))
    return (float(ndtri(POWER)) + critical) / max(reached + critical, 0.5)


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses 0, by bisection to 1e-9 of the range."""
    span = high - low
    while high - low > 1e-9 * span:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _fewest(power: Callable[[float], float], low: int, most: int) -> int | None:
    """The least whole number from `low` on that reaches 80 %; None beyond `most`."""
    if power(most) < POWER:
        return None
    high = most
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if power(middle) < POWER else (low, middle)
    return low


def plan(
    difficulty: Difficulty,
    n: int,
    k: int,
    *,
    gain: float | None = None,
    price: "Price | None" = None,
) -> dict[str, Any]:
    """The smallest gain that n problems x k samples show in 80 % of comparisons; for a `gain`, the
    power and what would be needed instead; what each costs.
    """
    step = smallest_step(difficulty, n, k)
    smallest = None if step is None else gain_of(difficulty, step)
    concentrated = None if smallest is None else concentrated_power(difficulty, smallest, n, k)
    price = price or Price()
    found: dict[str, Any] = {
        "difficulty": difficulty.describe(),
        "gain_model": GAIN_MODEL,
        "power": POWER,
        "confidence": 0.95,
        "score": difficulty.mean,
        "num_problems": n,
        "num_samples": k,
        "smallest_gain": smallest,
        "power_if_concentrated": concentrated,
        "cost": price.of(n, k),
    }
    if gain is not None:
        wanted = step_of(difficulty, gain)
        samples, problems = (
            samples_needed(difficulty, wanted, n),
            problems_needed(difficulty, wanted, k),
        )
        found["gain"] = {
            "value": gain,
            "power": simulated_power(difficulty, wanted, n, k),
            "samples_needed": samples,
            "samples_cost": None if samples is None else price.of(n, samples),
            "problems_needed": problems,
            "problems_cost": None if problems is None else price.of(problems, k),
        }
    return found


@dataclass(frozen=True)
class Price:
    """What a completion costs; None where it is not known. Both models have to be sampled."""

    tokens_per_completion: float | None = None
    tokens_per_second: float | None = None
    usd_per_hour: float | None = None
    usd_per_million_tokens: float | None = None

    def of(self, n: int, k: int) -> dict[str, float | None]:
        """Completions, tokens, hours and dollars of two models on n problems x k samples."""
        completions = 2 * n * k
        tokens = (
            None if not self.tokens_per_completion else completions * self.tokens_per_completion
        )
        hours = None
        if tokens is not None and self.tokens_per_second:
            hours = tokens / self.tokens_per_second / 3600
        usd = None
        if hours is not None and self.usd_per_hour is not None:
            usd = hours * self.usd_per_hour
        elif tokens is not None and self.usd_per_million_tokens is not None:
            usd = tokens / 1e6 * self.usd_per_million_tokens
        return {"completions": completions, "tokens": tokens, "hours": hours, "usd": usd}
