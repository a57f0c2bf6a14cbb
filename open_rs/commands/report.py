"""`open-rs report`: a run's page, the costs of runs, the paper's tables and figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from open_rs.commands.shared import Json, show, stop
from open_rs.errors import InputError

if TYPE_CHECKING:
    from open_rs.runs import RunFolder


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
        Path | None,
        typer.Option(
            "--out",
            help="the page's file (report.html of the run; comparison.html for several); "
            "with --paper the folder to write to",
        ),
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
    """One HTML page of a run or of several; what runs cost; the paper's tables and figures.

    The page opens offline and can be made of a run that is going on, was killed or lost files. With
    --paper and no run the authors' figures and tables alone are written.
    """
    paths = run_paths or []
    if paper:
        show_paper(paths, out, paper_data, usd_per_hour, costs, as_json)
    elif costs:
        show_costs(paths, out, paper_data, usd_per_hour, as_json)
    elif paper_data or usd_per_hour is not None:
        raise InputError("--paper-data and --usd-per-hour need --paper or --costs")
    else:
        show_page(paths, out, as_json)


def show_page(paths: list[Path], out: Path | None, as_json: bool) -> None:
    """Write the page of one run, or of several against the first."""
    from open_rs.report import build_comparison, build_report

    if not paths:
        raise InputError("name a run, or several that are to be held against the first")
    if out is not None and out.is_dir():
        raise InputError(f"{out}: is a folder; name a file for the page, such as {out}/report.html")
    runs = [run_at(path) for path in paths]
    if len(runs) == 1:
        path = build_report(runs[0], out)
    else:
        path = build_comparison(runs, out or Path("comparison.html"))
    show({"report": str(path)}, as_json, str(path))


def run_at(path: Path) -> "RunFolder":
    """The run at `path`, however little there is of it; a folder of something else is refused."""
    from open_rs.runs import RunFolder

    run = RunFolder(path)
    logs = (run.recipe, run.environment, run.metrics, run.events, run.ledger)
    if not run.path.is_dir():
        raise InputError(f"{run.path}: no such run folder; name one that open-rs train has made")
    if any(run.path.iterdir()) and not any(log.exists() for log in logs):
        raise InputError(
            f"{run.path}: holds none of {', '.join(log.name for log in logs)}, so it is no run "
            "folder; name one that open-rs train has made"
        )
    return run


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
