"""`open-rs curate`."""

from typing import TYPE_CHECKING, Any

import typer

from open_rs.commands.shared import Json, Out, Overrides, RecipeArg, open_recipe, show

if TYPE_CHECKING:
    from open_rs.recipe import Recipe
    from open_rs.runs import RunFolder


def curate(
    context: typer.Context,
    recipe_path: RecipeArg,
    overrides: Overrides = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Raw rows in, a training set out, with a reason for every row that was dropped."""
    recipe, run = open_recipe(context, recipe_path, overrides, out)
    summary = curate_stage(recipe, run)
    show(summary, as_json, funnel_text(summary, run))


def curate_stage(recipe: "Recipe", run: "RunFolder") -> dict[str, Any]:
    from open_rs.curate import curate as curate_problems
    from open_rs.runs import Ledger

    with Ledger(run.ledger).phase("curate"):
        return curate_problems(recipe, run.curated)


def funnel_text(summary: dict[str, Any], run: "RunFolder") -> str:
    rows = [f"curate: {summary['input']} rows"]
    rows += [
        f"  {one['filter']:<18} -{one['dropped']:<5} {one['kept']} left"
        for one in summary["funnel"]
    ]
    return "\n".join([*rows, f"  {summary['kept']} problems in {run.curated}"])
