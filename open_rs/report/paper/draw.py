"""Figures as PNG and SVG by matplotlib, the same bytes each time. Nothing else imports it."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.path import Path
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from open_rs.report.paper.plot import Figure, Panel, Point, Series

# Okabe and Ito's palette: told apart by the colour-blind. Each role has a marker of its own too.
COLOURS = {
    "authors": "#D55E00",
    "others": "#009E73",
    "base": "#555555",
    "remeasured": "#0072B2",
    "ours": "#AA4499",
}
MARKERS = {"authors": "o", "others": "s", "base": "o", "remeasured": "D", "ours": "^"}
LEVELS = {"base": (0, (5, 3)), "remeasured": (0, (1, 1.5)), "others": (0, (1, 3))}
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "open-rs",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "figure.dpi": 160,
}
LABEL: dict[str, Any] = {"fontsize": 7.5, "va": "center", "linespacing": 1.15}
# Where a label may stand: (side, points to the side, points up), near places first
PLACES = sorted(
    (
        (side, gap, 6 * step)
        for step in range(-40, 41)
        for gap in (9, 24, 40, 60)
        for side in (1, -1)
    ),
    key=lambda place: (abs(place[2]) + 2 * place[1], -place[0], -place[2]),
)
PANEL_INCHES = (5.0, 3.7)


@contextmanager
def our_settings() -> Iterator[None]:
    """matplotlib's defaults and ours, whatever the user's own file says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def draw(figure: Figure) -> dict[str, bytes]:
    """The figure as "png" and "svg", without times and versions inside."""
    with our_settings():
        canvas = canvas_of(figure)
        made = {}
        told = {"Title": figure.title, "Description": "\n".join(figure.caption)}
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            file = io.BytesIO()
            canvas.savefig(file, format=kind, metadata=told | metadata)
            made[kind] = file.getvalue()
    return made


def canvas_of(figure: Figure) -> Canvas:
    rows = -(-len(figure.panels) // figure.columns)
    width, height = PANEL_INCHES
    canvas = Canvas(figsize=(width * figure.columns, height * rows + 0.5), layout="constrained")
    renderer = FigureCanvasAgg(canvas).get_renderer()
    axes = canvas.subplots(
        rows, figure.columns, squeeze=False, sharey="row" if figure.share_y else False
    )
    canvas.suptitle(figure.title, fontsize=11, x=0.01, ha="left")
    handles: dict[str, Any] = {}
    for place, panel in enumerate(figure.panels):
        handles |= draw_panel(axes.flat[place], panel)
    for spare in axes.flat[len(figure.panels) :]:
        spare.set_axis_off()
    if handles:
        canvas.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=legend_columns(list(handles), width * figure.columns),
            fontsize=8.5,
        )
    canvas.draw_without_rendering()  # the layout is known from here on, so labels can be placed
    canvas.set_layout_engine("none")
    for place, panel in enumerate(figure.panels):
        name_points(axes.flat[place], panel, renderer)
    return canvas


def legend_columns(labels: Sequence[str], inches: float) -> int:
    """All in one row where they fit, else as many as the longest allows."""
    widths = [0.065 * len(label) + 0.65 for label in labels]
    return len(labels) if sum(widths) <= inches else max(1, int(inches / max(widths)))


def draw_panel(axes: Axes, panel: Panel) -> dict[str, Any]:
    """Draw the series; returns what the legend shows of them, by label."""
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.tick_params(labelleft=True)
    if panel.empty:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, panel.empty, transform=axes.transAxes, ha="center", va="center")
        return {}
    handles = {one.label: DRAWN[one.style](axes, one) for one in panel.series}
    if panel.log_x:
        set_log_x(axes, panel)
    else:
        axes.set_xlim(left=-0.03 * axes.get_xlim()[1])
        if panel.from_zero:  # to set a limit ends the scaling by the data of all panels of a row
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    return handles


def set_log_x(axes: Axes, panel: Panel) -> None:
    """A log axis with the panel's own ticks and room for names at both sides."""
    xs = [point.x for one in panel.series if one.style == "marks" for point in one.points]
    axes.set_xscale("log")
    if xs:
        room = max(max(xs) / min(xs), 10) ** 0.4
        axes.set_xlim(min(xs) / room, max(xs) * room)
    axes.xaxis.set_major_locator(FixedLocator([value for value, _ in panel.ticks]))
    axes.xaxis.set_major_formatter(FixedFormatter([text for _, text in panel.ticks]))
    axes.xaxis.set_minor_locator(NullLocator())


def columns_of(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [one.x for one in points], [one.y for one in points]


def draw_line(axes: Axes, one: Series) -> Any:
    colour = COLOURS[one.role]
    xs, ys = columns_of(one.points)
    few = len(xs) <= 30
    (line,) = axes.plot(
        xs, ys, color=colour, linewidth=1.8, marker=MARKERS[one.role] if few else "", markersize=4
    )
    if all(point.low is not None and point.high is not None for point in one.points):
        ends = [(point.low, point.high) for point in one.points]
        lows, highs = zip(*ends, strict=True)
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.16, linewidth=0)
    return line


def draw_faint(axes: Axes, one: Series) -> Any:
    xs, ys = columns_of(one.points)
    (line,) = axes.plot(
        xs, ys, color=COLOURS[one.role], linewidth=0.9, alpha=0.45, marker=".", markersize=3
    )
    return line


