"""The runs of a sweep: every arm with every seed, each a recipe and a folder of its own."""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from open_rs.errors import InputError, NonFiniteStop
from open_rs.interrupt import SIGNALS
from open_rs.recipe import Recipe, override, put_in, recipe_from_dict
from open_rs.runs import (
    RunFolder,
    different_keys,
    make_folder,
    read_log,
    read_metrics,
    recipe_in,
    write_json,
)
from open_rs.train.decisions import ending, held_decisions

RECIPE = "sweep_recipe.json"  # a folder with recipe.json would be a run
FREE_KEYS = {"sweep.seeds", "budget.hours", "budget.usd"}  # may change from start to start
LONGEST_NAME = 100  # letters of an arm's, which names a folder
STARTS_AND_ENDS = ("start", "resume", "stop", "failed", "finish")  # events of a training
FROM_OUTSIDE = ("budget", *(one.name for one in SIGNALS))  # reasons of a stop


@dataclass(frozen=True)
class Variant:
    """An arm: what it changes, by `texts` as on the command line or by `values` of dotted keys."""

    name: str
    texts: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One run: `arm` with `seed`."""

    arm: str
    seed: int
    recipe: Recipe
    run: RunFolder


def cells_of(recipe: Recipe, folder: Path) -> list[Cell]:
    """Seed by seed, so that after each seed every arm has as many runs as the others."""
    arms = arms_of(recipe)
    seeds = range(recipe.seed, recipe.seed + recipe.sweep.seeds)
    return [cell_of(recipe, folder, arm, seed) for seed in seeds for arm in arms]


def cell_of(recipe: Recipe, folder: Path, arm: Variant, seed: int) -> Cell:
    settings = recipe.model_dump(mode="json", exclude={"sweep"})
    settings["budget"] |= {"hours": None, "usd": None}  # of all runs together (`purse`)
    try:
        settings = override(settings, arm.texts)
        for key, value in arm.values.items():
            put_in(settings, key, value)
        settings |= {"seed": seed, "name": f"{arm.name}-seed-{seed}"}
        made = recipe_from_dict(settings, where=f'arm "{arm.name}"')
    except InputError as error:
        raise InputError(f"sweep: {error}") from None
    if made.sweep.asked:
        raise InputError(f'sweep: arm "{arm.name}" sets a sweep of its own; take it out')
    return Cell(arm.name, seed, made, RunFolder(folder / arm.name / f"seed-{seed}"))


def arms_of(recipe: Recipe) -> list[Variant]:
    """The arms as named, or one for each point of the grid, or the recipe itself."""
    grid = recipe.sweep.grid
    if not grid:
        arms = [Variant(arm.name, texts=arm.settings) for arm in recipe.sweep.arms]
        return arms or [Variant("all")]
    points = itertools.product(*grid.values())
    arms = [grid_arm(dict(zip(grid, point, strict=True))) for point in points]
    if len({arm.name for arm in arms}) < len(arms):
        raise InputError("sweep.grid: two points have one name; give them as sweep.arms by name")
    return arms


def grid_arm(point: dict[str, Any]) -> Variant:
    """Named by the last part of each key and its value."""
    pairs = [f"{key.rpartition('.')[2]}={shown(value)}" for key, value in point.items()]
    name = re.sub(r"[^A-Za-z0-9_.=-]+", "_", ",".join(pairs)).replace("=", "-").strip("_")
    if len(name) > LONGEST_NAME:
        raise InputError(
            f"sweep.grid: the point {name[:40]}... has a name of {len(name)} letters; give its "
            "settings as sweep.arms, by a short name"
        )
    return Variant(name, values=point)


def shown(value: Any) -> str:
    """A value as part of a name: of tables their values, of lists their entries."""
    if isinstance(value, dict):
        return "_".join(map(shown, value.values()))
    return "_".join(map(shown, value)) if isinstance(value, list | tuple) else str(value)


def open_sweep(recipe: Recipe, folder: Path) -> list[Cell]:
    """The cells of the sweep in `folder`; one of another recipe is refused. Seeds may be added, and
    the budget may be another one.
    """
    cells = cells_of(recipe, folder)  # a mistake in an arm is found before anything is written
    resolved = recipe.model_dump(mode="json")
    place = folder / RECIPE
    if (folder / "recipe.json").exists():
        raise InputError(f"{folder}: holds a single run; give the sweep another name or --out")
    if place.exists():
        differing = sorted(set(different_keys(recipe_in(place), resolved)) - FREE_KEYS)
        if differing:
            raise InputError(
                f"{folder}: already holds a sweep of another recipe (different: "
                f"{', '.join(differing[:5])}); give another name or --out, or remove the folder"
            )
    make_folder(folder)
    write_json(place, resolved)
    return cells


def shared(sweeps: Iterable[Iterable[Cell]]) -> list[list[Cell]]:
    """The same cells; those of one recipe, whatever its name, have one run: that of the first."""
    first: dict[str, Cell] = {}
    found = []
    for cells in sweeps:
        twins = [first.setdefault(same_run(cell), cell) for cell in cells]
        pairs = zip(cells, twins, strict=True)
        found.append([replace(one, recipe=twin.recipe, run=twin.run) for one, twin in pairs])
    return found


def same_run(cell: Cell) -> str:
    """What two cells have in common that come to the same weights."""
    return cell.recipe.model_copy(update={"name": "run"}).model_dump_json()


def is_finished(cell: Cell) -> bool:
    """Trained to the last step, or ended for good before it; scored there where there is a
    validation set, and compared where there is a test set as well.
    """
    recipe, run, end = cell.recipe, cell.run, early_end(cell.recipe, cell.run)
    last, validation = recipe.train.num_steps if end is None else end, recipe.data.validation
    if recipe.data.test is not None and validation is not None:
        return run.evaluation("comparison.json").exists()
    if not run.checkpoint(last).exists():  # of an end in steps that came to nothing, none is saved
        return end is not None
    ended = [row for row in read_metrics(run) if row["step"] == last]
    scored = validation is None or any("validation/pass@1" in row for row in ended)
    return bool(ended) and scored


def early_end(recipe: Recipe, run: RunFolder) -> int | None:
    """The step after which a run ended for good before its last one: the sentinel stopped it, or
    too many steps had no finite gradient. What it came to is a result as any other.
    """
    if end := ending(run, recipe, held_decisions(run)):
        return int(end["to_step"])
    if last_event(run).get("reason") == NonFiniteStop.reason:
        return max((int(row["step"]) for row in read_metrics(run)), default=0)
    return None


def is_open(cell: Cell) -> bool:
    """Begun, not finished, and not because it was stopped from outside: by a signal, or by the
    budget. Which runs fail, or pause, may depend on what they have learnt.
    """
    begun = cell.run.metrics.exists() and not is_finished(cell)
    return begun and last_event(cell.run).get("reason") not in FROM_OUTSIDE


def last_event(run: RunFolder) -> dict[str, Any]:
    """The last start or end of its training; empty where there is none."""
    rows = [row for row in read_log(run.events) if row["event"] in STARTS_AND_ENDS]
    return rows[-1] if rows else {}
