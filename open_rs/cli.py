"""The commands. A stage is imported only when it is called, so that --help answers at once.

Progress goes to stderr, the result to stdout. Exit status: 0 done; 1 ran and the answer is bad;
2 the input was wrong; 3 stopped by a guard, resumable; 130 interrupted.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from open_rs import __version__
from open_rs.errors import GuardStop, InputError
from open_rs.texts import comparison_text, funnel_text, grades_text, plan_text, scores_text

if TYPE_CHECKING:
    from open_rs.recipe import Recipe
    from open_rs.runs import RunFolder

app = typer.Typer(
    help="Reinforcement learning for small reasoning language models, on a budget, with results "
    "that can be trusted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

RecipeArg = Annotated[Path, typer.Argument(help="a recipe (.toml), or a run's recipe.json")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="settings to change, as in train.num_steps=50")
]
Out = Annotated[Path | None, typer.Option("--out", help="run folder; default runs/NAME")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
RunArg = Annotated[Path, typer.Argument(help="a run folder")]


def main() -> None:
    """Run a command and turn its errors into one sentence and an exit status."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        stop(error, 2)
    except GuardStop as error:
        stop(error, 3)


def stop(reason: object, status: int) -> None:
    print(f"open-rs: {reason}", file=sys.stderr)
    raise SystemExit(status)


def show(result: Any, as_json: bool, text: str) -> None:
    """A command's result on stdout."""
    print(json.dumps(result, indent=1, ensure_ascii=False) if as_json else text)


@app.callback(invoke_without_command=True)
def version(
    show_version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True)
    ] = False,
) -> None:
    if show_version:
        print(f"open-rs {__version__}")
        raise typer.Exit


