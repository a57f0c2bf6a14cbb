"""Is a gain of the size that `open-rs power` names found in 80 % of comparisons?

    python perf/power.py                            # one thread, about ten minutes

Each row draws `--simulations` fresh experiments with a gain of the named size and counts how many
end in `improved`: new problems with pass rates from the Beta distribution (the command uses its
quantiles), both models sampled k times, compared as `open-rs compare` does it.

    named       the smallest gain that `open-rs power` names, in points, and the seconds it took
    found       of comparisons, in percent (one standard error: 0.4)
    jumps       the same if the gain of that size comes otherwise: a share of the problems that are
                solved less than half of the time is solved always
`from a pilot`: the command is given one simulated evaluation in place of the true distribution, and
    errs as that one does.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from open_rs.evaluate.paired import paired_differences
from open_rs.evaluate.power import Difficulty, assumed, gain_of, raised, smallest_step, step_of
from open_rs.evaluate.scores import fit_beta

Array = NDArray[np.float64]
SIZES = [(30, 1), (30, 4), (30, 16), (30, 64), (40, 1), (40, 16), (272, 1), (272, 4), (500, 1)]
SIZES += [(500, 4), (500, 64)]


def found(
    truth: Difficulty, better: Callable[[Array], Array], n: int, k: int, simulations: int
) -> float:
    """Percent of experiments that end in `improved`."""
    rng = np.random.default_rng([11, round(1000 * truth.mean), n, k])
    count, chunk = 0, max(1, 2_000_000 // n)
    for start in range(0, simulations, chunk):
        rates = rng.beta(truth.a, truth.b, size=(min(chunk, simulations - start), n))
        before, after = rng.binomial(k, rates), rng.binomial(k, better(rates))
        count += int((paired_differences((after - before) / k, k, 0.95).low > 0).sum())
    return 100 * count / simulations


def jumps(truth: Difficulty, gain: float) -> Callable[[Array], Array] | None:
    """A share of the problems below one half becomes solved; None where that is not enough."""
    hard = truth.rates < 0.5
    share = gain / float(np.mean(hard * (1 - truth.rates)))
    if share > 1:
        return None
    rng = np.random.default_rng(12)
    return lambda rates: np.where((rates < 0.5) & (rng.random(rates.shape) < share), 1.0, rates)


def named_sizes(means: list[float], simulations: int) -> None:
    print("| mean m | n | k | named, points | seconds | found, % | jumps, % |")
    print("|---|---|---|---|---|---|---|")
    for mean in means:
        truth = assumed(mean)
        for n, k in SIZES:
            started = time.perf_counter()
            step = smallest_step(truth, n, k)
            seconds = time.perf_counter() - started
            if step is None:
                print(f"| {mean} | {n} | {k} | none | {seconds:.1f} | | |", flush=True)
                continue
            gain, other = gain_of(truth, step), jumps(truth, gain_of(truth, step))
            rate = found(truth, lambda p, s=step: raised(p, s), n, k, simulations)
            jumped = "" if other is None else f"{found(truth, other, n, k, simulations):.1f}"
            cells = (mean, n, k, f"{100 * gain:.2f}", f"{seconds:.1f}", f"{rate:.1f}", jumped)
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def from_pilots(simulations: int) -> None:
    print("\n| from a pilot: mean m | problems x samples | n | k | named, points | found, % |")
    print("|---|---|---|---|---|---|")
    rng = np.random.default_rng(13)
    for mean, size, tries in ((0.29, 100, 4), (0.65, 100, 4), (0.65, 500, 1), (0.83, 500, 16)):
        truth = assumed(mean)
        counts = rng.binomial(tries, rng.beta(truth.a, truth.b, size=size))
        fitted = Difficulty(*fit_beta(counts, np.full(size, tries)), "pilot")
        for n, k in ((30, 4), (272, 4)):
            step = smallest_step(fitted, n, k)
            assert step is not None
            named = gain_of(fitted, step)
            own = step_of(truth, named)
            rate = found(truth, lambda p, s=own: raised(p, s), n, k, simulations)
            cells = (mean, f"{size} x {tries}", n, k, f"{100 * named:.2f}", f"{rate:.1f}")
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--means", type=float, nargs="+", default=[0.29, 0.65, 0.83])
    args = parser.parse_args()
    named_sizes(args.means, args.simulations)
    from_pilots(args.simulations)


if __name__ == "__main__":
    main()
