"""The sentinel on trial: how soon it sees faults put into a run, how often it errs about health,
and what a run comes to that was rolled back.

    export OMP_NUM_THREADS=1
    python perf/collapse.py healthy --seeds 0-39 --steps 125
    python perf/collapse.py faults --seeds 0-9 [--only NAME]
    python perf/collapse.py replay --seeds 10-39     the tables of what is kept of these seeds
    python perf/collapse.py recover --seeds 0-2

The model is the shipped one, on the quickstart's arithmetic with 4 prompts x 8 a step, KL measured.
`healthy` trains runs that nobody disturbs, from a reward of 0.9 to one near its most, 1.5.
`faults` trains each seed once up to the onset, then goes on from that checkpoint once for
every fault, in a copy of the run, for ten steps with the fault in place, or 25 where it grows by
and by. Both keep the metrics of
their runs below --series and take what is there as done.

The detectors look at nothing but metrics, so `replay` shows the kept ones to them again: whoever
changes a detector need not train anew. Found means an alarm of any detector after the onset.

`recover` lets the recipe roll the faulty run back and change a setting, and compares its held-out
score at the end with that of the run of the same seed that had no fault.
"""

import argparse
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from faults import AFTER, FAULTS, ONSET, RECOVERIES, Fault, Put

from open_rs.errors import GuardStop
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import RunFolder, open_run, read_log, read_metrics, write_jsonl
from open_rs.train import loop
from open_rs.train.guard import RolledBack
from open_rs.train.resume import recipe_to_resume
from open_rs.train.sentinel import Alarm, Sentinel, with_plan
from open_rs.train.settings import planned_rate

FAULT_STEPS, RECOVER_STEPS = 60, 80  # planned


class Enough(BaseException):
    """Ends a run from outside; nothing in the package may catch it."""


def recipe_of(seed: int, num_steps: int) -> Recipe:
    return recipe_from_dict(
        {
            "name": f"collapse-{seed}",
            "seed": seed,
            "data": {"train": {"task": "arithmetic", "count": 400, "levels": [1, 2, 3, 4]}},
            "rollout": {
                "group_size": 8, "prompts_per_step": 4, "max_completion_tokens": 64,
                "max_slots": 64,
            },
            "rewards": [{"type": "accuracy"}, {"type": "format", "weight": 0.5}],
            "loss": {"kl_coef": 1e-4},  # so that the KL is measured
            "train": {
                "num_steps": num_steps, "save_every": ONSET, "learning_rate": 2e-4,
                "warmup_ratio": 0.05,
            },
        }
    )  # fmt: skip


@contextmanager
def until(
    last: int | None = None, fault: Put | None = None, *, ends: bool = False
) -> Iterator[None]:
    """Runs end after step `last`; the fault is in place from the first rollout on, and up to the
    first roll-back where that `ends` it.
    """
    plain, plain_act = loop.roll_out, loop.act
    with ExitStack() as placed:
        waiting = [fault] if fault else []

        def roll_out(training: Any, step: int) -> Any:
            if last is not None and step > last:
                raise Enough
            while waiting:
                placed.enter_context(waiting.pop()(training))
            return plain(training, step)

        def act(training: Any, alarms: Sequence[Alarm]) -> None:
            try:
                plain_act(training, alarms)
            except RolledBack:
                if ends:
                    placed.close()
                raise

        with (
            patch.object(loop, "roll_out", roll_out),
            patch.object(loop, "act", act),
            suppress(Enough, GuardStop),  # a guard of its own may end a run with a fault
        ):
            yield


# --- runs whose metrics are kept ---


def series_path(series: Path, name: str, seed: int) -> Path:
    return series / re.sub(r"\W+", "_", name) / f"{seed:03d}.jsonl"


def keep(run: RunFolder, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, read_metrics(run))
    print(path, flush=True)


def train_healthy(seeds: Sequence[int], steps: int, series: Path) -> None:
    """Runs that nobody disturbs."""
    for seed in seeds:
        path = series_path(series, f"healthy {steps}", seed)
        if path.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = open_run(Path(folder) / "run", recipe_of(seed, steps))
            loop.train(recipe_to_resume(run, [f"train.save_every={steps}"]), run)
            keep(run, path)


