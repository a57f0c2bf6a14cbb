"""`open-rs doctor`: is this machine, and is this recipe, fit for a run?"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from open_rs.commands.shared import Json, Out, Overrides, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open_rs.plan.doctor.finding import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}


def doctor(
    recipe_path: Annotated[
        Path | None,
        typer.Argument(help="a recipe (.toml); without one, that of open-rs quickstart"),
    ] = None,
    overrides: Overrides = None,
    out: Out = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="checks that are not reached by then are skipped")
    ] = 10.0,
    show_all: Annotated[
        bool, typer.Option("--all", help="list the checks that found nothing, too")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check this machine and a recipe before the run; exit 1 where a check failed."""
    from open_rs.plan.doctor.audit import audit
    from open_rs.plan.doctor.runner import as_dict, counts, diagnose
    from open_rs.plan.doctor.subject import Subject
    from open_rs.plan.doctor.table import CHECKS
    from open_rs.recipe import load_recipe, shipped_recipe
    from open_rs.text import redact_all

    if recipe_path is None:
        recipe_path, overrides = shipped_recipe("quickstart"), ["name=doctor"]
    recipe = load_recipe(recipe_path, overrides or [])
    folder = out or Path("runs") / recipe.name
    with Subject(recipe, folder, seconds=seconds) as subject:
        findings = diagnose(subject, CHECKS)
        findings += audit(subject, findings)
    show(redact_all(as_dict(findings)), as_json, findings_text(findings, show_all))
    raise typer.Exit(1 if counts(findings)["fail"] else 0)


def has_cure(one: "Finding") -> bool:
    """A check that was skipped and need not be."""
    return one.status == "skipped" and bool(one.cure)


def findings_text(findings: "Sequence[Finding]", show_all: bool) -> str:
    """What is to be mended first to last, then how many checks said what."""
    from io import StringIO

    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from open_rs.plan.doctor.runner import counts
    from open_rs.text import shown

    stdout = Console()
    console = Console(
        file=StringIO(), width=stdout.width, force_terminal=stdout.is_terminal, highlight=False
    )
    for one in findings:
        if one.status in ("ok", "skipped") and not show_all:
            continue
        console.print(Text.assemble((one.status, COLOURS[one.status]), f"  {one.check}"))
        told = [one.sentence, *([f"cure: {one.cure}"] if one.cure else [])]
        console.print(Padding(Text("\n".join(map(shown, told))), (0, 0, 0, 6)))
    number = counts(findings)
    seconds = sum(one.seconds for one in findings)
    console.print(
        f"{len(findings)} checks in {seconds:.1f} s: {number['ok']} ok, {number['warn']} to look "
        f"at, {number['fail']} failed, {number['skipped']} skipped"
    )
    reasons = Counter(f"{one.sentence}; {one.cure}" for one in findings if has_cure(one))
    for reason, times in reasons.items():
        console.print(f"skipped, {times} of them: {reason}")
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
