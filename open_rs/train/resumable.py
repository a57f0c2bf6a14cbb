"""Whether a folder holds a run to go on with, and its recipe; what is wrong where it does not."""

from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from open_rs import __version__
from open_rs.console import say
from open_rs.errors import InputError
from open_rs.recipe import recipe_from_dict
from open_rs.runs import RunFolder, read_json, write_json
from open_rs.train.checkpoint import checkpoint_steps, damage

NAMED = 3  # files or runs that a sentence lists


def run_to_resume(path: Path) -> RunFolder:
    """The run in a folder; where there is none, InputError before anything is written there."""
    run = RunFolder(path)
    if not path.exists():
        raise InputError(f"{path}: no such folder; name that of the run, as in runs/NAME")
    if not path.is_dir():
        raise InputError(f"{path}: is a file; name the folder of the run, as in runs/NAME")
    if run.recipe.exists() or checkpoint_steps(run):
        return run
    if is_started(run):
        raise InputError(
            f"{run.recipe}: is gone, and no checkpoint holds the recipe; put it back, or start "
            "from your recipe in another folder, by --out"
        )
    found = sorted(one.name for one in path.iterdir())
    if not found:
        raise InputError(
            f"{path}: is empty, so there is nothing to go on with; start a run there by open-rs "
            f"train RECIPE --out {path}"
        )
    runs = [name for name in found if RunFolder(path / name).recipe.is_file()]
    inside = [str(one) for one in path.absolute().parents[:2] if RunFolder(one).recipe.is_file()]
    if runs or inside:
        raise InputError(f"{path}: is no run itself; did you mean {listed(inside or runs, path)}?")
    raise InputError(
        f"{path}: holds nothing of a run of open-rs (but {listed(found)}); name the folder of the "
        "run, as in runs/NAME"
    )


def is_started(run: RunFolder) -> bool:
    """Whether a training has left anything there."""
    return any(one.exists() for one in (run.metrics, run.events, run.checkpoints, run.decisions))


def listed(names: list[str], path: Path = Path()) -> str:
    """The first of these names, below `path`."""
    shown = ", ".join(str(path / name) for name in names[:NAMED])
    return shown + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def held_recipe(run: RunFolder) -> dict[str, Any]:
    """The settings of the run as they were written; from the newest intact checkpoint, and said,
    where recipe.json is gone or not JSON. InputError where they are of another version, or of
    something else.
    """
    try:
        held = read_json(run.recipe)
    except InputError as error:
        held = recipe_of_checkpoint(run, error)
    try:
        recipe_from_dict(held, where="its settings")
    except InputError as error:
        raise unreadable(run, error) from None
    if not is_started(run):
        say(f"{run.path}: no step was made there yet; the training starts now")
    return dict(held)


def recipe_of_checkpoint(run: RunFolder, error: InputError) -> Any:
    for step in checkpoint_steps(run):
        if damage(run.checkpoint(step)) is None:
            held = read_json(run.checkpoint(step) / "trainer" / "origin.json")["recipe"]
            say(f"the recipe is taken from checkpoint {step:06d}: {error}")
            write_json(run.recipe, held)
            return held
    raise InputError(
        f"{error}; no intact checkpoint holds the recipe either: put it back, or start from your "
        "recipe in another folder, by --out"
    )


def unreadable(run: RunFolder, error: InputError) -> InputError:
    """What a recipe.json that this version cannot read is: that of a later one, of something else,
    or changed by hand.
    """
    written_by = version_of(run)
    if written_by is not None and is_later(written_by):
        return InputError(
            f"{run.recipe}: open-rs {written_by} wrote it, and this is {__version__} ({error}); go "
            "on with that version"
        )
    if written_by is None and not run.metrics.exists():
        return InputError(
            f"{run.recipe}: is no recipe of a run of open-rs ({error}); name the folder of the "
            "run, as in runs/NAME"
        )
    return InputError(
        f"{run.recipe}: was changed by hand, or by another version of open-rs ({error}); put it "
        "back (the newest checkpoint's trainer/origin.json holds it), or go on with that version"
    )


def version_of(run: RunFolder) -> str | None:
    """The version of open-rs that started the run, as far as it is told."""
    origins = [run.checkpoint(step) / "trainer" / "origin.json" for step in checkpoint_steps(run)]
    for path in (run.environment, *origins):
        try:
            return str(read_json(path)["packages"]["open-rs"])
        except (InputError, KeyError, TypeError):
            continue
    return None


def is_later(version: str) -> bool:
    try:
        return Version(version) > Version(__version__)
    except InvalidVersion:
        return False
