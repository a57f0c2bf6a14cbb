"""`open-rs compare`: what two evaluations allow to say."""

from pathlib import Path
from typing import Annotated, Any

import typer

from open_rs.commands.shared import Json, show


def compare(
    before: Annotated[Path, typer.Argument(help="an evaluation folder")],
    after: Annotated[Path, typer.Argument(help="an evaluation folder")],
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999)] = 0.95,
    as_json: Json = False,
) -> None:
    """Two evaluations of the same problems, paired: difference, interval, verdict."""
    from open_rs.evaluate.compare import compare as compare_folders

    comparison = compare_folders(before, after, confidence)
    show(comparison, as_json, comparison_text(comparison))


def comparison_text(comparison: dict[str, Any]) -> str:
    """The before/after table with intervals and the verdict."""
    percent = 100 * comparison["difference"]["confidence"]
    rows = [f"{'':<10} {'pass@1':>7}   {percent:.0f} % interval"]
    for name in ("before", "after"):
        one = comparison["scores"][name]["pass@1"]
        rows.append(f"{name:<10} {one['value']:7.3f}   [{one['low']:.3f}, {one['high']:.3f}]")
    one = comparison["difference"]
    rows.append(
        f"{'difference':<10} {one['value']:+7.3f}   [{one['low']:+.3f}, {one['high']:+.3f}]"
    )
    rows.append(
        f"n = {comparison['num_problems']} problems, k = {comparison['num_samples']} samples each, "
        f"paired by problem, p = {comparison['p_value']:.2g}"
    )
    return "\n".join([*rows, f"verdict: {comparison['verdict']}"])
