"""`open-rs init`."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from open_rs.commands.shared import Json, show


def init(
    folder: Annotated[Path, typer.Argument(help="a folder, made if it is not there")],
    problems: Annotated[
        Path | None,
        typer.Option("--problems", help="your problems and answers: .csv, .jsonl, .parquet"),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="a model folder or a hub id; tiny ships with open-rs")
    ] = "tiny",
    name: Annotated[str | None, typer.Option("--name", help="of the run")] = None,
    as_json: Json = False,
) -> None:
    """A recipe, a reward and a problem file to start from; nothing is overwritten."""
    from open_rs.starter import make_starter

    paths = make_starter(folder, name=name, model=model, problems=problems)
    listed = "\n".join(f"  {path}" for path in paths)
    text = f"written:\n{listed}\nnext: cd {quote(str(folder))} && open-rs plan recipe.toml"
    show({"written": [str(path) for path in paths]}, as_json, text)
