"""Curates in a forked child and kills it (SIGKILL) at a random instant, again and again.

    python kill_harness.py FOLDER RECIPE.json TRIALS KILLS SEED WORKERS

Each trial has a folder of its own, in which up to KILLS runs are killed before one is let run to
its end. The solver writes what it is asked to FOLDER/asked/TRIAL, and whether the journal held the
answer when its run began. Prints {"seconds", "killed": runs that a kill hit}.
"""

import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import scipy.stats  # noqa: F401
from curation_stand_ins import ScriptedEngine, sampler_of

import open_rs.models  # noqa: F401  # torch, before the forks: kills are to hit the work
from open_rs.curate import curate
from open_rs.problems import Problem
from open_rs.recipe import load_recipe
from open_rs.runs import read_log

ERRORS = f"{sys.argv[1]}-errors"  # what the last run wrote to stderr


def main() -> None:
    folder, recipe_path = Path(sys.argv[1]), Path(sys.argv[2])
    trials, kills, seed, workers = map(int, sys.argv[3:])
    recipe = load_recipe(recipe_path)
    (folder / "asked").mkdir(parents=True)

    def run(trial: str) -> None:
        out, asked = folder / trial, folder / "asked" / trial
        known = {(row["problem_id"], row["sample"]) for row in read_log(out / "answers.jsonl")}

        def script(problem: Problem, sample: int) -> str:
            with asked.open("a") as file:
                row = [problem.id, sample, (problem.id, sample) in known]
                file.write(json.dumps(row) + "\n")
            return f"\\boxed{{{problem.answer if (len(problem.problem) + sample) % 3 else 77}}}"

        sampler = sampler_of(ScriptedEngine(script))
        curate(recipe, out, open_sampler=sampler, workers=workers, chunk_rows=25)

    start = time.perf_counter()
    forked(lambda: run("whole"), None)
    seconds = time.perf_counter() - start
    rng = random.Random(seed)
    killed = 0
    for trial in range(trials):
        for _ in range(kills):
            killed += forked(lambda trial=trial: run(str(trial)), rng.uniform(0, seconds))
        forked(lambda trial=trial: run(str(trial)), None)
    print(json.dumps({"seconds": seconds, "killed": killed}))


def forked(work: Callable[[], None], limit: float | None) -> bool:
    """Whether `work`, in a child, was killed at `limit` seconds; without one it has to succeed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(ERRORS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        status = 1
        try:
            work()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    ended = os.pidfd_open(child)
    in_time, _, _ = select.select([ended], [], [], limit)
    if not in_time:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ended)
    if limit is None and status != 0:
        raise SystemExit(Path(ERRORS).read_text(encoding="utf-8"))
    return not in_time


if __name__ == "__main__":
    main()
