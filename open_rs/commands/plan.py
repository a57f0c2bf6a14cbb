"""`open-rs plan`: what a recipe will cost, and what looks wrong beforehand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from open_rs.commands.shared import Json, Out, Overrides, TakeOver, open_folder, show
from open_rs.errors import InputError

if TYPE_CHECKING:
    from open_rs.recipe import Recipe
    from open_rs.recipe.importing import Note
    from open_rs.runs import RunFolder

GIB = 2**30
PARTS_TOLD = 0.01  # of the peak: smaller parts of memory are not told on the terminal


def plan(
    context: typer.Context,
    recipe_path: Annotated[
        Path, typer.Argument(help="a recipe (.toml), a run's recipe.json, or a YAML of TRL's")
    ],
    overrides: Overrides = None,
    out: Out = None,
    device: Annotated[
        str | None, typer.Option("--device", help='for a device that is not here, such as "A40"')
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="devices that share the work")] = 1,
    rollout_gpus: Annotated[
        int, typer.Option("--rollout-gpus", min=0, help="of the GPUs, those that only generate")
    ] = 0,
    split: Annotated[
        int, typer.Option("--split", min=1, help="GPUs that share an engine (tensor parallel)")
    ] = 1,
    one_step_off: Annotated[
        bool,
        typer.Option("--one-step-off", help="GPUs that only generate do so while others train"),
    ] = False,
    mean_tokens: Annotated[
        float | None,
        typer.Option("--mean-tokens", min=1, help="of completions, where it is known better"),
    ] = None,
    probe_seconds: Annotated[
        float | None,
        typer.Option("--probe-seconds", min=1, help="of sampling; the more, the surer"),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="fetch the model and the data that are not here")
    ] = False,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="of a YAML: training processes there")
    ] = 1,
    take_over: TakeOver = False,
    as_json: Json = False,
) -> None:
    """What a recipe will cost, and what looks wrong in it. Nothing is trained.

    Steps, tokens, hours with a range, dollars and memory, from a probe of this machine of a few
    seconds, or for another device from its data sheet; then the findings, each with its cure. The
    exit status is 1 where a finding is an error.
    """
    from open_rs.plan.devices import named_device
    from open_rs.plan.forecast import make_plan
    from open_rs.plan.gather import Wish

    recipe, notes = recipe_and_notes(recipe_path, overrides or [], processes)
    wish = Wish(
        device=None if device is None else named_device(device),
        gpus=gpus,
        rollout_gpus=rollout_gpus,
        split=split,
        overlapped=one_step_off,
        mean_tokens=mean_tokens,
        probe_seconds=probe_seconds,
        download=download,
        imported=tuple((note.kind, note.key, note.text) for note in notes),
    )
    made = make_plan(recipe, open_folder(context, recipe, out), wish)
    show(made, as_json, plan_text(made))
    if any(one["severity"] == "error" for one in made["findings"]):
        raise SystemExit(1)


def recipe_and_notes(
    path: Path, overrides: list[str], processes: int
) -> tuple["Recipe", list["Note"]]:
    """The recipe, and what its import noted: of a YAML now, of a recipe that was imported then."""
    from open_rs.recipe import load_recipe, override, recipe_from_dict
    from open_rs.recipe.importing import import_recipe, read_notes

    if path.suffix in (".yaml", ".yml"):
        made = import_recipe(path, processes=processes)
        settings = override(made.settings, overrides)
        return recipe_from_dict(settings, where=str(path)), made.notes
    if processes != 1:
        raise InputError("--processes: a recipe says its batch itself; leave it out")
    return load_recipe(path, overrides), read_notes(path)


def plan_stage(recipe: "Recipe", run: "RunFolder", gpus: int = 1) -> dict[str, Any]:
    """The plan of a run that is about to train on so many devices; one that is there is read."""
    from open_rs.budget import governed
    from open_rs.interrupt import poll
    from open_rs.plan.forecast import make_plan
    from open_rs.plan.gather import Wish
    from open_rs.runs import read_json

    if run.plan.exists():
        return read_json(run.plan)
    with governed(recipe, run, "plan") as budget, budget.ledger.phase("plan"):
        poll()
        return make_plan(recipe, run, Wish(gpus=gpus, download=True))


def say_plan(made: dict[str, Any]) -> None:
    from open_rs.console import say

    say(plan_text(made))


def plan_text(made: dict[str, Any]) -> str:
    """The plan for a person: counts, time, memory, findings."""
    rows = [counts_text(made), lengths_text(made["lengths"])]
    rows += [text for text in (time_text(made), memory_text(made)) if text]
    return "\n".join([*rows, *finding_lines(made["findings"])])


def counts_text(made: dict[str, Any]) -> str:
    problems, epochs = made["problems"], made["epochs"]
    of = "" if problems is None else f", {epochs:.2g} epochs of {problems:,} problems"
    saves = made["checkpoints"]
    first = saves[0]
    return (
        f"plan: {made['steps']} steps, {made['completions']:,} completions in training and "
        f"{made['evaluation_completions']:,} in evaluation{of}\n"
        f"  checkpoints: {len(saves)}, the first at step {first['step']} after "
        f"{first['completions']:,} completions"
    )


def lengths_text(lengths: dict[str, Any]) -> str:
    spread = f", half of them up to {lengths['p50']}" if "p50" in lengths else ""
    cut = lengths["truncated_frac"]
    cut_text = "" if cut is None else f", {cut:.0%} reach the cap"
    return (
        f"  completions: {lengths['mean']:.0f} tokens on average, between {lengths['low']:.0f} and "
        f"{lengths['high']:.0f}{spread}{cut_text} (from {lengths['source']})"
    )


def time_text(made: dict[str, Any]) -> str | None:
    if "seconds" not in made:
        return "  time and memory: not known, see below" if "memory_bytes" not in made else None
    seconds, (low, high) = made["seconds"], made["seconds_range"]
    parts = ", ".join(
        f"{name} {span(value)}" for name, value in seconds.items() if name != "total" and value
    )
    usd = ""
    if made["usd_per_hour"] is not None:
        dollars = seconds["total"] / 3600 * made["usd_per_hour"]
        usd = f", ${dollars:.2f} (${made['usd_range'][0]:.2f} to ${made['usd_range'][1]:.2f})"
    device = made["device"]
    on = f"{device['gpus']} x {device['name']}" if device["gpus"] > 1 else device["name"]
    return (
        f"  time on {on}: {span(seconds['total'])}, between {span(low)} and {span(high)}{usd}: "
        f"{parts}; {made['step_seconds']:.3g} s a step; about {made['completion_tokens']:,} tokens"
    )


def span(seconds: float) -> str:
    """A duration in the unit that suits it."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def memory_text(made: dict[str, Any]) -> str | None:
    if "memory_bytes" not in made:
        return None
    memory, of = made["memory_bytes"], made["device"]["memory_bytes"]
    told = {
        name: size
        for name, size in memory.items()
        if name != "total" and size > PARTS_TOLD * memory["total"]
    }
    parts = ", ".join(f"{name.replace('_', ' ')} {size / GIB:.2f}" for name, size in told.items())
    there = "" if of is None else f" of {of / GIB:.0f}"
    return (
        f"  memory: {memory['total'] / GIB:.2f} GiB{there} at the peak, "
        f"{made['memory_at_cap'] / GIB:.2f} if every completion ran to its cap ({parts})"
    )


def finding_lines(findings: list[dict[str, str]]) -> list[str]:
    """Severity, what is wrong and, on a line of its own, the cure."""
    rows = []
    for one in findings:
        rows += [f"  {one['severity']}: {one['key']}: {one['sentence']}", f"    -> {one['cure']}"]
    return rows