def train_faults(seeds: Sequence[int], series: Path, only: str) -> None:
    """Runs that are healthy up to the onset, and then each with one of the faults, by a pattern of
    their names.
    """
    for seed in seeds:
        names = [name for name in FAULTS if re.search(only, name)]
        left = {name: series_path(series, name, seed) for name in names}
        left = {name: path for name, path in left.items() if not path.exists()}
        if not left:
            continue
        with tempfile.TemporaryDirectory() as folder:
            healthy = open_run(Path(folder) / "healthy", recipe_of(seed, FAULT_STEPS))
            with until(ONSET):
                loop.train(recipe_to_resume(healthy), healthy)
            for name, path in left.items():
                run = RunFolder(Path(folder) / "run")
                shutil.copytree(healthy.path, run.path)
                with until(ONSET + FAULTS[name].watched, FAULTS[name].put):
                    loop.train(recipe_to_resume(run), run)
                keep(run, path)
                shutil.rmtree(run.path)


# --- what the detectors say of them ---


def alarms_of(series: Path, name: str, seed: int, num_steps: int) -> list[Alarm]:
    """The alarms that the kept metrics raise."""
    recipe, sentinel = recipe_of(seed, num_steps), Sentinel()
    rows = read_log(series_path(series, name, seed))
    found = []
    for row in rows:
        found += sentinel.observe(with_plan(row, planned_rate(recipe, int(row["step"]))))
    return found


def replay(seeds: Sequence[int], series: Path) -> list[str]:
    return [*healthy_lines(seeds, series), "", *fault_lines(seeds, series)]


def healthy_lines(seeds: Sequence[int], series: Path) -> list[str]:
    """False alarms in runs that nobody disturbed, for each length of them."""
    lines = ["| runs | steps of each | false alarms | in 1,000 steps |", "|---|---|---|---|"]
    for folder in sorted(series.glob("healthy_*")):
        steps = int(folder.name.partition("_")[2])
        name = f"healthy {steps}"
        there = [seed for seed in seeds if series_path(series, name, seed).exists()]
        if not there:
            continue
        found = [(seed, one) for seed in there for one in alarms_of(series, name, seed, steps)]
        for seed, one in found:
            print(f"seed {seed}: {one.sentence()}", file=sys.stderr)
        by = Counter(one.detector.name for _, one in found)
        listed = ", ".join(f"{name} {count}" for name, count in by.most_common())
        rate = 1000 * len(found) / (steps * len(there))
        lines.append(
            f"| {len(there)} | {steps} | {len(found)}{listed and f': {listed}'} | {rate:.2f} |"
        )
    return lines


def fault_lines(seeds: Sequence[int], series: Path) -> list[str]:
    """One line a fault: how many of the seeds it was found in, how late, by what."""
    lines = [
        f"| fault | within {AFTER} steps | while watched | delay, median (most) "
        "| detectors (runs) |",
        "|---|---|---|---|---|",
    ]
    for name, fault in FAULTS.items():
        there = [seed for seed in seeds if series_path(series, name, seed).exists()]
        delays, by = list[int](), Counter[str]()
        for seed in there:
            found = [one for one in alarms_of(series, name, seed, FAULT_STEPS) if one.step > ONSET]
            by.update(list(dict.fromkeys(one.detector.name for one in found)))
            delays += [found[0].step - ONSET] if found else []
        delay = f"{statistics.median(delays):g} ({max(delays)})" if delays else "-"
        detectors = ", ".join(f"{one} ({count})" for one, count in by.most_common())
        soon = sum(delay <= AFTER for delay in delays)
        if there:
            lines.append(
                f"| {name} | {soon} of {len(there)} | {len(delays)} in {fault.watched} steps "
                f"| {delay} | {detectors or '-'} |"
            )
    return lines


# --- what a run comes to that was rolled back ---


def recover_recipe(seed: int) -> Recipe:
    """Rewards that pay for nothing until their weight goes wrong, a held-out score at the end, and
    a save every ten steps to go back to.
    """
    settings = recipe_of(seed, RECOVER_STEPS).model_dump(mode="json")
    held_out = {"task": "arithmetic", "split": "validation", "count": 200, "levels": [1, 2, 3, 4]}
    settings["data"]["validation"] = held_out
    settings["evaluate"] |= {"every": RECOVER_STEPS, "validation_samples": 4}
    settings["evaluate"] |= {"temperature": 1.0, "top_p": 1.0}
    settings["train"]["save_every"] = 10
    for name in ("tokens_paid", "script_paid"):
        settings["rewards"].append({"type": "custom", "function": f"faults:{name}", "weight": 0})
    return recipe_from_dict(settings)


