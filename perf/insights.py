"""The experiments of recipes/insights, run, and the page that they come to: docs/insights.md.

    python perf/insights.py run [--out runs/insights] [--jobs 2] [--seeds N]
    python perf/insights.py page [--out runs/insights] [--note "beside other work"]

`run` makes every arm of every experiment with every seed, seed by seed; killed, it goes on where it
was, and a run that several experiments ask for is made once. `page` reads the finished runs into
docs/insights.json, and from that file alone writes docs/insights.md, its figures and the table of
docs/sweeps.md; without the runs the file that is there will do.
"""

import argparse
import json
import platform
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from insight_page import placed, seeds_table, written
from insight_runs import (
    ROOT,
    cells_by_experiment,
    collect,
    load_recipes,
    write_data,
)

from open_rs.errors import GuardStop
from open_rs.machine import cpus, package_version
from open_rs.recipe import Recipe
from open_rs.runs import append_jsonl, make_folder, read_log
from open_rs.sweep.cells import is_finished
from open_rs.sweep.run import run_sweeps

DATA, PAGE, FIGURES = "docs/insights.json", "docs/insights.md", "docs/figures"
SWEEPS = "docs/sweeps.md"
COST = "cost.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "insights")
    parser.add_argument("--jobs", type=int, default=2, help="run: so many at a time")
    parser.add_argument("--seeds", type=int, help="run: of each arm; else the recipes' own")
    parser.add_argument("--note", default="nothing else was running", help="page: of the cost")
    given = parser.parse_args()
    if given.what == "page":
        make_page(given.out, given.note)
        return
    overrides = [f"sweep.seeds={given.seeds}"] if given.seeds else []
    sys.exit(make_runs(load_recipes(overrides), given.out, given.jobs))


def make_runs(recipes: dict[str, Recipe], out: Path, jobs: int) -> int:
    """Every run that is not finished; what it cost is noted, however it ends but by a kill."""
    make_folder(out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
    started, before = time.monotonic(), count_finished(recipes, out)
    try:
        run_sweeps({out / name: recipe for name, recipe in recipes.items()}, jobs=jobs)
    except GuardStop as stop:
        print(stop, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("stopped, runs under way are saved; the same command goes on", file=sys.stderr)
        return 130
    finally:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cost = {
            "runs": count_finished(recipes, out) - before,
            "seconds": (time.monotonic() - started) * jobs,
            "cpu_seconds": used.ru_utime + used.ru_stime,
        }
        append_jsonl(out / COST, cost)
    return 0


def count_finished(recipes: dict[str, Recipe], out: Path) -> int:
    by_run = {
        cell.run.path: cell
        for cells in cells_by_experiment(recipes, out).values()
        for cell in cells
    }
    return sum(is_finished(cell) for cell in by_run.values())


def make_page(out: Path, note: str) -> None:
    if out.exists():
        write_data(ROOT / DATA, collect(load_recipes(), out) | {"made": made(out, note)})
    data = json.loads((ROOT / DATA).read_text(encoding="utf-8"))
    written(data, ROOT / PAGE, ROOT / FIGURES)
    sweeps = (ROOT / SWEEPS).read_text(encoding="utf-8")
    (ROOT / SWEEPS).write_text(placed(sweeps, seeds_table(data)), encoding="utf-8")


def made(out: Path, note: str) -> dict[str, Any]:
    """Where, with what, and at what cost, as far as starts that were not killed have noted it."""
    costs = read_log(out / COST) if (out / COST).exists() else []
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{platform.machine()}, {cpus()} cores",
        "versions": {name: package_version(name) for name in ("torch", "transformers")},
        "note": note,
        **{key: sum(one[key] for one in costs) for key in ("runs", "seconds", "cpu_seconds")},
    }


if __name__ == "__main__":
    main()