@app.command()
def quickstart(
    overrides: Overrides = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """The whole pipeline on the model that ships with the package: minutes on two CPU cores."""
    from open_rs.recipe import load_recipe, shipped_recipe

    recipe = load_recipe(shipped_recipe("quickstart"), overrides or [])
    run = open_folder(recipe, out)
    run_stages(recipe, run)
    finish(run, as_json)


@app.command()
def curate(
    recipe_path: RecipeArg, overrides: Overrides = None, out: Out = None, as_json: Json = False
) -> None:
    """Raw rows in, a training set out, with a reason for every row that was dropped."""
    recipe, run = open_recipe(recipe_path, overrides, out)
    summary = curate_stage(recipe, run)
    show(summary, as_json, funnel_text(summary, run))


@app.command()
def plan(
    recipe_path: RecipeArg, overrides: Overrides = None, out: Out = None, as_json: Json = False
) -> None:
    """What the recipe will cost on this machine, from a probe of a few seconds."""
    recipe, run = open_recipe(recipe_path, overrides, out)
    made = plan_stage(recipe, run)
    show(made, as_json, plan_text(made))


@app.command()
def train(
    recipe_path: Annotated[Path | None, typer.Argument(help="a recipe (.toml)")] = None,
    overrides: Overrides = None,
    out: Out = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="continue the run in this folder")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train by GRPO. The plan is printed first; held-out scores come every evaluate.every steps."""
    recipe, run = recipe_to_train(recipe_path, overrides, out, resume)
    if recipe.sources:
        curate_stage(recipe, run)
    if resume is None:
        say_plan(plan_stage(recipe, run))
    train_stage(recipe, run)
    from open_rs.runs import read_metrics

    last = read_metrics(run)[-1]
    show(last, as_json, f"{run.path}: step {last['step']} done; next: open-rs evaluate {run.path}")


@app.command()
def evaluate(
    target: Annotated[str, typer.Argument(help="a run folder, or a model folder or id")],
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", help="problem file to score a model on")
    ] = None,
    num_samples: Annotated[
        int | None, typer.Option("--num-samples", min=1, help="completions per problem (k)")
    ] = None,
    recipe_path: Annotated[
        Path | None, typer.Option("--recipe", help="settings for a model that is not a run")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="a setting, as in evaluate.top_p=1")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder for records")] = None,
    as_json: Json = False,
) -> None:
    """A run: its test split before and after. A model: a benchmark file, with an interval."""
    from open_rs.evaluate.held_out import evaluate_benchmark, evaluate_run

    if benchmark is None:
        if num_samples or recipe_path or setting or out:
            raise InputError(
                "--num-samples, --recipe, --set and --out go with --benchmark; a run is scored by "
                "its own recipe"
            )
        run = existing_run(Path(target))
        comparison = evaluate_run(run)
        show(comparison, as_json, comparison_text(comparison))
        return
    from open_rs.recipe import load_recipe, recipe_from_dict
    from open_rs.recipe.load import override

    changes = list(setting or [])
    if num_samples is not None:
        changes.append(f"evaluate.num_samples={num_samples}")
    recipe = (
        load_recipe(recipe_path, changes)
        if recipe_path
        else recipe_from_dict(override({}, changes), where="--set")
    )
    if out is None:
        raise InputError("--out is missing; name a folder for the records")
    summary = evaluate_benchmark(recipe, target, benchmark, out)
    show(summary, as_json, scores_text(summary))


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="an evaluation folder")],
    after: Annotated[Path, typer.Argument(help="an evaluation folder")],
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999)] = 0.95,
    as_json: Json = False,
) -> None:
    """Two evaluations of the same problems, paired: difference, interval, verdict."""
    from open_rs.evaluate.compare import compare as compare_folders

    comparison = compare_folders(before, after, confidence)
    show(comparison, as_json, comparison_text(comparison))


@app.command()
def report(run_path: RunArg, as_json: Json = False) -> None:
    """One self-contained HTML page of a run, finished or not."""
    from open_rs.report import build_report

    path = build_report(existing_run(run_path))
    show({"report": str(path)}, as_json, str(path))


@app.command()
def grade(
    source: Annotated[Path, typer.Argument(help="JSON Lines with gold and completion")],
    out: Annotated[Path | None, typer.Option("--out", help="the same rows with grades")] = None,
    workers: Annotated[int, typer.Option(min=1, help="grading processes")] = 2,
    timeout: Annotated[float, typer.Option(min=0.01, help="seconds for one answer")] = 5.0,
    opens_think: Annotated[
        bool, typer.Option("--opens-think", help="the template opened <think> in every prompt")
    ] = False,
    unboxed_numbers: Annotated[
        bool, typer.Option("--unboxed-numbers", help="without a box the last number counts")
    ] = False,
    against: Annotated[
        Path | None, typer.Option("--against", help="another graded file of the same rows")
    ] = None,
    as_json: Json = False,
) -> None:
    """Grade completions, or list where two gradings of the same rows disagree (exit 1)."""
    from open_rs.grade import grade_file

    if out is None and against is None:
        raise InputError("--out is missing; name a file for the grades")
    if out is not None:
        summary = grade_file(
            source,
            out,
            workers=workers,
            timeout_s=timeout,
            opens_think=opens_think,
            unboxed_numbers=unboxed_numbers,
        ).as_dict()
        if against is None or not summary["complete"]:
            show(summary, as_json, grades_text(summary))
            raise typer.Exit(0 if summary["complete"] else 130)
    assert against is not None
    audit_grades(out or source, against, as_json)


def audit_grades(ours: Path, theirs: Path, as_json: bool) -> None:
    """Print the disagreements of two graded files; exit 1 where there is one."""
    from dataclasses import asdict

    from open_rs.grade import audit_files

    audit = audit_files(ours, theirs)
    rows = [
        f"row {one.row}: gold {one.gold!r}: {one.ours} ({one.extracted!r}), there {one.theirs} "
        f"({one.their_extracted!r})"
        for one in audit.disagreements
    ]
    count = sum(audit.changes.values())
    rows.append(f"{count} of {audit.rows} rows disagree")
    show(asdict(audit), as_json, "\n".join(rows))
    raise typer.Exit(1 if count else 0)


def open_folder(recipe: "Recipe", out: Path | None) -> "RunFolder":
    from open_rs.runs import open_run

    return open_run(out or Path("runs") / recipe.name, recipe)


def open_recipe(
    path: Path, overrides: list[str] | None, out: Path | None
) -> tuple["Recipe", "RunFolder"]:
    from open_rs.recipe import load_recipe

    recipe = load_recipe(path, overrides or [])
    return recipe, open_folder(recipe, out)


def existing_run(path: Path) -> "RunFolder":
    from open_rs.runs import RunFolder

    run = RunFolder(path)
    if not run.recipe.is_file():
        raise InputError(
            f"{path}: holds no recipe.json, so it is no run folder; for a model give --benchmark"
        )
    return run


def recipe_to_train(
    path: Path | None, overrides: list[str] | None, out: Path | None, resume: Path | None
) -> tuple["Recipe", "RunFolder"]:
    """A new run of a recipe, or one to go on with; a run is never started afresh in silence."""
    from open_rs.recipe import load_recipe

    if resume is not None:
        if path is not None or out is not None:
            raise InputError("--resume takes the recipe of the run: give no recipe and no --out")
        run = existing_run(resume)
        return load_recipe(run.recipe), run
    if path is None:
        raise InputError("name a recipe to train, or a run to go on with by --resume")
    recipe, run = open_recipe(path, overrides, out)
    if run.metrics.exists():
        raise InputError(
            f"{run.path}: this run was started already; go on with open-rs train --resume "
            f"{run.path}, or give another name or --out"
        )
    return recipe, run


def run_stages(recipe: "Recipe", run: "RunFolder") -> None:
    """curate -> plan -> train -> evaluate -> report; what is there already is not done again."""
    from open_rs.evaluate.held_out import evaluate_run
    from open_rs.report import build_report

    curate_stage(recipe, run)
    say_plan(plan_stage(recipe, run))
    train_stage(recipe, run)
    evaluate_run(run)
    build_report(run)


def curate_stage(recipe: "Recipe", run: "RunFolder") -> dict[str, Any]:
    from open_rs.curate import curate as curate_problems
    from open_rs.runs import Ledger

    with Ledger(run.ledger).phase("curate"):
        return curate_problems(recipe, run.curated)


def plan_stage(recipe: "Recipe", run: "RunFolder") -> dict[str, Any]:
    from open_rs.plan.forecast import make_plan
    from open_rs.runs import Ledger, read_json

    if run.plan.exists():
        return read_json(run.plan)
    with Ledger(run.ledger).phase("plan"):
        return make_plan(recipe, run)


def train_stage(recipe: "Recipe", run: "RunFolder") -> None:
    from open_rs.train.loop import train as train_loop

    try:
        train_loop(recipe, run)
    except KeyboardInterrupt:
        stop(f"interrupted; go on with open-rs train --resume {run.path}", 130)


def say_plan(made: dict[str, Any]) -> None:
    from open_rs.console import say

    say(plan_text(made))


def finish(run: "RunFolder", as_json: bool) -> None:
    """The result of a pipeline: the verdict and where the report lies."""
    from open_rs.runs import read_json

    comparison = read_json(run.evaluation("comparison.json"))
    result = {"comparison": comparison, "report": str(run.report)}
    show(result, as_json, f"{comparison_text(comparison)}\nreport: {run.report}")


if __name__ == "__main__":
    main()
