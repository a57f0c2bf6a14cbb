"""`open-rs grade`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from open_rs.commands.shared import Json, show
from open_rs.errors import InputError


def grade(
    source: Annotated[Path, typer.Argument(help="JSON Lines with gold and completion")],
    out: Annotated[Path | None, typer.Option("--out", help="the same rows with grades")] = None,
    workers: Annotated[int, typer.Option(min=1, help="grading processes")] = 2,
    timeout: Annotated[float, typer.Option(min=0.01, help="seconds for one answer")] = 5.0,
    opens_think: Annotated[
        bool, typer.Option("--opens-think", help="the template opened <think> in every prompt")
    ] = False,
    unboxed_numbers: Annotated[
        bool, typer.Option("--unboxed-numbers", help="without a box the last number counts")
    ] = False,
    against: Annotated[
        Path | None, typer.Option("--against", help="another graded file of the same rows")
    ] = None,
    as_json: Json = False,
) -> None:
    """Grade completions, or list where two gradings of the same rows disagree (exit 1)."""
    from open_rs.grade import grade_file

    if out is None and against is None:
        raise InputError("--out is missing; name a file for the grades")
    if out is not None:
        summary = grade_file(
            source,
            out,
            workers=workers,
            timeout_s=timeout,
            opens_think=opens_think,
            unboxed_numbers=unboxed_numbers,
        ).as_dict()
        if against is None or not summary["complete"]:
            show(summary, as_json, grades_text(summary))
            raise typer.Exit(0 if summary["complete"] else 130)
    assert against is not None
    audit_grades(out or source, against, as_json)


def audit_grades(ours: Path, theirs: Path, as_json: bool) -> None:
    """Print the disagreements of two graded files; exit 1 where there is one."""
    from dataclasses import asdict

    from open_rs.grade import audit_files

    audit = audit_files(ours, theirs)
    rows = [
        f"row {one.row}: gold {one.gold!r}: {one.ours} ({one.extracted!r}), there {one.theirs} "
        f"({one.their_extracted!r})"
        for one in audit.disagreements
    ]
    count = sum(audit.changes.values())
    rows.append(f"{count} of {audit.rows} rows disagree")
    show(asdict(audit), as_json, "\n".join(rows))
    raise typer.Exit(1 if count else 0)


def grades_text(summary: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in summary["outcomes"].items() if count)
    end = "" if summary["complete"] else "; interrupted, the rest was not graded"
    return f"{summary['rows']} rows: {counts} ({summary['rows_per_second']:.0f} rows/s){end}"
