"""Runs the cells of a sweep: a worker process for each device, or as many as are asked for on CPUs.

A cell that is finished is not touched, one that was begun goes on, and one that failed is told and
tried again at the next start; the others go on without it.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from open_rs.console import say
from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import result_of, stop_on_signals
from open_rs.lock import lock_folder
from open_rs.machine import cpus
from open_rs.recipe import Recipe
from open_rs.recipe.schema import BudgetRecipe
from open_rs.runs import write_json
from open_rs.sweep.cells import Cell, is_finished, open_sweep, shared
from open_rs.sweep.purse import Purse, mean_cost, outlook
from open_rs.sweep.summary import summarise

SUMMARY = "sweep.json"
END_SECONDS = 120.0  # for a worker to save once it was asked to end


def run_sweep(
    recipe: Recipe, folder: Path, *, jobs: int | None = None, take_over: bool = False
) -> dict[str, Any]:
    """Every cell to its end, then the summary, which is written to `folder`/sweep.json.
    `take_over`: owners that another host left in its folders are gone.

    GuardStop where cells failed or were stopped: what is done is summarised all the same.
    """
    return run_sweeps({folder: recipe}, jobs=jobs, take_over=take_over)[folder]


def run_sweeps(
    recipes: Mapping[Path, Recipe], *, jobs: int | None = None, take_over: bool = False
) -> dict[Path, dict[str, Any]]:
    """Several sweeps, {folder: recipe}, at once and seed by seed, so that wherever this is stopped
    all have about as many seeds. A run that several of them ask for is made once.
    """
    sweeps = shared(open_sweep(recipe, folder) for folder, recipe in recipes.items())
    owner: dict[Path, Path] = {}  # the sweep that pays for a run, by both folders
    for folder, own in zip(recipes, sweeps, strict=True):
        owner |= {cell.run.path: folder for cell in own if cell.run.path not in owner}
    by_run = {cell.run.path: cell for own in sweeps for cell in own}
    cells = sorted(by_run.values(), key=lambda cell: cell.seed)
    devices = visible_devices()
    workers = jobs or max(len(devices), 1)
    with ExitStack() as locks:
        for folder in recipes:
            locks.enter_context(lock_folder(folder, take_over=take_over))
        todo = [cell for cell in cells if not is_finished(cell)]
        say(f"sweep: {len(cells)} runs, {len(cells) - len(todo)} finished, {workers} at a time")
        paid = {one: [cell for cell in cells if owner[cell.run.path] == one] for one in recipes}
        purses = {one: Purse(recipes[one], paid[one], workers) for one in recipes}
        by_cell = {path: purses[one] for path, one in owner.items()}
        where = places(workers, devices)
        reasons = run_cells(todo, cells, where, by_cell, take_over=take_over) if todo else {}
        summaries = {}
        for (folder, recipe), own in zip(recipes.items(), sweeps, strict=True):
            summaries[folder] = summarise(recipe, own)
            write_json(folder / SUMMARY, summaries[folder])
    if reasons:
        name, reason = next(iter(reasons.items()))
        raise GuardStop(
            f"sweep: {len(reasons)} of {len(cells)} runs are not finished, such as {name} "
            f"({reason}); mend the cause and give the same command again"
        )
    return summaries


def visible_devices() -> list[str]:
    """The CUDA devices that this process may use, by what CUDA_VISIBLE_DEVICES calls them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [one for one in given.split(",") if one.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def places(workers: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """The environment of each worker: a device of its own, or its share of the cores."""
    if devices:
        return [
            {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} for number in range(workers)
        ]
    return [{"OMP_NUM_THREADS": str(max(cpus() // workers, 1))}] * workers


def run_cells(
    todo: Sequence[Cell],
    cells: Sequence[Cell],
    environments: Sequence[dict[str, str]],
    purses: Mapping[Path, Purse],
    *,
    take_over: bool = False,
) -> dict[str, str]:
    """The cells that are not finished and why: {arm/seed: reason}. At a signal the runs under way
    save and end, and Interrupted is raised.
    """
    reasons: dict[str, str] = {}
    queue, lock = iter(todo), threading.Lock()

    def work(environment: dict[str, str], stop: threading.Event) -> None:
        with Worker(environment, stop) as worker:
            while not stop.is_set():
                with lock:
                    cell = next(queue, None)
                    if cell is None:
                        return
                    purse = purses[cell.run.path]
                    budget = purse.take(cell)
                name = f"{cell.arm} seed {cell.seed}"
                if budget is None:
                    reasons[name] = purse.sentence()
                    continue
                answer = worker.make(cell, cells, budget, take_over=take_over)
                with lock:
                    purse.give_back(cell)
                say(f"sweep: {name}: {answer['status']} {answer['reason']}".rstrip())
                if answer["status"] != "done":
                    reasons[name] = answer["reason"]

    stop = threading.Event()
    with stop_on_signals(), ThreadPoolExecutor(len(environments)) as pool:
        try:
            told = pool.submit(
                foretell, todo, cells, environments[0], purses, stop, take_over=take_over
            )
            result_of(told)
            for one in [pool.submit(work, one, stop) for one in environments]:
                result_of(one)
        except BaseException:
            stop.set()
            raise
    return reasons


def foretell(
    todo: Sequence[Cell],
    cells: Sequence[Cell],
    environment: dict[str, str],
    purses: Mapping[Path, Purse],
    stop: threading.Event,
    *,
    take_over: bool,
) -> None:
    """Say before the start what is to come: by the runs that are finished, else by the plan of the
    first one.
    """
    one, purse = mean_cost(cells), purses[todo[0].run.path]
    budget = purse.take(todo[0]) if one is None else None
    if budget is not None:
        with Worker(environment, stop) as worker:
            answer = worker.make(todo[0], cells, budget, take_over=take_over, only_plan=True)
        if answer["status"] == "done":
            one = {name: answer[name] for name in ("hours", "usd")}
        else:
            say(f"sweep: no forecast: {answer['reason']}")
        purse.give_back(todo[0])
    if one is not None:
        say(outlook(one, len(todo)))
    for told in dict.fromkeys(purse.sentence() for purse in purses.values()):
        if told:
            say(f"sweep: {told}")


class Worker:
    """A worker process; it is replaced where it died under a run."""

    def __init__(self, environment: dict[str, str], stop: threading.Event) -> None:
        self.environment, self.stop = environment, stop
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()

    def make(
        self,
        cell: Cell,
        cells: Sequence[Cell],
        budget: BudgetRecipe,
        *,
        take_over: bool = False,
        only_plan: bool = False,
    ) -> dict[str, Any]:
        """The run of a cell, one of `cells`, or only its forecast."""
        others = [one.run.path.resolve() for one in cells if one.run.path != cell.run.path]
        asked = {
            "run": str(cell.run.path.resolve()),
            "recipe": cell.recipe.model_dump(mode="json"),
            "siblings": [str(path) for path in others],
            "budget": budget.model_dump(mode="json"),
            "take_over": take_over,
            "only_plan": only_plan,
        }
        process = self.process or self._start()
        assert process.stdin is not None and process.stdout is not None
        print(json.dumps(asked), file=process.stdin, flush=True)
        with ended_with(process, self.stop):
            line = process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.process = None
        return {"status": "failed", "reason": f"its process ended with status {process.wait()}"}

    def _start(self) -> subprocess.Popen[str]:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *(entry for entry in sys.path if entry), os.getcwd()])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "open_rs.sweep.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path} | self.environment,
            start_new_session=True,  # Ctrl-C comes to the sweep, which asks each run to save
        )
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise InputError("sweep: a worker process did not start; see what it printed above")
        return self.process


@contextmanager
def ended_with(process: subprocess.Popen[str], stop: threading.Event) -> Iterator[None]:
    """While a run is under way, a stop of the sweep is one of its process, which saves first."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            if stop.is_set():
                process.terminate()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