def train_recover(seeds: Sequence[int], series: Path, only: str) -> list[str]:
    """Faults, by a pattern of their names, with a roll-back; and the runs that had none."""
    names = ["recovered healthy", *(name for name in RECOVERIES if re.search(only, name))]
    for seed in seeds:
        paths = {name: series_path(series / "recover", name, seed) for name in names}
        left = {name: path for name, path in paths.items() if not path.exists()}
        if not left:
            continue
        with tempfile.TemporaryDirectory() as folder:
            start = open_run(Path(folder) / "start", recover_recipe(seed))
            with until(ONSET):
                loop.train(recipe_to_resume(start), start)
            for name, path in left.items():
                fault = RECOVERIES.get(name)
                run = RunFolder(Path(folder) / "run")
                shutil.copytree(start.path, run.path)
                action = "roll_back" if fault else "warn"
                change, ends = (fault.change, fault.ends) if fault else ("", False)
                asked = [f"sentinel.action={action}", f"sentinel.changes=[{change}]"]
                placed = (fault.put_as_setting or fault.put) if fault else None
                with until(None, placed, ends=ends):
                    loop.train(recipe_to_resume(run, asked), run)
                backs = [row for row in read_log(run.events) if row["event"] == "roll_back"]
                score = [row for row in read_metrics(run) if "validation/pass@1" in row][-1]
                path.parent.mkdir(parents=True, exist_ok=True)
                write_jsonl(path, [{**score, "roll_backs": backs}])
                print(path, score["step"], score["validation/pass@1"], flush=True)
                shutil.rmtree(run.path)
    return recover_lines(seeds, series / "recover")


def recover_lines(seeds: Sequence[int], series: Path) -> list[str]:
    """One line a fault: roll-backs, and the final score as a share of the healthy run's."""

    def ends(name: str) -> dict[int, dict[str, Any]]:
        paths = {seed: series_path(series, name, seed) for seed in seeds}
        return {seed: read_log(path)[0] for seed, path in paths.items() if path.exists()}

    healthy = ends("recovered healthy")
    first = statistics.mean(row["validation/pass@1"] for row in healthy.values())
    lines = [
        f"{len(healthy)} seeds; healthy runs end at {first:.3f}",
        "",
        "| fault | ended by | seeds | roll-backs | ended at the last step | score, mean "
        "| of the healthy run's (least, most of the seeds) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, fault in RECOVERIES.items():
        found = {seed: row for seed, row in ends(name).items() if seed in healthy}
        if not found:
            continue
        scores = {seed: row["validation/pass@1"] for seed, row in found.items()}
        shares = [100 * scores[s] / healthy[s]["validation/pass@1"] for s in found]
        total = sum(scores.values()) / sum(healthy[s]["validation/pass@1"] for s in found)
        backs = statistics.mean(len(row["roll_backs"]) for row in found.values())
        whole = sum(row["step"] == RECOVER_STEPS for row in found.values())
        lines.append(
            f"| {name} | {ended_by(fault)} | {len(found)} | {backs:.1f} | {whole} of {len(found)} "
            f"| {statistics.mean(scores.values()):.3f} "
            f"| {100 * total:.1f} % ({min(shares):.1f}, {max(shares):.1f}) |"
        )
    return lines


def ended_by(fault: Fault) -> str:
    """What ends it. Where the roll-back alone does, or with a change that puts the setting right
    again, the steps after it are those of a run that had no fault: the score follows by
    construction.
    """
    if fault.put_as_setting:
        return "the change, by construction"
    if not fault.ends:
        return "the change"
    return "the roll-back" if fault.change else "the roll-back, by construction"


def seeds_of(text: str) -> list[int]:
    """`0-9` or `3`."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trial", choices=("healthy", "faults", "replay", "recover"))
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("0-9"))
    parser.add_argument("--steps", type=int, default=125, help="of each healthy run")
    parser.add_argument("--only", default="", help="faults with names that match this")
    parser.add_argument("--series", type=Path, default=Path("runs/series"))
    given = parser.parse_args()
    made = list[str]()
    if given.trial == "recover":
        made = train_recover(given.seeds, given.series, given.only)
    else:
        if given.trial == "healthy":
            train_healthy(given.seeds, given.steps, given.series)
        if given.trial == "faults":
            train_faults(given.seeds, given.series, given.only)
        made = replay(given.seeds, given.series)
    print("\n".join([f"{platform.machine()}, {os.cpu_count()} cores", "", *made]))


if __name__ == "__main__":
    main()
