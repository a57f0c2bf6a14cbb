"""The runs of a sweep: every arm with every seed, each a recipe and a folder of its own."""

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_rs.errors import InputError
from open_rs.recipe import Arm, Recipe, override, recipe_from_dict
from open_rs.runs import (
    RunFolder,
    different_keys,
    make_folder,
    read_json,
    read_metrics,
    write_json,
)

RECIPE = "sweep_recipe.json"  # a folder with recipe.json would be a run


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


def cell_of(recipe: Recipe, folder: Path, arm: Arm, seed: int) -> Cell:
    settings = recipe.model_dump(mode="json", exclude={"sweep"})
    try:
        settings = override(settings, arm.settings)
        settings |= {"seed": seed, "name": f"{arm.name}-seed-{seed}"}
        made = recipe_from_dict(settings, where=f'arm "{arm.name}"')
    except InputError as error:
        raise InputError(f"sweep: {error}") from None
    if made.sweep.asked:
        raise InputError(f'sweep: arm "{arm.name}" sets a sweep of its own; take it out')
    return Cell(arm.name, seed, made, RunFolder(folder / arm.name / f"seed-{seed}"))


def arms_of(recipe: Recipe) -> list[Arm]:
    """The arms as named, or one for each point of the grid, or the recipe itself."""
    grid = recipe.sweep.grid
    if not grid:
        return list(recipe.sweep.arms) or [Arm(name="all")]
    points = itertools.product(*grid.values())
    arms = [grid_arm(dict(zip(grid, point, strict=True))) for point in points]
    if len({arm.name for arm in arms}) < len(arms):
        raise InputError("sweep.grid: two points have one name; give them as sweep.arms by name")
    return arms


def grid_arm(point: dict[str, Any]) -> Arm:
    """Named by the last part of each key and its value."""
    pairs = [f"{key.rpartition('.')[2]}={value}" for key, value in point.items()]
    return Arm(
        name=re.sub(r"[^A-Za-z0-9_.=-]+", "_", ",".join(pairs)).replace("=", "-"),
        settings=tuple(f"{key}={json.dumps(value)}" for key, value in point.items()),
    )


def open_sweep(recipe: Recipe, folder: Path) -> list[Cell]:
    """The cells of the sweep in `folder`; one of another recipe is refused. Seeds may be added."""
    cells = cells_of(recipe, folder)  # a mistake in an arm is found before anything is written
    resolved = recipe.model_dump(mode="json")
    place = folder / RECIPE
    if (folder / "recipe.json").exists():
        raise InputError(f"{folder}: holds a single run; give the sweep another name or --out")
    if place.exists():
        held = read_json(place)
        differing = sorted(set(different_keys(held, resolved)) - {"sweep.seeds"})
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
    """Trained to the last step, scored there where there is a validation set, and compared where
    there is a test set as well.
    """
    recipe, run = cell.recipe, cell.run
    last, validation = recipe.train.num_steps, recipe.data.validation
    if recipe.data.test is not None and validation is not None:
        return run.evaluation("comparison.json").exists()
    rows = read_metrics(run) if run.metrics.exists() else []
    ended = [row for row in rows if row["step"] == last]
    scored = validation is None or any("validation/pass@1" in row for row in ended)
    return bool(ended) and scored and run.checkpoint(last).exists()
