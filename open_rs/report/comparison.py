"""Several runs on one page: the first one is what the others are held against."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from open_rs.errors import InputError
from open_rs.evaluate.compare import compare_all
from open_rs.report import tables, verdict
from open_rs.report.costs import RunCost, run_cost
from open_rs.report.curves import overlaid
from open_rs.report.distributions import distributions
from open_rs.report.format import count, cut, dollars, duration, number, percent
from open_rs.report.load import Row, RunData
from open_rs.report.rollouts import Rollouts
from open_rs.runs import read_json
from open_rs.text import visible

MAX_REASON = 400  # characters of why there is no verdict
PartOf = Callable[[RunData, str, Callable[[RunData], Any], Any], Any]


def parts(
    runs: Sequence[RunData],
    names: Sequence[str],
    rollouts: Sequence[Rollouts | None],
    part_of: PartOf,
) -> Row:
    """Everything that the template of a comparison shows."""

    def each(name: str, build: Callable[[RunData], Any], instead: Any) -> list[Any]:
        return [part_of(data, name, build, instead) for data in runs]

    states = each("status", verdict.status, {"kind": "unsure", "text": "state unknown"})
    return {
        "runs": [
            {"name": name, "color": place % 6, "status": state}
            for place, (name, state) in enumerate(zip(names, states, strict=True))
        ],
        "facts": facts_table(each("facts", verdict.facts, [])),
        "verdicts": verdicts(runs, names),
        "scores": scores(names, each("scores", verdict.score_table, None)),
        "cautions": cautions(len(runs)),
        "curves": overlaid(runs, names),
        "heats": [
            one | {"id": f"{one['id']}-{place}", "title": f"{name}: {one['title']}"}
            for place, (name, data) in enumerate(zip(names, runs, strict=True))
            for one in part_of(data, "distributions", _spread(rollouts[place]), [])
        ],
        "rollout_rules": [
            f"{name}: {one.rule}" for name, one in zip(names, rollouts, strict=True) if one
        ],
        "funnels": [
            {"run": name, "funnel": one}
            for name, one in zip(names, each("curation", tables.funnel, None), strict=True)
        ],
        "costs": costs(each("ledger", run_cost, None)),
        "environment": differing([dict(tables.environment(data)) for data in runs]),
        "harness": differing([harness(data) for data in runs]),
        "recipe": differing([tables.settings(data.recipe) for data in runs]),
    }


def _spread(rollouts: Rollouts | None) -> Callable[[RunData], list[Row]]:
    return lambda data: distributions(data, rollouts)


def names_of(runs: Sequence[RunData]) -> list[str]:
    """A name for each: its folder's, with the folder above where two are alike, numbered where that
    does not tell them apart either.
    """
    paths = [data.run.path.resolve() for data in runs]
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.name}" for path in paths]
    times = Counter(names)
    return [
        visible(f"{name} ({place})" if times[name] > 1 else name)
        for place, name in enumerate(names, start=1)
    ]


def compared(data: RunData) -> Path | None:
    """The evaluation that stands for a run: the one that its own comparison calls "after", else the
    test of the chosen checkpoint, else the test of the latest one.
    """
    tests = [name for name in data.evaluations if name.startswith("test-")]
    chosen = f"test-{data.selected_step:06d}" if data.selected_step is not None else ""
    for name in (data.comparison.get("after"), chosen, max(tests, default=None)):
        if name in tests:
            return data.run.evaluation(str(name))
    return None


def verdicts(runs: Sequence[RunData], names: Sequence[str]) -> list[Row]:
    """The evaluate room's paired comparison of every run with the first, all of them judged as one
    family; a sentence where two runs cannot be compared.
    """
    base, *others = [compared(data) for data in runs]
    if base is None:
        return [_absent(f"{names[0]} has no test score that the others could be held against.")]
    found: list[Row] = []
    comparable: list[tuple[int, Path]] = []
    for place, path in enumerate(others, start=1):
        reason = "it has no test score." if path is None else refusal(base, path)
        if path is None or reason is not None:
            found.append(_absent(f"{names[place]} against {names[0]}: {reason}"))
        else:
            comparable.append((place, path))
    if not comparable:
        return found
    family = compare_all([base, *(path for _, path in comparable)])
    cards = [
        {"card": _card(runs, names, place, path, base, one), "absent": ""}
        for (place, path), one in zip(comparable, family["comparisons"], strict=True)
    ]
    return cards + found


def refusal(base: Path, path: Path) -> str | None:
    """Why two evaluations are not comparable; None where they are."""
    sets = [evaluated_problems(one) for one in (base, path)]
    if None not in sets and sets[0] != sets[1]:
        return "they were tested on different problems."
    try:
        compare_all([base, path])
    except (InputError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as why:
        return visible(cut(str(why), MAX_REASON))
    return None


def evaluated_problems(evaluation: Path) -> Any:
    """What an evaluation's own fingerprint says of its problems: the hash of all of them."""
    try:
        return read_json(evaluation / "summary.json")["fingerprint"]["problems"]
    except (InputError, LookupError, TypeError):
        return None


