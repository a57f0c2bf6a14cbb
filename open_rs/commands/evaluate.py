"""`open-rs evaluate`: scores with intervals."""

from pathlib import Path
from typing import Annotated, Any

import typer

from open_rs.commands.compare import comparison_text
from open_rs.commands.shared import Json, TakeOver, be_the_writer, existing_run, show
from open_rs.errors import InputError


def evaluate(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(help="a run, a checkpoint, a model folder or a hub id")
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", help="a known name such as aime24, or a .jsonl file; repeat"),
    ] = None,
    num_samples: Annotated[
        int | None, typer.Option("--num-samples", min=1, help="completions per problem (k)")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", help="native, vllm, vllm_server, or openai for an endpoint"),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", help="beam: search over steps, in place of single samples"),
    ] = None,
    recipe_path: Annotated[
        Path | None, typer.Option("--recipe", help="settings for a model that is not a run")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="a setting, as in evaluate.top_p=1; repeat")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder; with several benchmarks, one in it each")
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option("--max-hours", help="same as --set budget.hours=HOURS")
    ] = None,
    select: Annotated[
        bool, typer.Option("--select", help="score every checkpoint of a run on validation first")
    ] = False,
    regrade: Annotated[
        Path | None, typer.Option("--regrade", help="grade an evaluation's records anew")
    ] = None,
    take_over: TakeOver = False,
    as_json: Json = False,
) -> None:
    """A run: base against the selected checkpoint. A model or a checkpoint: benchmark scores.

    Without a recipe a model is scored by the paper's protocol: its prompt, temperature 0.6, top_p
    0.95, 32,768 tokens. A checkpoint is scored by the recipe of its run.
    """
    if regrade is not None:
        if target is not None or benchmark:
            raise InputError("--regrade takes an evaluation's folder and nothing else to evaluate")
        show_regraded(context, regrade, as_json)
        return
    if target is None:
        raise InputError("name a run, a checkpoint or a model to evaluate, or --regrade a folder")
    from open_rs.evaluate.target import engine_changes

    changes = engine_changes(engine, target)
    if search is not None:
        changes.append(f"evaluate.search.type={search}")
    changes += setting or []
    changes += [] if max_hours is None else [f"budget.hours={max_hours}"]
    if num_samples is not None:
        changes.append(f"evaluate.num_samples={num_samples}")
    is_run = (Path(target) / "recipe.json").is_file()
    if is_run and (recipe_path or out):
        raise InputError(
            "--recipe and --out: a run is scored by its own recipe into its own folder"
        )
    if select and not is_run:
        raise InputError(f"--select chooses among the checkpoints of a run, and {target} is none")
    if is_run:
        show_run(context, Path(target), benchmark or [], changes, select, as_json)
    else:
        show_target(context, target, benchmark or [], recipe_path, changes, out, as_json)


def show_run(
    context: typer.Context,
    path: Path,
    benchmarks: list[str],
    changes: list[str],
    select: bool,
    as_json: bool,
) -> None:
    from open_rs.evaluate.held_out import evaluate_run

    if not benchmarks and not all(one.startswith("budget.") for one in changes):
        raise InputError(
            "--num-samples, --engine, --search and --set go with --benchmark; on its own test set "
            "a run is scored by its own recipe"
        )
    run = existing_run(path)
    be_the_writer(context, run.path)
    found = evaluate_run(run, select=select, benchmarks=benchmarks, changes=changes)
    titles = [f"before: {one['before']}, after: {one['after']}\n" for one in found]
    blocks = [comparison_text(one) for one in found]
    if benchmarks:
        blocks = [title + block for title, block in zip(titles, blocks, strict=True)]
    text = "\n\n".join(blocks)
    if len(found) > 1:
        text += f"\n\nverdicts: {len(found)} comparisons as one family, "
        text += found[0]["family"]["method"]
    show(found if len(found) > 1 else found[0], as_json, text)


def show_target(
    context: typer.Context,
    target: str,
    benchmarks: list[str],
    recipe_path: Path | None,
    changes: list[str],
    out: Path | None,
    as_json: bool,
) -> None:
    from open_rs.budget import governed, limited
    from open_rs.evaluate.run import hourly_price
    from open_rs.evaluate.scoring import evaluate_target, open_benchmarks
    from open_rs.evaluate.target import open_target

    if not benchmarks:
        raise InputError(
            f"{target}: holds no recipe.json, so it is no run; for a model or a checkpoint give "
            "--benchmark"
        )
    opened = open_target(target, benchmarks, recipe_path, changes)
    sets = open_benchmarks(benchmarks)
    be_the_writer(context, opened.home if out is None else out)
    if opened.run is None or out is not None:
        with limited(opened.recipe):
            found = evaluate_target(opened, sets, out)
    else:
        with governed(opened.recipe, opened.run, "evaluate") as budget:
            budget.at_price(hourly_price(opened.recipe))
            found = evaluate_target(opened, sets, out, budget.ledger)
    show(found if len(found) > 1 else found[0], as_json, scores_text(found))


def show_regraded(context: typer.Context, folder: Path, as_json: bool) -> None:
    from open_rs.evaluate.records import read_summary
    from open_rs.evaluate.regrade import regrade

    read_summary(folder)  # of no evaluation, nothing is written there
    be_the_writer(context, folder)
    found = regrade(folder)
    show(found, as_json, regraded_text(found))


def scores_text(summaries: list[dict[str, Any]]) -> str:
    """A block for each benchmark: a line per score, with both intervals, and the shares that
    explain it.
    """
    blocks = []
    for summary in summaries:
        rows = [
            f"  {name:<8} {one['value']:.3f}  [{one['low']:.3f}, {one['high']:.3f}] over problems, "
            f"[{one['samples_low']:.3f}, {one['samples_high']:.3f}] over samples"
            for name, one in summary["scores"].items()
        ]
        first = summary["scores"]["pass@1"]
        usd = "" if summary["usd"] is None else f", ${summary['usd']:.2f}"
        blocks.append(
            "\n".join(
                [
                    f"{summary['name']}: {summary['model']}, n = {first['n']} problems, "
                    f"k = {first['k']} samples",
                    *rows,
                    f"  truncated {summary['truncated_frac']:.1%}, no answer "
                    f"{summary['no_answer_frac']:.1%}, not judged {summary['undecided_frac']:.1%}, "
                    f"letters of other scripts {summary['other_script_frac']:.1%}",
                    f"  {summary['mean_tokens']:.0f} tokens a completion, "
                    f"{summary['tokens_per_problem']:.0f} a problem, {summary['seconds']:.0f} s, "
                    f"{summary['tokens_per_s']:.0f} tokens/s{usd}",
                ]
            )
        )
    return "\n\n".join(blocks)


def regraded_text(found: dict[str, Any]) -> str:
    """Scores before and after, and which verdicts changed."""
    was, now = found["policies"]
    rows = [f"{found['name']}: {found['samples']} samples, policy {was} -> {now}"]
    for name, new in found["scores"]["after"].items():
        old = found["scores"]["before"].get(name)
        before = "-" if old is None else f"{old['value']:.3f}"
        rows.append(f"  {name:<8} {before} -> {new['value']:.3f}")
    rows += [f"  {count} x {change}" for change, count in found["changes"].items()]
    rows += [
        f"  {one['problem_id']}, sample {one['sample']}: {one['outcome'][0]} "
        f"({one['extracted'][0]!r}) -> {one['outcome'][1]} ({one['extracted'][1]!r})"
        for one in found["changed"]
    ]
    return "\n".join(rows if found["changes"] else [*rows, "  no verdict changed"])
