"""What the sentinel decided in a run: roll-backs, pauses and stops, in decisions.json.

Metrics cannot tell them (a roll-back takes its metrics with it), and the rest of the run depends on
them. So the file holds its own checksum and has a copy, `.decisions.json`; that there were any is
also told by events.jsonl and rolled_back/. A decision is a row

    {"action": "roll_back" | "pause" | "stop", "from_step", "to_step", "detector", "cause"}

`from_step` is that of the alarm, `to_step` the one after which the run then stands. A roll-back has
"changes", "folder" (the number of what it took away) and "done" besides. No torch.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.recipe import Recipe
from open_rs.runs import RunFolder, json_object, log_lines, read_json, write_json

Decision = dict[str, Any]
FORGOTTEN = {"action": "forgotten"}  # in the place of one that is lost, once that is accepted


def read_decisions(run: RunFolder, *, accept_changes: bool = False) -> list[Decision]:
    """The run's decisions, oldest first, as a start takes them.

    Where the file is gone or damaged its copy counts, which is said. Without that one, a run of
    which decisions are told is refused: it would go on with other settings than it had.
    """
    held, copy = intact(run.decisions), intact(copy_of(run))
    found = max(held or [], copy or [], key=len)
    lost = max(told(run) - len(found), 0)
    unreadable = held is None and copy is None and run.decisions.exists()
    if (lost or unreadable) and not accept_changes:
        state = "is damaged" if run.decisions.exists() else "is gone"
        raise InputError(
            f"{run.decisions}: {state}, and with it what was changed when the sentinel rolled the "
            "run back or ended it; put it back, or go on without that by --accept-changes"
        )
    if lost or unreadable:
        say(f"{run.decisions.name} is not there as it was: what the sentinel had decided is left")
        found += [FORGOTTEN] * lost
        write_decisions(run, found)
    elif held != copy:
        if held != found:
            say(f"{run.decisions.name} was gone or damaged and is taken from its copy")
        write_decisions(run, found)
    return found


def held_decisions(run: RunFolder) -> list[Decision]:
    """What can be read of them; `read_decisions` has seen to it at a start."""
    return intact(run.decisions) or intact(copy_of(run)) or []


def write_decisions(run: RunFolder, decisions: Sequence[Decision]) -> None:
    """Both files, each whole or as it was."""
    rows = list(decisions)
    for path in (run.decisions, copy_of(run)):
        write_json(path, {"sha256": checksum(rows), "decisions": rows})


def copy_of(run: RunFolder) -> Path:
    return run.decisions.with_name(f".{run.decisions.name}")


def checksum(rows: Sequence[Decision]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode("utf-8")).hexdigest()


def intact(path: Path) -> list[Decision] | None:
    """The decisions that a file holds; None where it is missing or not as it was written."""
    try:
        held = read_json(path)
        rows: list[Decision] = held["decisions"]
        return rows if held["sha256"] == checksum(rows) else None
    except (InputError, KeyError, TypeError):
        return None


def told(run: RunFolder) -> int:
    """How many decisions there must be at least, by events.jsonl and rolled_back/."""
    events = [row for line in log_lines(run.events) if (row := json_object(line)) is not None]
    noted = [
        row
        for row in events
        if row.get("event") == "roll_back"
        or (row.get("event") == "stop" and row.get("reason") == "alarm")
    ]
    return max(len(noted), last_folder(run))


def last_folder(run: RunFolder) -> int:
    """The highest number of a folder that a roll-back has filled."""
    names = [path.name for path in run.rolled_back(0).parent.glob("*") if path.is_dir()]
    return max((int(name) for name in names if name.isdigit()), default=0)


# --- what follows from them ---


def roll_backs(decisions: Iterable[Decision]) -> list[Decision]:
    return [one for one in decisions if one["action"] == "roll_back"]


def answered(decisions: Iterable[Decision]) -> set[tuple[str, int]]:
    """(detector, step) of the alarms after which the run was ended, and resumed by its user. A
    roll-back to before them makes those steps anew, so that an alarm there is another one.
    """
    seen: set[tuple[str, int]] = set()
    for one in decisions:
        if one["action"] == "roll_back":
            seen = {(name, step) for name, step in seen if step <= one["to_step"]}
        elif one["action"] in ("pause", "stop"):
            seen.add((one["detector"], one["from_step"]))
    return seen


def ending(run: RunFolder, recipe: Recipe, decisions: Sequence[Decision]) -> Decision | None:
    """The decision that ended the training for good, while the recipe still asks for it and the
    run has not gone beyond it.
    """
    last = decisions[-1] if decisions else FORGOTTEN
    if last["action"] != "stop" or recipe.sentinel.action_for(last["detector"]) != "stop":
        return None
    rows = [json_object(line) or {} for line in log_lines(run.metrics)]
    beyond = any(row.get("step", 0) > last["to_step"] for row in rows)
    return None if beyond else last


def to_go_on(run: RunFolder, recipe: Recipe, detector: str) -> str:
    """The command that goes on whatever this detector says."""
    own = detector in recipe.sentinel.actions
    key = f"sentinel.actions.{detector}" if own else "sentinel.action"
    return f"open-rs train --resume {run.path} {key}=warn"


def told_end(run: RunFolder, recipe: Recipe, end: Decision) -> str:
    """Why a training that the sentinel has ended is not gone on with, and how it can be."""
    return (
        f"sentinel: {end['cause']}; this ended the training after step {end['to_step']}; look at "
        f"its rollouts, then score it by open-rs evaluate {run.path}, or go on all the same by "
        f"{to_go_on(run, recipe, end['detector'])}"
    )