def _card(
    runs: Sequence[RunData],
    names: Sequence[str],
    place: int,
    path: Path,
    base: Path,
    found: Row,
) -> Row:
    scores = (found["scores"][side]["pass@1"]["value"] for side in ("before", "after"))
    first, other = (percent(value) for value in scores)
    sentence = f"Test pass@1 is {other} in {names[place]} and {first} in {names[0]}."
    rates = (
        verdict.pass_rates(runs[0], base.name),
        verdict.pass_rates(runs[place], path.name),
    )
    word = {"improved": "better", "worse": "worse"}.get(found["verdict"], found["verdict"])
    return verdict.card(found, (names[0], names[place]), sentence) | {
        "title": f"{names[place]} ({path.name}) against {names[0]} ({base.name})",
        "word": word,
        "flips": verdict.flips(*rates),
    }


def _absent(sentence: str) -> Row:
    return {"card": None, "absent": f"No verdict. {sentence}"}


def cautions(num_runs: int) -> list[str]:
    told = [
        "One training run of each: the interval covers the draw of problems and completions, not "
        "the luck of training. Seeds tell that apart (open-rs train RECIPE --seeds 8)."
    ]
    if num_runs > 2:
        told.append(
            f"{num_runs - 1} comparisons are judged as one family (Holm): p-values are adjusted, "
            "intervals are those of each comparison alone."
        )
    return told


def scores(names: Sequence[str], held: Sequence[Row | None]) -> Row | None:
    """The score tables of all runs as one."""
    tables_of = [(name, one) for name, one in zip(names, held, strict=True) if one]
    if not tables_of:
        return None
    ks = list(dict.fromkeys(key for _, one in tables_of for key in one["ks"]))
    rows = []
    for name, one in tables_of:
        for row in one["rows"]:
            by_key = dict(zip(one["ks"], row["others"], strict=True))
            rows.append(row | {"run": name, "others": [by_key.get(key, "–") for key in ks]})
    first = tables_of[0][1]
    return {"ks": ks, "rows": rows, "confidence": first["confidence"], "method": first["method"]}


def facts_table(held: Sequence[Sequence[tuple[str, str]]]) -> list[Row]:
    """What was run, a row per fact; `same` where it is no difference."""
    columns = [dict(one) for one in held]
    keys = dict.fromkeys(key for one in columns for key in one)
    cells = {key: [one.get(key, "–") for one in columns] for key in keys}
    return [{"key": key, "cells": row, "same": len(set(row)) == 1} for key, row in cells.items()]


def differing(held: Sequence[dict[str, str]]) -> list[Row]:
    """The keys at which the runs do not all say the same, with what each says."""
    keys = dict.fromkeys(key for one in held for key in one)
    rows = ({"key": key, "cells": [one.get(key, "–") for one in held]} for key in keys)
    return [row for row in rows if len(set(row["cells"])) > 1]


def harness(data: RunData) -> dict[str, str]:
    """The fingerprint of the evaluation that stands for a run."""
    path = compared(data)
    summary = data.evaluations[path.name] if path else {}
    fingerprint = summary.get("fingerprint") or {}
    return {key: tables.plain(value) for key, value in tables.flat(fingerprint) if key}


def costs(held: Sequence[RunCost | None]) -> Row | None:
    """Device time by phase, then totals of time, tokens and dollars, a column per run."""
    if not any(held):
        return None
    phases = dict.fromkeys(phase.phase for one in held if one for phase in one.phases)
    rows = []
    for name in phases:
        seconds = [
            sum(phase.seconds for phase in one.phases if phase.phase == name) if one else None
            for one in held
        ]
        rows.append({"phase": name, "cells": [duration(value or None) for value in seconds]})
    totals = [one.total if one else None for one in held]
    return {
        "rows": rows,
        "totals": [
            {"phase": "all", "cells": [duration(one.seconds) if one else "–" for one in totals]},
            {"phase": "tokens", "cells": [count(one.tokens) if one else "–" for one in totals]},
            {"phase": "device-hours", "cells": [_hours(one) for one in totals]},
            {"phase": "dollars", "cells": [dollars(one.usd) if one else "–" for one in totals]},
        ],
    }


def _hours(total: Any) -> str:
    return number(total.device_hours) if total else "–"
