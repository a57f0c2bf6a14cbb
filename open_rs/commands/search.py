"""`open-rs search`: accuracy against tokens of every way to choose an answer."""

from pathlib import Path
from typing import Annotated, Any

import typer

from open_rs.commands.shared import Json, show


def search(
    samples: Annotated[Path, typer.Argument(help="an evaluation with several samples a problem")],
    searches: Annotated[
        list[Path] | None, typer.Argument(help="evaluations of the same by --search")
    ] = None,
    against: Annotated[
        str, typer.Option("--against", help="what the others are compared with")
    ] = "majority",
    confidence: Annotated[float, typer.Option(min=0.9, max=0.999)] = 0.95,
    as_json: Json = False,
) -> None:
    """Single samples, votes, the likeliest, beam search: accuracy at equal tokens.

    Reads finished evaluations of one model and samples nothing. Differences are to the majority
    vote (or --against) of as many tokens, paired by problem.
    """
    from open_rs.evaluate.search import frontier

    found = frontier(samples, searches or [], confidence, against)
    show(found, as_json, frontier_text(found))


def frontier_text(found: dict[str, Any]) -> str:
    """A line for each way and budget."""
    against = found["against"]
    lines = [
        f"{found['name']}: {found['model']}, n = {found['num_problems']} problems, "
        f"k = {found['num_samples']} samples",
        f"  {'way':<10} {'budget':>7} {'tokens':>8}  {'accuracy':<22}  less {against} of as many",
    ]
    for row in found["rows"]:
        score, gap, base = row["score"], row["difference"], row["baseline"]
        line = (
            f"  {row['way']:<10} {row['budget']:>7} {row['tokens']:>8.0f}  {score['value']:.3f} "
            f"[{score['low']:.3f}, {score['high']:.3f}]"
        )
        if row["way"] != against and row["budget"] != "1":
            line += f"  {gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
            if row["way"] == "any":
                line += "  an upper bound: it looks at the gold"
            elif row["budget"] != base["budget"]:
                line += f"  n = {base['budget']}, {base['tokens']:.0f} tokens"
        lines.append(line)
    return "\n".join(lines)
