"""`open-rs evaluate`: scores with intervals, and what they allow to say."""

from pathlib import Path
from typing import Annotated, Any

import typer

from open_rs.commands.compare import comparison_text
from open_rs.commands.shared import Json, be_the_writer, existing_run, show
from open_rs.errors import InputError


def evaluate(
    context: typer.Context,
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
        be_the_writer(context, run.path)
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
    be_the_writer(context, out)
    summary = evaluate_benchmark(recipe, target, benchmark, out)
    show(summary, as_json, scores_text(summary))


def scores_text(summary: dict[str, Any]) -> str:
    """A line per score, with its interval, and the shares that explain it."""
    rows = [
        f"{name:<8} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        for name, one in summary["scores"].items()
    ]
    first = summary["scores"]["pass@1"]
    rows.append(
        f"n = {first['n']}, k = {first['k']}, truncated {summary['truncated_frac']:.1%}, no answer "
        f"{summary['no_answer_frac']:.1%}, {summary['mean_tokens']:.0f} tokens a completion"
    )
    return "\n".join(rows)
