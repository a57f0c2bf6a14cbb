"""A figure as plain data: what is drawn, and the CSV beside it."""

from dataclasses import dataclass, field

from open_rs.report.paper.render import csv_text

COLUMNS = ("panel", "series", "x", "y", "low", "high")


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of one kind. `style`: "line" joins them, "faint" does so in the background, "marks"
    leaves them apart, each with its name beside it where there are `names`; "level" is one value
    with its band over the whole width.
    """

    label: str
    points: list[Point]
    style: str
    role: str  # whose: "authors", "others", "base", "remeasured", "ours"
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes. `empty` is told in its place where there is nothing to draw."""

    title: str
    x_label: str
    y_label: str
    series: list[Series]
    log_x: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    from_zero: bool = False  # the y axis
    empty: str = ""


@dataclass(frozen=True)
class Figure:
    """`columns` panels a row; panels of a row share the y axis where `share_y`."""

    name: str
    title: str
    panels: list[Panel]
    columns: int
    caption: list[str] = field(default_factory=list)
    share_y: bool = False


def figure_csv(figure: Figure) -> str:
    """Every value that is drawn; a level has no x."""

    def text(value: float | None) -> str:
        return "" if value is None else f"{value:.10g}"

    rows = [
        [
            panel.title,
            one.names[place] if one.names else one.label,
            "" if one.style == "level" else text(point.x),
            *map(text, (point.y, point.low, point.high)),
        ]
        for panel in figure.panels
        for one in panel.series
        for place, point in enumerate(one.points)
    ]
    return csv_text(COLUMNS, rows)


def percent(x: float, *shares: float) -> Point:
    return Point(x, *(100 * share for share in shares))
