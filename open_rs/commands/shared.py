"""What the commands have in common: arguments, the folders that they open, how they end."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from open_rs.errors import InputError
from open_rs.text import shown

if TYPE_CHECKING:
    from open_rs.recipe import Recipe
    from open_rs.runs import RunFolder

RecipeArg = Annotated[Path, typer.Argument(help="a recipe (.toml), or a run's recipe.json")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="settings to change, as in train.num_steps=50")
]
Out = Annotated[Path | None, typer.Option("--out", help="run folder; default runs/NAME")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
TakeOver = Annotated[
    bool,
    typer.Option(
        "--take-over", help="the process of another host that the run folder names is gone"
    ),
]
RunArg = Annotated[Path, typer.Argument(help="a run folder")]


def stop(reason: object, status: int) -> NoReturn:
    print(f"open-rs: {shown(str(reason))}", file=sys.stderr)
    raise SystemExit(status)


def show(result: Any, as_json: bool, text: str) -> None:
    """A command's result on stdout."""
    print(json.dumps(result, indent=1, ensure_ascii=False) if as_json else text)


def open_folder(context: typer.Context, recipe: "Recipe", out: Path | None) -> "RunFolder":
    """The run folder of `recipe`, to write to until the command ends."""
    from open_rs.runs import open_run

    path = out or Path("runs") / recipe.name
    be_the_writer(context, path)
    return open_run(path, recipe)


def open_recipe(
    context: typer.Context, path: Path, overrides: list[str] | None, out: Path | None
) -> tuple["Recipe", "RunFolder"]:
    from open_rs.recipe import load_recipe

    recipe = load_recipe(path, overrides or [])
    return recipe, open_folder(context, recipe, out)


def is_one_of_many() -> bool:
    """Whether a launcher (torchrun, accelerate launch) has started several of this process."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def be_the_writer(context: typer.Context, folder: Path) -> None:
    """Keep other writers out of `folder` until the command ends; `--take-over` is the command's."""
    from open_rs.lock import lock_folder

    context.with_resource(lock_folder(folder, take_over=context.params.get("take_over", False)))


def existing_run(path: Path) -> "RunFolder":
    from open_rs.runs import RunFolder

    run = RunFolder(path)
    if not run.recipe.is_file():
        raise InputError(
            f"{path}: holds no recipe.json, so it is no run folder; for a model give --benchmark"
        )
    return run
