"""`build_paper`: every table and figure into one folder."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from open_rs.report.paper.facts import Facts, load_facts
from open_rs.report.paper.figures import figure_1, figure_2
from open_rs.report.paper.ours import UNEXPECTED, OurRun, open_runs
from open_rs.report.paper.own_figures import own_curves, own_figure_2
from open_rs.report.paper.plot import Figure, figure_csv
from open_rs.report.paper.render import Table, csv_text, to_csv, to_latex, to_markdown
from open_rs.report.paper.tables import (
    SCORES,
    costs_table,
    other_sets,
    score_rows,
    table_1,
    tables_2_3,
)
from open_rs.runs import make_folder, write_bytes, write_text

NOT_PUBLISHED = (
    "figures 3 to 5 of the authors: their training curves are not among the published figures; "
    "name runs to draw them from"
)


def build_paper(
    paths: Sequence[Path],
    out: Path,
    folder: Path | None = None,
    usd_per_hour: float | None = None,
) -> dict[str, Any]:
    """Write tables (CSV, Markdown, LaTeX) and figures (PNG, SVG, CSV, caption) to `out`.

    `paths` are run folders, `folder` the paper's CSVs (the package's own by default),
    `usd_per_hour` the price of devices that have no known one. Returns {"out", "files", "refused":
    sentences on folders that are no run, "missing": on what else could not be shown}.
    """
    facts = load_facts(folder)
    runs, refused, missing = open_runs(paths, usd_per_hour)
    make_folder(out)
    files: list[str] = []

    def write(name: str, content: str | bytes) -> None:
        if isinstance(content, bytes):
            write_bytes(out / name, content)
        else:
            write_text(out / name, content)
        files.append(name)

    for table in all_tables(facts, runs):
        write(f"{table.name}.csv", to_csv(table))
        write(f"{table.name}.md", to_markdown(table))
        write(f"{table.name}.tex", to_latex(table))
    write("table1_scores.csv", csv_text(SCORES, score_rows(facts, runs)))
    for figure in all_figures(facts, runs, missing):
        write(f"{figure.name}.csv", figure_csv(figure))
        write(f"{figure.name}.txt", "\n".join(figure.caption) + "\n")
        for kind, content in drawn(figure).items():
            write(f"{figure.name}.{kind}", content)
    missing += [*facts.missing, NOT_PUBLISHED]
    return {"out": str(out), "files": files, "refused": refused, "missing": missing}


def build_costs(
    paths: Sequence[Path], folder: Path | None = None, usd_per_hour: float | None = None
) -> dict[str, Any]:
    """The costs of runs by phase, and Tables 2 and 3 with the runs below: {"tables", "refused",
    "missing"}, and "runs" with the figures as numbers.
    """
    facts = load_facts(folder)
    runs, refused, missing = open_runs(paths, usd_per_hour)
    return {
        "tables": [costs_table(runs), *tables_2_3(facts, runs)],
        "runs": {run.label: asdict(run.cost) for run in runs if run.cost is not None},
        "refused": refused,
        "missing": [*missing, *facts.missing],
    }


def all_tables(facts: Facts, runs: Sequence[OurRun]) -> list[Table]:
    others = other_sets(runs)
    return [
        table_1(facts, runs),
        *([others] if others.rows else []),
        *tables_2_3(facts, runs),
        *([costs_table(runs)] if any(run.cost for run in runs) else []),
    ]


def all_figures(facts: Facts, runs: Sequence[OurRun], missing: list[str]) -> list[Figure]:
    """The authors' figures, then those of each run; one that cannot be made is a sentence."""
    figures = [figure_1(facts, runs)]
    if facts.checkpoints:
        figures.append(figure_2(facts))
    for run in runs:
        for build in (lambda one: [own_figure_2(one)], own_curves):
            figures += guarded(run, build, missing)
    return figures


def guarded(
    run: OurRun, build: Callable[[OurRun], list[Figure]], missing: list[str]
) -> list[Figure]:
    try:
        return build(run)
    except UNEXPECTED as error:
        missing.append(f"{run.label}: its files are not as expected ({error!r})")
        return []


def drawn(figure: Figure) -> dict[str, bytes]:
    from open_rs.report.paper.draw import draw  # matplotlib

    return draw(figure)
