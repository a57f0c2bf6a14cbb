"""A table as CSV, Markdown, LaTeX and aligned text. Pure functions."""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from open_rs.text import shown

DASH = "–"
LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    DASH: "--",
    "×": r"$\times$",
    "±": r"$\pm$",
}


@dataclass(frozen=True)
class Cell:
    """A figure or a text as it stands in a CSV, and what a reader sees beside it."""

    text: str = ""
    beside: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.text or DASH, self.beside) if part)


@dataclass(frozen=True)
class Table:
    """`columns` maps the CSV's names to headings; a row has a cell or a text for each."""

    name: str
    title: str
    columns: dict[str, str]
    rows: list[dict[str, Cell]]
    notes: list[str] = field(default_factory=list)


def csv_text(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Rows as CSV with a header; LF at line ends."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(list(names))
    writer.writerows(list(row) for row in rows)
    return file.getvalue()


def to_csv(table: Table) -> str:
    return csv_text(
        table.columns, ([row[name].text for name in table.columns] for row in table.rows)
    )


def to_markdown(table: Table) -> str:
    def line(texts: Iterable[str]) -> str:
        return f"| {' | '.join(map(markdown, texts))} |"

    lines = [
        f"**{table.title}**",
        "",
        line(table.columns.values()),
        f"|{'|'.join(' --- ' for _ in table.columns)}|",
        *(line(shown_cells(table, row)) for row in table.rows),
    ]
    return "\n".join([*lines, "", *(f"- {markdown(note)}" for note in table.notes)]).rstrip() + "\n"


def to_latex(table: Table) -> str:
    """A tabular with booktabs rules; the notes stand in comments."""
    body = [" & ".join(map(latex, shown_cells(table, row))) + r" \\" for row in table.rows]
    head = " & ".join(map(latex, table.columns.values())) + r" \\"
    lines = [
        *(f"% {line}" for line in [table.title, *table.notes]),
        r"\begin{tabular}{" + "l" * len(table.columns) + "}",
        *(r"\toprule", head, r"\midrule", *body, r"\bottomrule"),
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def to_text(table: Table) -> str:
    """Columns aligned for a terminal, figures to the right."""
    lines = [list(table.columns.values()), *(shown_cells(table, row) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(is_figure(row[name].text) for row in table.rows) for name in table.columns]
    text = [
        "  ".join(
            one.rjust(width) if figures else one.ljust(width)
            for one, width, figures in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([table.title, *text, *(f"- {note}" for note in table.notes)])


def shown_cells(table: Table, row: dict[str, Cell]) -> list[str]:
    """What a reader sees of a row: on one line, nothing in it hides."""
    return [shown(str(row[name])).replace("\n", " ") for name in table.columns]


def is_figure(text: str) -> bool:
    return not text or text.replace(".", "").replace(",", "").lstrip("+-−$<").isdigit()


def markdown(text: str) -> str:
    """Text without the signs that Markdown and HTML would read."""
    return re.sub(r"([\\|`*_<>])", r"\\\1", text)


def latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
