"""`build_report`: the parts of the page, put into the template."""

import base64
import hashlib
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from open_rs.report import tables, verdict
from open_rs.report.curves import curves
from open_rs.report.load import Row, RunData, load_run
from open_rs.report.samples import samples
from open_rs.runs import RunFolder, write_text
from open_rs.text import visible

T = TypeVar("T")

UNEXPECTED = (AttributeError, IndexError, KeyError, TypeError, ValueError)


def build_report(run: RunFolder) -> Path:
    """Write report.html of `run` and return its path; what is missing in the run, the page says.

    The page asks nothing of any network, and its content security policy forbids it to: only the
    script whose hash it names may run.
    """
    html = render(load_run(run))
    write_text(run.report, html)
    return run.report


def render(data: RunData) -> str:
    """The page of `data`."""
    script = _asset("report.js")
    parts = _parts(data)
    environment = Environment(
        loader=PackageLoader("open_rs", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        parts,
        style=Markup(_asset("report.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        curves_json=safe_json(parts["curves"]),
        samples_json=safe_json(parts["samples"]),
    )


def _parts(data: RunData) -> Row:
    """Every part by name. One that the files do not bear out is None and named among the damaged:
    a run folder may be of any age and state, and the rest of it is still worth reading.
    """

    def part(name: str, build: Callable[[RunData], T], instead: Any = None) -> T | Any:
        try:
            return build(data)
        except UNEXPECTED as error:
            wrong = f"{type(error).__name__}: {error}"
            data.damaged.append(visible(f"{name}: its files are not as expected ({wrong})"))
            return instead

    parts = {
        "name": visible(data.recipe.get("name") or data.run.path.name),
        "status": part("status", verdict.status, {"kind": "unsure", "text": "state unknown"}),
        "facts": part("facts", verdict.facts, []),
        "verdict": part("verdict", verdict.verdict),
        "scores": part("scores", verdict.score_table),
        "cautions": part("cautions", verdict.cautions, []),
        "no_verdict": part("evaluation", verdict.evaluation_absent, "No scores can be shown."),
        "curves": part(
            "curves", curves, {"charts": [], "absent": [], "events": [], "last_step": 0}
        ),
        "samples": part("samples", samples),
        "funnel": part("curation", tables.funnel),
        "ledger": part("ledger", tables.ledger),
        "plan": part("plan", tables.plan),
        "environment": part("environment", tables.environment, []),
        "harness": part("harness", tables.harness, []),
        "recipe": part("recipe", tables.recipe),
        "events": part("events", tables.events, []),
    }
    return {**parts, "damaged": data.damaged}


def safe_json(value: Any) -> Markup:
    """JSON that may stand inside a script element: ASCII, and no character that HTML could read."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _asset(name: str) -> str:
    return (resources.files("open_rs") / "assets" / name).read_text(encoding="utf-8")
