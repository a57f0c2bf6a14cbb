"""What a batch that is drawn ahead costs in learning, and what of it runs beside the update.

    OMP_NUM_THREADS=1 python perf/staleness.py run --seeds 4 --out runs/staleness
    python perf/staleness.py table --out runs/staleness
    python perf/staleness.py overlap RUN

`run` trains the shipped model for 40 steps by the native engine with `rollout.staleness` 0 and 1,
each seed from the same start with the same data; runs that have ended are passed over, others are
resumed. `table` is the learning: mean and standard deviation over seeds, and the difference between
runs of one seed with its Student interval. `overlap` is the clock of
a run whose batches servers have drawn (`rollout.engine.type = "vllm_server"`).
"""

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import RunFolder, open_run, read_log, read_metrics
from open_rs.train import loop

STEPS, WINDOW = 40, 10
LEVELS = [1, 2, 3, 4]


def recipe_of(staleness: int, seed: int) -> Recipe:
    held_out = {"task": "arithmetic", "split": "validation", "count": 60, "levels": LEVELS}
    return recipe_from_dict(
        {
            "name": f"staleness-{staleness}-{seed}",
            "seed": seed,
            "threads": 1,
            "model": {"path": "tiny", "device": "cpu"},
            "data": {
                "train": {"task": "arithmetic", "count": 240, "levels": LEVELS},
                "validation": held_out,
            },
            "rollout": {
                "group_size": 8,
                "prompts_per_step": 4,
                "max_completion_tokens": 96,
                "staleness": staleness,
            },
            "rewards": [{"type": "accuracy"}],
            "train": {"num_steps": STEPS, "save_every": STEPS, "learning_rate": 2e-4},
            "evaluate": {"every": STEPS, "validation_samples": 4, "temperature": 1.0, "top_p": 1.0},
        }
    )


def run_all(out: Path, seeds: int) -> None:
    for seed in range(seeds):
        for staleness in (0, 1):
            recipe = recipe_of(staleness, seed)
            run = open_run(out / recipe.name, recipe)
            loop.train(recipe, run)


def of_runs(out: Path, staleness: int) -> list[RunFolder]:
    """Those that have ended."""
    runs = [RunFolder(path) for path in sorted(out.glob(f"staleness-{staleness}-*"))]
    return [run for run in runs if any(row["event"] == "finish" for row in read_log(run.events))]


def spread(values: Sequence[float], digits: int = 3) -> str:
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.{digits}f} ± {sd:.{digits}f}"


def of_step(rows: Sequence[dict[str, Any]], key: str, first: int) -> float:
    """Mean of a metric over the window of steps from `first` on."""
    found = [row[key] for row in rows if first <= row["step"] < first + WINDOW and key in row]
    return statistics.mean(found)


def less(runs: dict[str, list[dict[str, Any]]], value: Callable[[Any], float]) -> str:
    """A figure with staleness 1 less that with 0: of runs of one seed, with its 95 % interval."""
    seeds = {name[2:] for name in runs if f"0-{name[2:]}" in runs and f"1-{name[2:]}" in runs}
    found = [value(runs[f"1-{seed}"]) - value(runs[f"0-{seed}"]) for seed in sorted(seeds)]
    if len(found) < 2:
        return "too few"
    mean = statistics.mean(found)
    half = student.ppf(0.975, len(found) - 1) * statistics.stdev(found) / math.sqrt(len(found))
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def table(out: Path) -> None:
    windows = range(1, STEPS + 1, WINDOW)
    figures: list[Callable[[Any], float]] = [
        *[partial(of_step, key="reward/mean", first=first) for first in windows],
        lambda rows: float(rows[0]["validation/pass@1"]),
        lambda rows: float(rows[-1]["validation/pass@1"]),
    ]
    named = " | ".join(f"steps {first} to {first + WINDOW - 1}" for first in windows)
    print(f"| staleness | {named} | held out before | after |")
    print("|---|" + "---|" * len(figures))
    every: dict[str, list[dict[str, Any]]] = {}
    for staleness in (0, 1):
        runs = [read_metrics(run) for run in of_runs(out, staleness)]
        cells = [spread([one(rows) for rows in runs]) for one in figures]
        print(f"| {staleness} | {' | '.join(cells)} |")
        names = [run.path.name.removeprefix("staleness-") for run in of_runs(out, staleness)]
        every |= dict(zip(names, runs, strict=True))
    print(f"| 1 less 0 | {' | '.join(less(every, one) for one in figures)} |")
    print(f"\n| staleness | engine KL, {named} | largest | weight | at the cap | alarms |")
    print("|---|" + "---|" * (len(windows) + 4))
    for staleness in (0, 1):
        found = of_runs(out, staleness)
        runs = [read_metrics(run) for run in found]
        rows = [row for run in runs for row in run]
        kls = [f"{statistics.mean(of_step(run, 'policy/engine_kl', first) for run in runs):.1e}"
               for first in windows]  # fmt: skip
        largest = max(row.get("policy/engine_kl", 0.0) for row in rows)
        weights = [row["policy/importance"] for row in rows if "policy/importance" in row]
        capped = [row["policy/importance_cap_frac"] for row in rows if "policy/importance" in row]
        alarms = [row["detector"] for run in found for row in read_log(run.events)
                  if row["event"] == "alarm"]  # fmt: skip
        weight = f"{statistics.mean(weights):.4f}" if weights else "none"
        cap = f"{statistics.mean(capped):.1e}" if capped else "none"
        told = ", ".join(sorted(alarms)) or "none"
        print(f"| {staleness} | {' | '.join(kls)} | {largest:.1e} | {weight} | {cap} | {told} |")


def overlap(path: Path) -> None:
    rows = [row for row in read_metrics(RunFolder(path)) if "time/overlap_s" in row]
    keys = ("time/step_s", "time/update_s", "time/overlap_s", "time/wait_s")
    print("| step | staleness | engine KL | step s | update s | drawn beside it s | waited s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        times = " | ".join(f"{row[key]:.2f}" for key in keys)
        kl = f"{row['policy/engine_kl']:.1e}"
        print(f"| {row['step']} | {row['policy/staleness']:.0f} | {kl} | {times} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "table"):
        one = commands.add_parser(name)
        one.add_argument("--out", type=Path, default=Path("runs/staleness"))
        if name == "run":
            one.add_argument("--seeds", type=int, default=3)
    commands.add_parser("overlap").add_argument("run", type=Path)
    asked = parser.parse_args()
    if asked.command == "run":
        run_all(asked.out, asked.seeds)
    elif asked.command == "table":
        table(asked.out)
    else:
        overlap(asked.run)


if __name__ == "__main__":
    main()
