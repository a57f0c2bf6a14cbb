"""How often would we publish a false gain? A model compared with itself, many times.

    python perf/false_gains.py                                    # about a minute
    python perf/false_gains.py --simulations 10000 --problems 30 40 272 500 --samples 1 4 16 64

Difficulty is spread as in benchmarks, most problems near 0 or 1 and some between: the pass rate of
a problem is Beta(0.8 m, 0.8 (1 - m)) with mean m. Columns, in percent:

    improved, worse   of comparisons of a model with itself (should be at most 2.5 each)
    same in           the interval of such a difference holds 0 (should be 95)
    gain in, found    after a real gain (0.5 on the logit of every problem, as many points on
                      average as `gain` says): its interval holds the gain; it is called improved
    score in          the interval of pass@1 holds m (should be 95)

A rate of 2.5 measured 10,000 times has a standard error of 0.16, one of 95 of 0.22.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit

from open_rs.evaluate.compare import paired_difference
from open_rs.evaluate.scores import mean_interval

CONCENTRATION = 0.8
GAIN_LOGIT = 0.5
HEADER = (
    "| mean m | n | k | improved | worse | same in | gain | gain in | found | score in |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def trained(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pass rates after a real gain."""
    return expit(logit(np.clip(rates, 1e-12, 1 - 1e-12)) + GAIN_LOGIT)


def mean_gain(mean: float) -> float:
    """The true gain in pass@1, by quadrature over the quantiles of difficulty."""
    grid = (np.arange(200_000) + 0.5) / 200_000
    rates = stats.beta.ppf(grid, CONCENTRATION * mean, CONCENTRATION * (1 - mean))
    return float(np.mean(trained(rates) - rates))


def simulate(mean: float, n: int, k: int, simulations: int, seed: int) -> dict[str, float]:
    """Rates of one cell of the table, each a share of `simulations`."""
    rng = np.random.default_rng([seed, round(1000 * mean), n, k])
    gain = mean_gain(mean)
    counts = dict.fromkeys(("improved", "worse", "same", "gain", "found", "score"), 0)
    for _ in range(simulations):
        rates = rng.beta(CONCENTRATION * mean, CONCENTRATION * (1 - mean), size=n)
        before, again = rng.binomial(k, rates) / k, rng.binomial(k, rates) / k
        after = rng.binomial(k, trained(rates)) / k
        same, _ = paired_difference(again - before, k, 0.95)
        better, _ = paired_difference(after - before, k, 0.95)
        score = mean_interval(before, 0.95, n * k)
        counts["improved"] += same.low > 0
        counts["worse"] += same.high < 0
        counts["same"] += same.low <= 0 <= same.high
        counts["gain"] += better.low <= gain <= better.high
        counts["found"] += better.low > 0
        counts["score"] += score.low <= mean <= score.high
    return {name: count / simulations for name, count in counts.items()}


def rows(args: argparse.Namespace) -> Iterator[str]:
    for mean in args.means:
        points = 100 * mean_gain(mean)
        for n in args.problems:
            for k in args.samples:
                found = {
                    name: 100 * share
                    for name, share in simulate(mean, n, k, args.simulations, args.seed).items()
                }
                yield (
                    f"| {mean} | {n} | {k} | {found['improved']:.2f} | {found['worse']:.2f} | "
                    f"{found['same']:.1f} | {points:.1f} | {found['gain']:.1f} | "
                    f"{found['found']:.1f} | {found['score']:.1f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--problems", type=int, nargs="+", default=[30, 64, 200])
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--means", type=float, nargs="+", default=[0.29, 0.65, 0.83])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(HEADER)
    for row in rows(args):
        print(row, flush=True)


if __name__ == "__main__":
    main()
