"""Runs that are killed, damaged, starved and capped, and what is left of them.

    python perf/reliability.py kills --count 300      any instant, any way; the end is bit-identical
    python perf/reliability.py tables KEPT...         of series that wrote --keep KEPT
    python perf/reliability.py budget --trials 20     where a capped run stops
    python perf/reliability.py save --model FOLDER    what saving costs a step

A trial of `kills` (`kills.py`, its recipes in `kill_recipes.py`) kills a start of `open-rs train
--resume` (SIGKILL), asks it to stop (SIGTERM, SIGINT), takes its disk away (a limit on file sizes),
or kills it and then cuts short one of its files or flips a bit of it. The run is then resumed until
it is done and compared with one that nobody disturbed. A trial of `budget` is in `capped.py`.
"""

import argparse
import os
import random
import re
import resource
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # children are forked

import torch
from capped import capped_trial, row_of
from kill_recipes import PLAIN, RECIPES, recipe_named
from kill_starts import NAMES, Board
from kills import MEETINGS, WAYS, Lab, Trial

from open_rs.recipe import recipe_from_dict
from open_rs.runs import append_jsonl, open_run, read_log
from open_rs.train import checkpoint, loop, setup


def warm_up(work: Path) -> None:
    """Import all that a run imports late, for every process that is forked from this one; a shell
    has those in the background ignore SIGINT, which they must not.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    recipe = recipe_named("LoRA with dropout")
    loop.train(recipe, open_run(work / "warm", recipe))


def kills(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        warm_up(Path(folder))
        lab, names = Lab(Path(folder)), [name for name in RECIPES if re.search(args.only, name)]
        began, trials = time.monotonic(), list[Trial]()
        for number in range(args.first, args.first + args.count):
            made = lab.trial(random.Random(f"{args.seed}/{number}"), names)
            trials.append(made)
            if args.keep:
                append_jsonl(args.keep, made.row())
            if made.failure:
                print(f"trial {number}, {made.recipe}, {made.way} by {made.meeting} "
                      f"({', '.join(made.phases)}): {made.failure}", flush=True)  # fmt: skip
            if args.until and time.time() > args.until:
                break
            if len(trials) % 10 == 0:
                bad = sum(one.failure is not None for one in trials)
                print(f"{len(trials)} trials, {bad} failed, {time.monotonic() - began:.0f} s",
                      flush=True)  # fmt: skip
        for name, whole in lab.wholes.items():
            print(f"undisturbed: {name} {whole.seconds:.1f} s, {whole.used:.2f} of the CPU, "
                  f"{sum(whole.entries)} phases")  # fmt: skip
        if lab.cold_used is not None:
            print(f"a new interpreter takes {lab.cold_seconds:.1f} s longer than a fork, "
                  f"{lab.cold_used:.2f} of the CPU")  # fmt: skip
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{time.monotonic() - began:.0f} s, {children.ru_utime + children.ru_stime:.0f} of "
              "the CPU")  # fmt: skip
        tell(trials)
    if any(one.failure for one in trials):
        raise SystemExit(1)


def tables(args: argparse.Namespace) -> None:
    """The tables of series that were kept."""
    tell([Trial(**row) for path in args.kept for row in read_log(path)])


def tell(trials: Sequence[Trial]) -> None:
    """The tables: by recipe and way, by phase, what was damaged, how long a stop took."""
    good = [one for one in trials if one.failure is None]
    kills, starts = sum(one.kills for one in trials), sum(one.starts for one in trials)
    print(f"\n{len(good)} of {len(trials)} runs resumed to a bit-identical end "
          f"({kills} kills, {starts} starts, {sum(one.drawn for one in trials)} rollouts drawn)"
          )  # fmt: skip
    table("recipe", list(RECIPES), {name: [one for one in trials if one.recipe == name]
                                    for name in RECIPES})  # fmt: skip
    table("met by", list(MEETINGS), {name: [one for one in trials if one.meeting == name]
                                     for name in MEETINGS})  # fmt: skip
    phases = Counter(phase for one in trials for phase in one.phases)
    listed = ", ".join(f"{name} {phases[name]}" for name in ["between", *NAMES])
    print(f"\ndisturbed in phases: {listed}; by the clock {phases['clock']}, cold {phases['cold']}")
    stops = sorted(second for one in trials for second in one.stop_seconds)
    if stops:
        print(f"stop after SIGTERM or SIGINT: median {median(stops):.3f} s, "
              f"longest {stops[-1]:.3f} s of {len(stops)}")  # fmt: skip
    damaged = Counter(name for one in trials for name in one.damaged_names)
    print("damaged: " + ", ".join(f"{name} {count}" for name, count in damaged.most_common()))
    cures = Counter(cure.partition(":")[0] for one in trials for cure in one.cures)
    print(f"refused, and resumed by the cure that the sentence names: {sum(cures.values())}")


def table(what: str, names: Sequence[str], trials: dict[str, list[Trial]]) -> None:
    """Runs by way, and how many of them came out bit-identical."""
    print(f"\n| {what} | {' | '.join(WAYS)} | runs | kills | bit-identical |")
    print("|---" * (len(WAYS) + 4) + "|")
    rows = [(name, trials[name]) for name in names]
    for name, of in [*rows, ("**all**", [one for _, some in rows for one in some])]:
        by = Counter(one.way for one in of)
        same = sum(one.failure is None for one in of)
        print(f"| {name} | {' | '.join(str(by[way]) for way in WAYS)} | {len(of)} | "
              f"{sum(one.kills for one in of)} | {same} |")  # fmt: skip


def budget(args: argparse.Namespace) -> None:
    """Runs of different step times, caps, saves and scores: where do they stop?"""
    print("| trial | cap | saves every | scored every | s a step | steps | exit | of the cap | "
          "process, of the cap | intact | reason |\n" + "|---" * 11 + "|")  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        warm_up(Path(folder))
        board = Board(Path(folder) / "board")
        for number in range(args.first, args.first + args.trials):
            draw = random.Random(f"{args.seed}/{number}")
            rows.append(capped_trial(Path(folder) / f"capped{number}", board, draw, args.seconds))
            print(f"| {number} | {row_of(rows[-1])} |", flush=True)
    shares = [row.share for row in rows]
    good = sum(row.is_good for row in rows)
    print(f"{good} of {len(rows)} stopped at 95-100 % of the cap with an intact checkpoint of "
          f"their last step ({min(shares):.1%} to {max(shares):.1%})")  # fmt: skip


# --- saving ---


def save(args: argparse.Namespace) -> None:
    """CPU seconds of a step and of a save, with one thread: shares that other work on the machine
    does not move.
    """
    torch.set_num_threads(1)
    recipe = recipe_from_dict(
        PLAIN
        | {
            "model": {"path": args.model},
            "data": {"train": {"task": "arithmetic", "count": 12, "levels": [1, 2]}},
            "rollout": {"group_size": 8, "prompts_per_step": 2, "max_completion_tokens": 128},
            "train": {"num_steps": args.steps, "learning_rate": 1e-6},
            "rewards": [{"type": "format"}, {"type": "repetition"}],
        }
    )
    times: dict[str, list[float]] = {"step": [], "snapshot": [], "write": []}
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        run = open_run(Path(folder) / "run", recipe)
        with setup.open_training(recipe, run) as training:
            for _ in range(args.steps):
                with timed(times["step"]):
                    groups, _ = loop.roll_out(training, training.state.step + 1)
                    loop.learn(
                        training, loop.training_batches(training, groups), first_of_batch=True
                    )
            for _ in range(args.steps):
                with timed(times["snapshot"]):
                    snapshot = checkpoint.take_snapshot(
                        training.policy, training.optimizer, training.state
                    )
                with timed(times["write"]):
                    checkpoint.write_snapshot(run, snapshot, training.tokenizer)
    for name, values in times.items():
        print(f"{name}: median {median(values):.2f} CPU s ({min(values):.2f}-{max(values):.2f})")
    every = recipe.train.save_every
    whole = every * median(times["step"])
    print(f"a checkpoint of {snapshot.bytes / 1e9:.2f} GB every {every} steps: training waits "
          f"{median(times['snapshot']) / whole:.2%} of the steps' time, "
          f"{(median(times['snapshot']) + median(times['write'])) / whole:.2%} with the writing "
          "that runs beside it")  # fmt: skip


@contextmanager
def timed(values: list[float]) -> Iterator[None]:
    began = time.process_time()
    yield
    values.append(time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("kills")
    one.add_argument("--count", type=int, default=300)
    one.add_argument("--first", type=int, default=0)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--keep", type=Path, default=None, help="a file for a line a trial")
    one.add_argument("--only", default="", help="recipes with names that match this")
    one.add_argument("--until", type=float, default=0.0, help="stop at this time (seconds)")
    one.add_argument("--work", type=Path, default=None, help="where runs are made")
    one.set_defaults(run=kills)
    one = commands.add_parser("tables")
    one.add_argument("kept", type=Path, nargs="+")
    one.set_defaults(run=tables)
    one = commands.add_parser("budget")
    one.add_argument("--trials", type=int, default=20)
    one.add_argument("--first", type=int, default=0)
    one.add_argument("--seconds", type=float, default=40.0, help="the cap of each trial")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--work", type=Path, default=None)
    one.set_defaults(run=budget)
    one = commands.add_parser("save")
    one.add_argument("--model", default="models/smollm2-135m")
    one.add_argument("--steps", type=int, default=3)
    one.add_argument("--work", type=Path, default=None)
    one.set_defaults(run=save)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
