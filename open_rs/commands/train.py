"""`open-rs quickstart` and `train`: the stages of a run, one after the other."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from open_rs.commands.compare import comparison_text
from open_rs.commands.curate import curate_stage
from open_rs.commands.plan import plan_stage, say_plan
from open_rs.commands.shared import (
    Json,
    Out,
    Overrides,
    TakeOver,
    be_the_writer,
    is_one_of_many,
    open_folder,
    open_recipe,
    show,
)
from open_rs.errors import InputError

if TYPE_CHECKING:
    from open_rs.recipe import Recipe
    from open_rs.runs import RunFolder
    from open_rs.train.distributed import Ranks


def quickstart(
    context: typer.Context,
    overrides: Overrides = None,
    out: Out = None,
    take_over: TakeOver = False,
    as_json: Json = False,
) -> None:
    """The whole pipeline on the model that ships with the package: minutes on two CPU cores."""
    from open_rs.recipe import load_recipe, shipped_recipe

    if is_one_of_many():
        raise InputError("quickstart is for one process; start open-rs train by torchrun")
    recipe = load_recipe(shipped_recipe("quickstart"), overrides or [])
    run = open_folder(context, recipe, out)
    run_stages(recipe, run)
    finish(run, as_json)


def train(
    context: typer.Context,
    recipe_path: Annotated[Path | None, typer.Argument(help="a recipe (.toml)")] = None,
    overrides: Overrides = None,
    out: Out = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="continue the run in this folder")
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="with --resume: go on although data, model, libraries or checkpoints changed",
        ),
    ] = False,
    max_hours: Annotated[
        float | None, typer.Option("--max-hours", help="same as budget.hours=HOURS")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="a sweep: so many runs of each arm")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="of a sweep: runs at a time")
    ] = None,
    take_over: TakeOver = False,
    as_json: Json = False,
) -> None:
    """Train by GRPO. The plan is printed first; held-out scores come every evaluate.every steps.
    Under torchrun or accelerate launch the ranks share the work.

    SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 save and stop; a second one stops at once. With --seeds, or
    arms or a grid in the recipe's [sweep], several runs and a summary over seeds; the same command
    goes on with them.
    """
    from open_rs.budget import governed

    settings = [*(overrides or []), *([] if max_hours is None else [f"budget.hours={max_hours}"])]
    settings += [f"sweep.seeds={seeds}"] if seeds else []
    if resume is not None and (seeds or jobs):
        raise InputError("--seeds, --jobs: are of a sweep, and --resume goes on with one run")
    ranks = None
    if is_one_of_many():
        ranks = join_ranks(context, recipe_path, settings, resume)
        if not ranks.leads:
            return follow_leader(ranks)
    if resume is None and recipe_path is not None:
        from open_rs.recipe import load_recipe

        asked = load_recipe(recipe_path, settings)
        if asked.sweep.asked or seeds:
            if ranks is not None:
                raise InputError(
                    "sweep: its runs are processes of their own; start it without torchrun, with "
                    "--jobs"
                )
            return train_sweep(asked, out, jobs, take_over, as_json)
        if jobs:
            raise InputError(
                "--jobs: there is one run to make; give --seeds N, or arms or a grid in the "
                "recipe's [sweep]"
            )
    recipe, run = recipe_to_train(context, recipe_path, settings, out, resume)
    with governed(recipe, run, "plan"):
        if recipe.sources:
            curate_stage(recipe, run)
        if resume is None:
            say_plan(plan_stage(recipe, run, 1 if ranks is None else ranks.count))
        train_stage(recipe, run, accept_changes=accept_changes, ranks=ranks)
    from open_rs.runs import read_metrics

    last = read_metrics(run)[-1]
    show(last, as_json, f"{run.path}: step {last['step']} done; next: open-rs evaluate {run.path}")


def join_ranks(
    context: typer.Context, path: Path | None, settings: list[str], resume: Path | None
) -> "Ranks":
    """The ranks of this job, once they have found each other and agree."""
    from open_rs.recipe import load_recipe
    from open_rs.train.distributed_join import join

    def load() -> "Recipe | None":
        if resume is not None or path is None:
            return None
        return load_recipe(path, settings)

    return context.with_resource(join(load, sys.argv[1:]))


def follow_leader(ranks: "Ranks") -> None:
    """Another rank's share of the work, to the end of the job."""
    from open_rs.train.distributed_work import follow

    follow(ranks)


def train_sweep(
    recipe: "Recipe", out: Path | None, jobs: int | None, take_over: bool, as_json: bool
) -> None:
    """Every arm with every seed, and one summary; given again, it goes on."""
    from open_rs.sweep.run import run_sweep
    from open_rs.sweep.summary import summary_text

    folder = out or Path("runs") / recipe.name
    summary = run_sweep(recipe, folder, jobs=jobs, take_over=take_over)
    show(summary, as_json, summary_text(summary))


def recipe_to_train(
    context: typer.Context,
    path: Path | None,
    overrides: list[str],
    out: Path | None,
    resume: Path | None,
) -> tuple["Recipe", "RunFolder"]:
    """A new run of a recipe, or one to go on with; a run is never started afresh in silence."""
    if resume is not None:
        from open_rs.train.resumable import run_to_resume
        from open_rs.train.resume import recipe_to_resume

        if path is not None and "=" in str(path):
            path, overrides = None, [str(path), *overrides]
        if path is not None or out is not None:
            raise InputError("--resume takes the recipe of the run: give no recipe and no --out")
        run = run_to_resume(resume)
        be_the_writer(context, run.path)
        return recipe_to_resume(run, overrides), run
    if path is None:
        raise InputError("name a recipe to train, or a run to go on with by --resume")
    recipe, run = open_recipe(context, path, overrides, out)
    if run.metrics.exists():
        raise InputError(
            f"{run.path}: this run was started already; go on with open-rs train --resume "
            f"{run.path}, or give another name or --out"
        )
    return recipe, run


def run_stages(recipe: "Recipe", run: "RunFolder") -> None:
    """curate -> plan -> train -> evaluate -> report as one start of the run, whose caps and signals
    hold for all of them; what is there already is not done again.
    """
    from open_rs.budget import governed
    from open_rs.evaluate.held_out import evaluate_run
    from open_rs.report import build_report

    with governed(recipe, run, "plan"):
        curate_stage(recipe, run)
        say_plan(plan_stage(recipe, run))
        train_stage(recipe, run)
        evaluate_run(run)
        with governed(recipe, run, "report"):
            build_report(run)


def train_stage(
    recipe: "Recipe",
    run: "RunFolder",
    *,
    accept_changes: bool = False,
    ranks: "Ranks | None" = None,
) -> None:
    from open_rs.train.distributed import ALONE
    from open_rs.train.loop import train as train_loop

    train_loop(recipe, run, accept_changes=accept_changes, ranks=ranks or ALONE)


def finish(run: "RunFolder", as_json: bool) -> None:
    """The result of a pipeline: the verdict and where the report lies."""
    from open_rs.runs import read_json

    comparison = read_json(run.evaluation("comparison.json"))
    result = {"comparison": comparison, "report": str(run.report)}
    show(result, as_json, f"{comparison_text(comparison)}\nreport: {run.report}")
