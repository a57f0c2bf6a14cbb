"""`open-rs curate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from open_rs.commands.shared import Json, Overrides, TakeOver, be_the_writer, open_folder, show
from open_rs.errors import InputError
from open_rs.machine import cpus

if TYPE_CHECKING:
    from open_rs.recipe import Recipe
    from open_rs.runs import RunFolder

Row = dict[str, Any]


def curate(
    context: typer.Context,
    recipe_path: Annotated[
        Path | None, typer.Argument(help="a recipe (.toml), or a run's recipe.json")
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder of the set; default runs/NAME/curated")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="processes; default one per CPU")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="do part K of N, as in 3/16; then --merge")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="put the parts of all shards together")] = (
        False
    ),
    explain: Annotated[
        str | None, typer.Option("--explain", help="the story of the row with this id in --out")
    ] = None,
    diff: Annotated[
        tuple[Path, Path] | None, typer.Option("--diff", help="compare two curated sets")
    ] = None,
    take_over: TakeOver = False,
    as_json: Json = False,
) -> None:
    """Raw rows in, a training set out, with a reason for every row that was dropped."""
    if diff is not None:
        show_diff(diff, as_json)
        return
    if explain is not None:
        show_story(explain, out, as_json)
        return
    if recipe_path is None:
        raise InputError("name a recipe to curate by, or a set to look at by --explain or --diff")
    from open_rs.recipe import load_recipe

    recipe = load_recipe(recipe_path, overrides or [])
    if (shard is not None or merge) and out is None:
        raise InputError("shards meet in a folder: name it by --out")
    workers = workers or cpus()
    if out is None:
        run = open_folder(context, recipe, None)
        made, folder = curate_stage(recipe, run, workers), run.curated
    else:
        made, folder = curate_folder(context, recipe, out, workers, shard, merge), out
    show(made, as_json, funnel_text(made, folder) if "funnel" in made else progress_text(made))


def curate_stage(recipe: "Recipe", run: "RunFolder", workers: int | None = None) -> Row:
    """Curation as a stage of a run."""
    from open_rs.budget import governed
    from open_rs.curate import curate as curate_problems

    with (
        governed(recipe, run, "curate") as budget,
        budget.ledger.phase("curate") as figures,
    ):
        return curate_problems(recipe, run.curated, workers=workers or cpus(), figures=figures)


def curate_folder(
    context: typer.Context,
    recipe: "Recipe",
    folder: Path,
    workers: int,
    shard: str | None,
    merge: bool,
) -> Row:
    """A set in a folder of its own, or a shard's part of it."""
    from open_rs.budget import limited
    from open_rs.curate import curate as curate_problems
    from open_rs.curate import curate_shard, merge_shards
    from open_rs.runs import Ledger

    if shard is not None:
        part = shard_of(shard)
        ledger = Ledger(folder / f"ledger-{part[0]}-of-{part[1]}.jsonl")
        with limited(recipe), ledger.phase("curate") as figures:
            return curate_shard(recipe, folder, part, workers=workers, figures=figures)
    be_the_writer(context, folder)
    with limited(recipe), Ledger(folder / "ledger.jsonl").phase("curate") as figures:
        if merge:
            return merge_shards(recipe, folder)
        return curate_problems(recipe, folder, workers=workers, figures=figures)


def shard_of(text: str) -> tuple[int, int]:
    """The number of a shard and how many there are."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"--shard {text}: write it as K/N with K from 1 to N, such as 3/16")
    return int(number), int(count)


def progress_text(made: Row) -> str:
    return f"curate: round {made['round']} of {made['rounds']}: {made['next']}"


def show_story(id_: str, out: Path | None, as_json: bool) -> None:
    from open_rs.curate.inspect import explain, story

    if out is None:
        raise InputError("--explain needs the folder of the set: name it by --out")
    rows = explain(out, id_)
    show(rows, as_json, "\n".join(map(story, rows)))


def show_diff(folders: tuple[Path, Path], as_json: bool) -> None:
    from open_rs.curate.inspect import diff, diff_text

    made = diff(*folders)
    show(made, as_json, diff_text(made))


def funnel_text(summary: Row, folder: Path) -> str:
    from open_rs.curate.funnel import expectation_text

    expected = summary["expected"]
    rows = [f"curate: {summary['input']} rows"]
    rows += [
        f"  {label}: {summary['sources'][label]} rows"
        + expectation_text(summary["sources"][label], count)
        for label, count in expected["sources"].items()
    ]
    rows += [
        f"  {one['filter']:<18} -{one['dropped']:<5} {one['kept']} left"
        + expectation_text(one["kept"], one["expected"])
        for one in summary["funnel"]
    ]
    kept = summary["kept"]
    rows.append(f"  {kept} problems in {folder}" + expectation_text(kept, expected["kept"]))
    return "\n".join(rows)
