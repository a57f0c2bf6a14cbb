"""`open-rs report`: a run's page, the costs of runs, the paper's tables and figures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from open_rs.commands.shared import Json, existing_run, show, stop
from open_rs.errors import InputError


def report(
    run_paths: Annotated[
        list[Path] | None, typer.Argument(help="run folders", metavar="RUN...")
    ] = None,
    costs: Annotated[
        bool, typer.Option("--costs", help="hours and dollars by phase, beside the paper's")
    ] = False,
    paper: Annotated[
        bool,
        typer.Option("--paper", help="the paper's tables and figures, runs beside the authors'"),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="with --paper: the folder to write to")
    ] = None,
    paper_data: Annotated[
        Path | None,
        typer.Option("--paper-data", help="a folder with the paper's CSVs; the package has them"),
    ] = None,
    usd_per_hour: Annotated[
        float | None,
        typer.Option(
            "--usd-per-hour", min=0, help="price of a device that the recipe and the table lack"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """One self-contained HTML page of a run, finished or not; or costs; or the paper's artefacts.

    With --paper and no run the authors' figures and tables alone are written.
    """
    paths = run_paths or []
    if paper:
        show_paper(paths, out, paper_data, usd_per_hour, costs, as_json)
    elif costs:
        show_costs(paths, out, paper_data, usd_per_hour, as_json)
    elif out or paper_data or usd_per_hour is not None:
        raise InputError("--out, --paper-data and --usd-per-hour need --paper or --costs")
    elif len(paths) != 1:
        raise InputError("name one run for its page; several go with --costs or --paper")
    else:
        from open_rs.report import build_report

        path = build_report(existing_run(paths[0]))
        show({"report": str(path)}, as_json, str(path))


def show_paper(
    paths: list[Path],
    out: Path | None,
    paper_data: Path | None,
    usd_per_hour: float | None,
    costs: bool,
    as_json: bool,
) -> None:
    """Write the artefacts; a folder that is no run is refused after the others are written."""
    if costs:
        raise InputError("--costs: --paper writes the costs of runs too; give one of the two")
    if out is None:
        raise InputError("--paper: name the folder to write to by --out")
    from open_rs.report.paper import build_paper

    made = build_paper(paths, out, paper_data, usd_per_hour)
    names = ", ".join(made["files"])
    show(made, as_json, "\n".join([f"{out}: {names}", *(f"- {one}" for one in made["missing"])]))
    refuse(made)


def show_costs(
    paths: list[Path],
    out: Path | None,
    paper_data: Path | None,
    usd_per_hour: float | None,
    as_json: bool,
) -> None:
    if out is not None:
        raise InputError("--out: --costs prints to the terminal; --paper writes files")
    if not paths:
        raise InputError("--costs: name the runs")
    from open_rs.report.paper import build_costs
    from open_rs.report.paper.render import to_text

    made = build_costs(paths, paper_data, usd_per_hour)
    tables = made.pop("tables")
    texts = [*map(to_text, tables), *(f"- {one}" for one in made["missing"])]
    rows = {
        table.name: [{name: cell.text for name, cell in row.items()} for row in table.rows]
        for table in tables
    }
    show(made | rows, as_json, "\n\n".join(texts))
    refuse(made)


def refuse(made: dict[str, Any]) -> None:
    """Exit 2 where folders were named that are no run."""
    if made["refused"]:
        stop("; ".join(made["refused"]), 2)
