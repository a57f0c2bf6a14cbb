"""`open-rs import`: a GRPO recipe of TRL, open-r1 or Open-RS as one of ours."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from open_rs.commands.shared import Json, show
from open_rs.errors import InputError

if TYPE_CHECKING:
    from open_rs.recipe.importing import Imported


def import_recipe(
    source: Annotated[Path, typer.Argument(help="a YAML recipe of open-r1, Open-RS or TRL")],
    out: Annotated[Path, typer.Option("--out", help="the recipe to write (.toml)")],
    processes: Annotated[
        int, typer.Option(min=1, help="training processes there, which multiply the batch")
    ] = 1,
    trl: Annotated[
        Literal["0.15", "1.x"] | None,
        typer.Option(help="whose defaults fill what the file leaves out; guessed by its keys"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Another trainer's recipe as one of ours: what carries over, what does not, what was wrong."""
    from open_rs.recipe import recipe_from_dict
    from open_rs.recipe.importing import import_recipe as read_theirs
    from open_rs.recipe.importing import recipe_text
    from open_rs.runs import write_text

    if out.exists():
        raise InputError(f"{out}: exists; give another name")
    made = read_theirs(source, processes=processes, trl=trl)
    recipe_from_dict(made.settings, where=str(source))
    write_text(out, recipe_text(made, source.name))
    notes = [asdict(note) for note in made.notes]
    show({"recipe": str(out), "notes": notes}, as_json, notes_text(made, out))


def notes_text(made: "Imported", out: Path) -> str:
    """The notes by kind, then where the recipe lies."""
    kinds = list(dict.fromkeys(note.kind for note in made.notes))
    rows = []
    for kind in kinds:
        rows.append(f"{kind}:")
        rows += [f"  {note.key}: {note.text}" for note in made.notes if note.kind == kind]
    return "\n".join([*rows, f"written to {out}; next: open-rs plan {out}"])
