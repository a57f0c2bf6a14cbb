"""The data card of a curated set: README.md, with a header by which `datasets` loads the folder."""

import json
from collections.abc import Sequence
from typing import Any

from open_rs.curate.funnel import expectation_text
from open_rs.curate.stages import Row
from open_rs.recipe import Recipe

# The problems alone: a folder's other files would be taken for rows of the set
HEADER = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: problems.jsonl
---
"""


def data_card(recipe: Recipe, summary: Row, sources: Sequence[Row], inputs: Row) -> str:
    """Sources, licences, hashes, counts, the funnel and how to make the set again."""
    parts = [
        f"# {recipe.name}",
        f"{summary['kept']:,} problems of {summary['input']:,} rows, curated by open-rs"
        + expectation_text(summary["kept"], summary["expected"]["kept"])
        + ". Every input row is in `manifest.jsonl` with what became of it and why.",
        "## Columns",
        "`id` (hash of problem and answer), `problem`, `answer` (the gold), `solution` (empty "
        "where the source has none), `source`.",
        "## Sources",
        table(
            ("source", "from", "licence", "rows", "unreadable", "SHA-256 of its ids"),
            [
                (
                    one["label"],
                    one["origin"],
                    one["licence"],
                    f"{one['rows']:,}" + expectation_text(one["rows"], one["expected"]),
                    f"{one['bad_rows']:,}",
                    one["content_sha256"][:16],
                )
                for one in sources
            ],
        ),
        "A licence is what the recipe states; it was not checked.",
        "## Funnel",
        table(
            ("filter", "rows in", "dropped", "kept", "why", "noted"),
            [
                (
                    one["filter"],
                    f"{one['input']:,}",
                    f"{one['dropped']:,}",
                    f"{one['kept']:,}" + expectation_text(one["kept"], one["expected"]),
                    _counts(one["reasons"]),
                    _counts(one["noted"]),
                )
                for one in summary["funnel"]
            ],
        ),
        "## Made by",
        "```sh\nopen-rs curate recipe.toml --out FOLDER\n```",
        "with a recipe that says:",
        f"```json\n{json.dumps(stated(recipe), indent=1, ensure_ascii=False)}\n```",
    ]
    if inputs["files"]:
        parts += [
            "Files that were read, by SHA-256:",
            table(("file", "SHA-256"), sorted(inputs["files"].items())),
        ]
    return HEADER + "\n" + "\n\n".join(parts) + "\n"


def stated(recipe: Recipe) -> dict[str, Any]:
    """What of the recipe decides a curated set, defaults left out."""
    dumped = recipe.model_dump(mode="json", exclude_defaults=True)
    dumped["filters"] = [
        {"type": one.type} | one.model_dump(mode="json", exclude_defaults=True)
        for one in recipe.filters
    ]
    keys = ("name", "seed", "sources", "filters", "curate", "data", "model", "prompt", "grade")
    return {key: dumped[key] for key in (*keys, "rollout") if key in dumped}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _counts(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
