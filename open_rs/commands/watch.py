"""`open-rs watch`."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from open_rs.commands.shared import Json, RunArg, existing_run, show

if TYPE_CHECKING:
    from open_rs.live import RunView


def watch(
    run_path: RunArg,
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="seconds between two looks")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="look once and end")] = False,
    as_json: Json = False,
) -> None:
    """Follow a run from its files, on another terminal or machine, until it ends.

    Reads only, so any number may watch. With --json one look as JSON. Ctrl-C ends it.
    """
    from open_rs.live import LiveView, RunView

    run = existing_run(run_path)
    if as_json:
        view = RunView(run)
        view.refresh()
        show(standing(view), True, "")
        return
    with LiveView(run, with_notes=True) as live:
        live.show()
        while not (once or live.view.ended):
            time.sleep(every)
            live.show()


def standing(view: "RunView") -> dict[str, Any]:
    """What the panel shows, for a machine."""
    return {
        "name": view.name,
        "step": view.step,
        "num_steps": view.num_steps,
        "state": view.state(),
        "seconds_left": view.seconds_left(),
        "metrics": view.metrics,
        "scores": {str(step): list(score) for step, score in view.scores.items()},
        "notes": view.notes,
    }
