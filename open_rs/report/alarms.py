"""The sentinel's alarms, each with the rollouts that are its evidence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from open_rs.report.format import count, cut, number
from open_rs.report.load import Row, RunData
from open_rs.report.rollouts import num_tokens, read_rows
from open_rs.text import visible

SHOWN = 50  # alarms; a run that has more has told enough
EXCERPT = 4_000  # characters of a completion
PROBLEM = 400  # of its problem

Named = tuple[str, Any, Any]  # a rollout of an alarm: problem id, sample, tokens


def alarms(data: RunData) -> Row | None:
    """The alarms by step, and how many are left out; None without any. One that was raised again,
    as steps were done again after a stop, counts once.
    """
    seen: dict[tuple[Any, ...], Row] = {}
    for row in data.events:
        if row["event"] == "alarm" and isinstance(row.get("step"), int):
            named = tuple(name_of(one) for one in row.get("rollouts") or ())
            seen.setdefault((row["step"], str(row.get("detector")), named), row)
    if not seen:
        return None
    ordered = sorted(seen.items(), key=lambda item: item[0][0])
    texts = dict[Path, dict[Named, Row]]()
    rows = [one_alarm(data, row, named, texts) for (_, _, named), row in ordered[:SHOWN]]
    return {"rows": rows, "more": count(len(ordered) - SHOWN) if len(ordered) > SHOWN else None}


def name_of(evidence: Row) -> Named:
    return str(evidence.get("problem_id")), evidence.get("sample"), evidence.get("num_tokens")


def one_alarm(
    data: RunData, row: Row, named: tuple[Named, ...], texts: dict[Path, dict[Named, Row]]
) -> Row:
    """An alarm for the template. Its rollouts are those of its step, or, where the run was rolled
    back since, those that were taken away: in whichever file all that it names stand.
    """
    step = batch_of(data, row["step"])
    where, found = None, list[Row]()
    for path in files_of(data, step) if named else ():
        if path not in texts:
            texts[path] = by_name(data, path)
        if all(one in texts[path] for one in named):
            where, found = path, [texts[path][one] for one in named]
            break
    return {
        "step": count(row["step"]),
        "detector": str(row.get("detector") or "–"),
        "sentence": str(row.get("sentence") or "").removeprefix(
            f"{row.get('detector')} at step {row['step']}: "
        ),
        "action": str(row.get("action") or "").replace("_", " "),
        "named": [f"{problem}, sample {sample}" for problem, sample, _ in named],
        "where": where and str(where.relative_to(data.run.path)),
        "to_step": step if where == data.run.rollouts(step) else None,  # the page's own browser
        "rollouts": found,
    }


def batch_of(data: RunData, step: int) -> int:
    """The step under which the rollouts of a step lie: several updates may share a batch."""
    updates = int(data.recipe.get("train", {}).get("updates_per_batch") or 1)
    return step - (step - 1) % updates


def files_of(data: RunData, step: int) -> Iterator[Path]:
    """The rollouts of a step, as they are and as roll-backs took them away."""
    path = data.run.rollouts(step)
    name = path.relative_to(data.run.path)
    taken = sorted(data.run.rolled_back(0).parent.glob("*"))
    yield from (one for one in (path, *(folder / name for folder in taken)) if one.is_file())


def by_name(data: RunData, path: Path) -> dict[Named, Row]:
    """The rollouts of a file for the template. What is wrong with it `rollouts_of` has told."""
    held = {}
    for row, arrays in read_rows(RunData(data.run), path):
        tokens = num_tokens(row, arrays)
        problem = visible(str(row.get("problem_id")))
        outcome = visible(str(row.get("outcome") or "no outcome"))
        reward = row.get("reward")
        earned = number(reward) if isinstance(reward, int | float) else "none"
        held[problem, row.get("sample"), tokens] = {
            "title": f"{problem}, sample {row.get('sample')}: reward {earned}, {count(tokens)} "
            f"tokens, {outcome.replace('_', ' ')}",
            "problem": visible(cut(str(row.get("problem") or ""), PROBLEM)),
            "text": visible(cut(str(row.get("completion") or ""), EXCERPT)),
        }
    return held