def draw_star(axes: Axes, one: Series) -> Any:
    xs, ys = columns_of(one.points)
    (line,) = axes.plot(
        xs, ys, "*", color=COLOURS[one.role], markersize=14, markeredgecolor="white", zorder=5
    )
    return line


def draw_level(axes: Axes, one: Series) -> Any:
    (point,) = one.points
    colour = COLOURS[one.role]
    if point.low is not None and point.high is not None:
        axes.axhspan(point.low, point.high, color=colour, alpha=0.10, linewidth=0)
    return axes.axhline(point.y, color=colour, linestyle=LEVELS.get(one.role, "-"), linewidth=1.4)


def draw_marks(axes: Axes, one: Series) -> Any:
    xs, ys = columns_of(one.points)
    colour, hollow = COLOURS[one.role], one.role == "remeasured"
    for point in one.points:
        if point.low is not None and point.high is not None:
            axes.plot(
                [point.x] * 2, [point.low, point.high], color=colour, linewidth=1.1, alpha=0.6
            )
    return axes.scatter(
        xs,
        ys,
        s=64 if hollow else 38,
        marker=MARKERS[one.role],
        facecolors="none" if hollow else colour,
        edgecolors=colour if hollow else "white",
        linewidths=1.2 if hollow else 0.8,
        zorder=3 if hollow else 4,
    )


DRAWN = {
    "line": draw_line,
    "faint": draw_faint,
    "star": draw_star,
    "level": draw_level,
    "marks": draw_marks,
}


def name_points(axes: Axes, panel: Panel, renderer: RendererBase) -> None:
    """The name of each marked point in the nearest free place beside it, with a thin line to it;
    points of one kind in one place have one label. Re-measured points bear the names of the others.
    """
    held: dict[tuple[float, float, str], list[str]] = {}
    taken: list[Bbox] = []
    marks: list[Bbox] = []
    for one in panel.series:
        if one.style == "level":
            taken += [across(axes, point) for point in one.points]
        if one.style == "marks":
            taken += [around(axes, point) for point in one.points]
            marks += [around(axes, Point(point.x, point.y)) for point in one.points]
            for name, point in zip(one.names, one.points, strict=False):
                if one.role != "remeasured":
                    held.setdefault((point.x, point.y, COLOURS[one.role]), []).append(name)
    labels: list[Bbox] = []
    lines: list[Path] = []
    for x, y, colour in sorted(held, reverse=True):  # from the right, where there is least room
        at, words = (x, y), "\n".join(held[x, y, colour])
        side, offset = free_place(axes, at, words, renderer, (taken, marks), labels, lines)
        axes.annotate(
            words,
            xy=at,
            xytext=offset,
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            color=colour,
            **LABEL,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 4,
                "relpos": (0.0 if side > 0 else 1.0, 0.5),
            },
        )


def free_place(
    axes: Axes,
    at: tuple[float, float],
    words: str,
    renderer: RendererBase,
    held: tuple[Sequence[Bbox], Sequence[Bbox]],
    labels: list[Bbox],
    lines: list[Path],
) -> tuple[int, tuple[float, float]]:
    """The side and the offset in points of a label for the point `at`: the nearest place inside
    the axes that covers nothing that is taken and no label, with the fewest crossings of a line by
    a label or of its own line by labels and other marks. It is added to `labels` and `lines`.
    `held`: what is taken, and the marks alone.
    """
    measure = axes.text(0, 0, words, transform=None, **LABEL)
    size = measure.get_window_extent(renderer)
    measure.remove()
    within, pixels = axes.get_window_extent(), axes.figure.dpi / 72
    x, y = axes.transData.transform(at)
    others = [mark for mark in held[1] if not mark.contains(x, y)]
    found: list[tuple[int, int, tuple[float, float], Bbox, Path]] = []
    for side, gap, up in PLACES:
        edge, middle = x + side * gap * pixels, y + up * pixels
        left = edge if side > 0 else edge - size.width
        box = Bbox.from_bounds(left, middle - size.height / 2, size.width, size.height)
        line = Path([(x, y), (edge, middle)])
        inside = within.contains(box.x0, box.y0) and within.contains(box.x1, box.y1)
        if inside and not any(box.overlaps(other) for other in [*held[0], *labels]):
            crossings = sum(other.intersects_bbox(box) for other in lines)
            crossings += sum(line.intersects_bbox(other) for other in [*labels, *others])
            found.append((crossings, side, (side * float(gap), float(up)), box, line))
            if not crossings:
                break
    if not found:  # too many names for the panel: on top of others, and all are in the CSV
        return 1, (9.0, 0.0)
    _, side, offset, box, line = min(found, key=lambda place: place[0])
    labels.append(box)
    lines.append(line)
    return side, offset


def around(axes: Axes, point: Point) -> Bbox:
    """What a marker and its interval cover, in pixels."""
    low, high = point.low or point.y, point.high or point.y
    (x, bottom), (_, top) = axes.transData.transform([(point.x, low), (point.x, high)])
    pad = 4.5 * axes.figure.dpi / 72
    return Bbox([[x - pad, bottom - pad], [x + pad, top + pad]])


def across(axes: Axes, point: Point) -> Bbox:
    """What a level's line covers, in pixels."""
    left, right = axes.get_window_extent().intervalx
    y = axes.transData.transform((1.0, point.y))[1]
    return Bbox([[left, y - 2], [right, y + 2]])
