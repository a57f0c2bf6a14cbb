"""Curation, cost, environment and recipe as rows of text."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from open_rs.recipe import Recipe
from open_rs.report.costs import run_cost
from open_rs.report.format import count, cut, dollars, duration, percent, setting, size
from open_rs.report.load import Row, RunData

MAX_DETAIL = 600  # characters of what an event says of one thing


def funnel(data: RunData) -> Row | None:
    """The filters in order, each with what came in, what it dropped and why; None without it."""
    summary = data.curation
    if not summary:
        return None
    rows_in = summary["input"] or 1
    steps = []
    for stage in summary["funnel"]:
        reasons = sorted(stage.get("reasons", {}).items(), key=lambda item: -item[1])
        steps.append(
            {
                "filter": stage["filter"].replace("_", " "),
                "input": count(stage["input"]),
                "dropped": count(stage["dropped"]),
                "kept": count(stage["kept"]),
                "kept_share": round(100 * stage["kept"] / rows_in, 2),
                "dropped_share": round(100 * stage["dropped"] / rows_in, 2),
                "reasons": [(text, count(number)) for text, number in reasons],
            }
        )
    return {
        "input": count(summary["input"]),
        "kept": count(summary["kept"]),
        "share": percent(summary["kept"] / rows_in),
        "steps": steps,
        "sources": [(label, count(rows)) for label, rows in summary.get("sources", {}).items()],
        "too_long": count(summary.get("too_long") or 0),
    }


def ledger(data: RunData) -> Row | None:
    """Seconds, tokens and dollars by phase, in the order in which phases first came; None without.

    The plan's forecast stands beside the seconds where there was a plan.
    """
    cost = run_cost(data)
    if cost is None:
        return None
    total, planned = cost.total, data.plan.get("seconds") or {}
    rows = [
        {
            "phase": one.phase,
            "seconds": duration(one.seconds),
            "share": percent(one.seconds / total.seconds if total.seconds else 0),
            "width": round(100 * one.seconds / total.seconds, 2) if total.seconds else 0,
            "planned": duration(planned.get(one.phase)),
            "tokens": count(one.tokens) if one.tokens else "–",
            "rate": count(one.tokens / one.seconds) if one.tokens and one.seconds else "–",
            "usd": dollars(one.usd),
        }
        for one in cost.phases
    ]
    priced = any(one.usd is not None for one in cost.phases)
    return {
        "rows": rows,
        "priced": priced,
        "price": cost.rate.source if priced and cost.rate.usd_per_hour is not None else "",
        "planned": bool(planned),
        "total": duration(total.seconds),
        "planned_total": duration(planned.get("total")),
        "tokens": count(total.tokens),
        "usd": dollars(total.usd),
    }


def plan(data: RunData) -> Row | None:
    """What was forecast before training; None without a plan."""
    if not data.plan:
        return None
    memory = data.plan.get("memory_bytes") or {}
    figures = ("steps", "epochs", "prompts", "completions", "completion_tokens")
    pairs = [
        (
            name.replace("_", " "),
            f"{data.plan[name]:,.4g}" if name == "epochs" else count(data.plan[name]),
        )
        for name in figures
        if data.plan.get(name) is not None
    ]
    return {
        "pairs": pairs,
        "memory": [(part.replace("_", " "), size(value)) for part, value in memory.items()],
        "findings": [finding_text(one) for one in data.plan.get("findings") or []],
    }


def finding_text(finding: Any) -> str:
    """A finding of the plan; older plans hold sentences."""
    if not isinstance(finding, dict):
        return str(finding)
    return f"{finding['severity']}: {finding['key']}: {finding['sentence']}; {finding['cure']}"


def environment(data: RunData) -> list[tuple[str, str]]:
    """Where it ran, flattened to pairs."""
    if not data.environment:
        return []
    return [(key, plain(value)) for key, value in flat(data.environment)]


def harness(data: RunData) -> list[Row]:
    """How the evaluations were measured: the first fingerprint in full, of each other one only
    what differs from it.
    """
    alike: list[tuple[dict[str, str], list[str]]] = []  # (fingerprint as pairs, evaluations)
    for name, summary in data.evaluations.items():
        pairs = {key: plain(value) for key, value in flat(summary.get("fingerprint") or {})}
        if not any(pairs):
            continue
        same = next((names for held, names in alike if held == pairs), None)
        if same is None:
            alike.append((pairs, [name]))
        else:
            same.append(name)
    rows = []
    for pairs, names in alike:
        first = alike[0][0]
        other = pairs if pairs is first else _differing(first, pairs)
        rows.append({"names": _named(names), "pairs": list(other.items()), "full": pairs is first})
    return rows


def _differing(first: dict[str, str], pairs: dict[str, str]) -> dict[str, str]:
    keys = [*pairs, *(key for key in first if key not in pairs)]
    return {key: pairs.get(key, "–") for key in keys if pairs.get(key) != first.get(key)}


def _named(names: list[str]) -> str:
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]}, {names[1]} and {len(names) - 2} more"


def recipe(data: RunData) -> Row | None:
    """The recipe: all of it, and what it changes from the defaults; None without it.

    `changed` is None where this version refuses the recipe (it comes from another one).
    """
    if not data.recipe:
        return None
    defaults = dict(flat(Recipe().model_dump(mode="json")))
    rows = [
        {
            "key": key,
            "value": setting(value),
            "default": setting(defaults[key]) if key in defaults else "–",
        }
        for key, value in flat(data.recipe)
    ]
    try:
        sparse = Recipe.model_validate(data.recipe).model_dump(mode="json", exclude_defaults=True)
    except ValidationError:
        return {"rows": rows, "changed": None}
    stated = dict(flat(sparse))
    kinds = {row["key"] for row in rows if row["key"].endswith(".type")}  # "type" is a default
    changed = [row for row in rows if row["key"] in stated or row["key"] in kinds]
    return {"rows": rows, "changed": changed}


def settings(held: Row) -> dict[str, str]:
    """A recipe as (dotted key, value in a recipe's notation)."""
    return {key: setting(value) for key, value in flat(held) if key}


def events(data: RunData) -> list[Row]:
    """The run's own diary."""
    start = next((row["time"] for row in data.events if isinstance(row.get("time"), float)), None)
    return [
        {
            "event": str(row["event"]).replace("_", " "),
            "step": row.get("step", "–"),
            "after": duration(row["time"] - start) if start and row.get("time") else "–",
            "details": ", ".join(
                cut(f"{key} {plain(value)}", MAX_DETAIL)
                for key, value in row.items()
                if key not in ("event", "step", "time")
            ),
        }
        for row in data.events
    ]


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; lists of objects are entered, other lists are leaves."""
    if isinstance(value, dict) and value:
        items: list[tuple[str, Any]] = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        items = [(str(index), one) for index, one in enumerate(value)]
    else:
        yield prefix, value
        return
    for key, below in items:
        yield from flat(below, f"{prefix}.{key}" if prefix else str(key))


def plain(value: Any) -> str:
    """A value in a table that is no recipe: text without quotes, a dash for nothing."""
    if value is None or value in ([], {}, ""):
        return "–"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    return value if isinstance(value, str) else setting(value)
