"""How often would we publish a false gain? A model compared with itself, many times.

    python perf/false_gains.py                      # all tables, one thread, about five minutes
    python perf/false_gains.py pairs|unequal|families|selection --simulations 10000

Difficulty is spread as in benchmarks, most problems near 0 or 1 and some between: the pass rate of
a problem is Beta(0.8 m, 0.8 (1 - m)) with mean m; each figure is over m = 0.29, 0.65 and 0.83, with
`--simulations` comparisons of each.

`pairs`, in percent of comparisons:
    improved    a model compared with itself; each pair counts both ways round, since both are the
                same model (in brackets: the least and the most of the three m)
    same in     the interval of such a difference holds 0 (should be 95)
    gain in     after a real gain (0.5 on the logit of every problem) the interval holds the gain
    score in    the interval of pass@1 holds m
    samples in  the interval over samples alone holds the pass rate of these very problems
`unequal`: the same model twice, with k samples of the base and another number of the candidate: how
    often that one is called improved, and worse.
`families`: a base and five candidates that are the same model, judged as one family by Holm: how
    often any is called improved; and how often a candidate with a real gain is found among four
    without, alone and in the family.
`selection`: eight checkpoints that are all the base itself. One is chosen on validation problems,
    and compared once on the test set; or the best of the eight on the test set is compared. `told`
    is the gain of the best of eight equals that `open-rs compare` puts beside it.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from open_rs.evaluate.family import holm
from open_rs.evaluate.paired import paired_differences
from open_rs.evaluate.power import assumed, gain_of, raised
from open_rs.evaluate.scores import (
    expected_maximum,
    mean_interval,
    samples_interval,
    sampling_variances,
)
from open_rs.evaluate.select import best_candidate

MEANS = (0.29, 0.65, 0.83)
STEP = 0.5
CHUNK = 2_000_000  # problems at a time

Array = NDArray[np.float64]


def draws(
    mean: float, n: int, k: int, simulations: int, models: int
) -> Iterator[tuple[Array, Array]]:
    """(pass rates [s, n], correct counts [models, s, n] of as many equal models) by chunks."""
    rng = np.random.default_rng([round(1000 * mean), n, k, models])
    difficulty, size = assumed(mean), max(1, CHUNK // n)
    for start in range(0, simulations, size):
        shape = (min(size, simulations - start), n)
        rates = rng.beta(difficulty.a, difficulty.b, size=shape)
        yield rates, rng.binomial(k, rates, size=(models, *shape))


def pairs(mean: float, n: int, k: int, simulations: int, intervals: int) -> dict[str, float]:
    """Rates of one cell, in percent; intervals of scores are looked at `intervals` times."""
    rng = np.random.default_rng([7, round(1000 * mean), n, k])
    gain = gain_of(assumed(mean), STEP)
    counts = dict.fromkeys(("improved", "same", "gain", "score", "samples"), 0.0)
    left = intervals
    for rates, (before, again) in draws(mean, n, k, simulations, 2):
        same = paired_differences((again - before) / k, k, 0.95)
        counts["improved"] += np.sum((same.low > 0) | (same.high < 0)) / 2
        counts["same"] += np.sum((same.low <= 0) & (same.high >= 0))
        after = rng.binomial(k, raised(rates, STEP))
        better = paired_differences((after - before) / k, k, 0.95)
        counts["gain"] += np.sum((better.low <= gain) & (better.high >= gain))
        for row, truth in zip(before[:left], rates, strict=False):
            values, tries = row / k, np.full(n, k)
            outer = mean_interval(values, 0.95, n * k)
            counts["score"] += outer.low <= mean <= outer.high
            if k > 1:
                spread = sampling_variances(row, tries)
                inner = samples_interval(values, spread, n * k, 0.95)
                counts["samples"] += inner.low <= truth.mean() <= inner.high
        left -= min(left, len(before))
    of = {name: intervals if name in ("score", "samples") else simulations for name in counts}
    return {name: 100 * count / of[name] for name, count in counts.items()}


def pairs_table(args: argparse.Namespace) -> None:
    error = 100 * (0.025 * 0.975 / args.simulations / len(MEANS) / 2) ** 0.5
    print(f"one standard error of `improved`, over all m: {error:.2f} points\n")
    print("| n | k | improved | same in | gain in | score in | samples in |")
    print("|---|---|---|---|---|---|---|")
    for n in args.problems:
        for k in args.samples:
            cells = [pairs(m, n, k, args.simulations, args.intervals) for m in MEANS]
            all_of = {name: [cell[name] for cell in cells] for name in cells[0]}
            shown = {
                name: f"{np.mean(values):.1f} ({min(values):.1f}-{max(values):.1f})"
                for name, values in all_of.items()
            }
            rate = all_of["improved"]
            shown["improved"] = f"{np.mean(rate):.2f} ({min(rate):.2f}-{max(rate):.2f})"
            if k == 1:
                shown["samples"] = "bound"
            print(f"| {n} | {k} | {' | '.join(shown.values())} |", flush=True)


def unequal_table(args: argparse.Namespace) -> None:
    print("| n | k of the base | k of the candidate | improved | worse |")
    print("|---|---|---|---|---|")
    for n, k, other in ((30, 1, 64), (40, 4, 64), (272, 1, 64), (272, 4, 64), (500, 4, 16)):
        found = []
        for mean in MEANS:
            rng = np.random.default_rng([10, round(1000 * mean), n, k, other])
            difficulty = assumed(mean)
            rates = rng.beta(difficulty.a, difficulty.b, size=(args.simulations, n))
            base, candidate = rng.binomial(k, rates) / k, rng.binomial(other, rates) / other
            same = paired_differences(candidate - base, min(k, other), 0.95)
            found.append((100 * np.mean(same.low > 0), 100 * np.mean(same.high < 0)))
        ends = [
            f"{np.mean(side):.2f} ({min(side):.2f}-{max(side):.2f})"
            for side in zip(*found, strict=True)
        ]
        print(f"| {n} | {k} | {other} | {' | '.join(ends)} |", flush=True)


def families(mean: float, n: int, k: int, simulations: int) -> NDArray[np.float64]:
    """[any false, found alone, found in the family], in percent."""
    rng = np.random.default_rng([8, round(1000 * mean), n, k])
    counts = np.zeros(3)
    for rates, correct in draws(mean, n, k, simulations, 6):
        better = rng.binomial(k, raised(rates, STEP))[None]
        same = paired_differences((correct[1:] - correct[0]) / k, k, 0.95)
        real = paired_differences((better - correct[0]) / k, k, 0.95)
        up, real_up = same.value > 0, real.value[0] > 0
        for place in range(rates.shape[0]):
            p_values = same.p_value[:, place]
            counts[0] += np.any((holm(p_values) < 0.05) & up[:, place])
            own = real.p_value[0, place]
            counts[1] += own < 0.05 and real_up[place]
            joint = holm(np.append(p_values[1:], own))[-1]
            counts[2] += joint < 0.05 and real_up[place]
    return 100 * counts / simulations


def families_table(args: argparse.Namespace) -> None:
    print("| n | k | any of five equals improved | a real gain found alone | among five |")
    print("|---|---|---|---|---|")
    for n, k in ((30, 1), (30, 16), (272, 4), (500, 1)):
        found = np.mean([families(m, n, k, args.simulations) for m in MEANS], axis=0)
        print(f"| {n} | {k} | {found[0]:.2f} | {found[1]:.0f} | {found[2]:.0f} |", flush=True)


def selection(mean: float, n: int, k: int, simulations: int) -> NDArray[np.float64]:
    """[improved after selection on validation, improved when the best on test is compared, its
    mean gain in points, the gain that the winner's curse explains].
    """
    rng = np.random.default_rng([9, round(1000 * mean), n, k])
    counts, difficulty = np.zeros(4), assumed(mean)
    for _, correct in draws(mean, n, k, simulations, 9):
        base, checkpoints = correct[0], correct[1:]
        size = base.shape[0]
        held_out = rng.beta(difficulty.a, difficulty.b, size=(size, 100))
        validation = rng.binomial(4, held_out, size=(8, size, 100)).mean(axis=-1) / 4
        picked = np.array(
            [
                best_candidate([{"step": step, "pass@1": scores[step]} for step in range(8)])[
                    "step"
                ]
                for scores in validation.T
            ]
        )
        best = checkpoints.mean(axis=-1).argmax(axis=0)
        places = np.arange(size)
        fair = paired_differences((checkpoints[picked, places] - base) / k, k, 0.95)
        cursed = paired_differences((checkpoints[best, places] - base) / k, k, 0.95)
        counts[0] += np.sum(fair.low > 0)
        counts[1] += np.sum(cursed.low > 0)
        counts[2] += np.sum(cursed.value)
        for row in base[:300]:
            tries = np.full(n, k)
            deviation = np.sqrt(np.sum(sampling_variances(row, tries))) / n
            counts[3] += deviation * expected_maximum(8) * size / min(300, size)
    return 100 * counts / simulations


def selection_table(args: argparse.Namespace) -> None:
    print(
        "| n | k | improved, chosen on validation | improved, best of 8 on test | its gain | told |"
    )
    print("|---|---|---|---|---|---|")
    for n, k in ((30, 1), (30, 16), (40, 4), (272, 4), (500, 4)):
        found = np.mean([selection(m, n, k, args.simulations) for m in MEANS], axis=0)
        print(
            f"| {n} | {k} | {found[0]:.2f} | {found[1]:.1f} | +{found[2]:.2f} | +{found[3]:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    tables = {
        "pairs": pairs_table,
        "unequal": unequal_table,
        "families": families_table,
        "selection": selection_table,
    }
    parser.add_argument("tables", nargs="*", choices=[*tables, []], help="default: all")
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--intervals", type=int, default=2_000, help="looked at for score in")
    parser.add_argument("--problems", type=int, nargs="+", default=[30, 40, 272, 500])
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 4, 16, 64])
    args = parser.parse_args()
    for name in args.tables or tables:
        print(f"\n{name}, {args.simulations} simulations of each m\n")
        tables[name](args)


if __name__ == "__main__":
    main()
