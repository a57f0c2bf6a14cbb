"""`build_report`: the parts of the page of a run, or of several side by side, in their template."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from open_rs.report import comparison, tables, verdict
from open_rs.report.alarms import alarms
from open_rs.report.cautions import cautions
from open_rs.report.curves import curves
from open_rs.report.distributions import distributions
from open_rs.report.load import Row, RunData, load_run
from open_rs.report.rollouts import MAX_BYTES, Rollouts, pack, rollouts_of
from open_rs.runs import RunFolder, write_text
from open_rs.text import visible

T = TypeVar("T")

UNEXPECTED = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
SCRIPTS = ("base.js", "inflate.js", "charts.js", "group.js", "rollouts.js")
NO_CURVES: Row = {"charts": [], "absent": [], "events": [], "last_step": 0}


def build_report(run: RunFolder, out: Path | None = None) -> Path:
    """Write the page of `run` to `out` (report.html of the run) and return its path; what is
    missing in the run, the page says.

    The page asks nothing of any network, and its content security policy forbids it to: only the
    script whose hash it names may run.
    """
    path = out or run.report
    write_text(path, render(load_run(run)))
    return path


def build_comparison(runs: Sequence[RunFolder], out: Path) -> Path:
    """Write one page of several runs; the others are held against the first."""
    write_text(out, render_comparison([load_run(run) for run in runs]))
    return out


def render(data: RunData) -> str:
    """The page of one run."""
    part = parts_of(data)
    rollouts = part("rollouts", rollouts_of, None)
    parts = {
        "name": visible(str(data.recipe.get("name") or data.run.path.name)),
        "status": part("status", verdict.status, {"kind": "unsure", "text": "state unknown"}),
        "facts": part("facts", verdict.facts, []),
        "verdict": part("verdict", verdict.verdict, None),
        "scores": part("scores", verdict.score_table, None),
        "cautions": part("cautions", cautions, []),
        "no_verdict": part("evaluation", verdict.evaluation_absent, "No scores can be shown."),
        "curves": part("curves", curves, NO_CURVES),
        "heats": part("distributions", lambda run: distributions(run, rollouts), []),
        "rollout_rules": [rollouts.rule] if rollouts else [],
        "alarms": part("alarms", alarms, None),
        "funnel": part("curation", tables.funnel, None),
        "ledger": part("ledger", tables.ledger, None),
        "plan": part("plan", tables.plan, None),
        "environment": part("environment", tables.environment, []),
        "harness": part("harness", tables.harness, []),
        "recipe": part("recipe", tables.recipe, None),
        "events": part("events", tables.events, []),
    }
    data_parts = [(parts["name"], rollouts)] if rollouts else []
    return filled("run.html.j2", {**parts, "damaged": data.damaged}, data_parts)


def render_comparison(runs: Sequence[RunData]) -> str:
    """The page of several runs; each may lack anything."""
    names = comparison.names_of(runs)
    share = MAX_BYTES // len(runs)
    texts: list[Rollouts | None] = [
        parts_of(data)("rollouts", lambda run: rollouts_of(run, share), None) for data in runs
    ]
    parts = comparison.parts(runs, names, texts, part_of)
    damaged = [
        f"{name}: {sentence}"
        for name, data in zip(names, runs, strict=True)
        for sentence in data.damaged
    ]
    return filled(
        "comparison.html.j2",
        {**parts, "name": " · ".join(names), "damaged": damaged},
        list(zip(names, texts, strict=True)) if any(texts) else [],
    )


def part_of(data: RunData, name: str, build: Callable[[RunData], T], instead: Any) -> T | Any:
    """A part of the page. One that the files do not bear out is `instead` and named among the
    damaged: a run folder may be of any age and state, and the rest of it is still worth reading.
    """
    try:
        return build(data)
    except UNEXPECTED as error:
        wrong = f"{type(error).__name__}: {error}"
        data.damaged.append(visible(f"{name}: its files are not as expected ({wrong})"))
        return instead


def parts_of(data: RunData) -> Callable[..., Any]:
    return lambda name, build, instead: part_of(data, name, build, instead)


def filled(template: str, parts: Row, rollouts: Sequence[tuple[str, Rollouts | None]]) -> str:
    """The template with its parts, the style, the script and the script's data."""
    environment = Environment(
        loader=PackageLoader("open_rs", "assets/report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    code = "\n".join(_asset(name) for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{code}}})();\n'
    return environment.get_template(template).render(
        parts,
        style=Markup(_asset("style.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        curves_json=safe_json(parts["curves"]),
        heats_json=safe_json(parts["heats"]),
        rollouts_data=[
            {
                "index": safe_json({"name": name, "packed": pack(one.index) if one else None}),
                "packed": one.packed if one else {},
            }
            for name, one in rollouts
        ],
    )


def safe_json(value: Any) -> Markup:
    """JSON that may stand inside a script element: ASCII, and no character that HTML could read."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _asset(name: str) -> str:
    return (resources.files("open_rs") / "assets" / "report" / name).read_text(encoding="utf-8")
