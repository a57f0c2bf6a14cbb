"""The figures of docs/insights.md: scores over steps, and what else an experiment is about.

A line is the mean over seeds, a thin one a seed, the band the 95 % interval of the mean (t), which
may leave the frame where the seeds are few. The same bytes each time.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from insight_claims import CONFIDENCE, Arms, Experiment, Run, series
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from open_rs.report.paper.draw import our_settings
from open_rs.sweep.summary import mean_over_seeds

# Okabe and Ito, told apart by the colour-blind; markers tell the arms apart without colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P")
SIZE, DPI, SMOOTH = (8.6, 3.3), 110, 5  # inches; steps of the mean that smooths a series of steps


def draw(path: Path, experiment: Experiment, arms: Arms) -> None:
    """The experiment's panels side by side as a PNG without times and versions inside."""
    with our_settings():
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        for axes, (title, key) in zip(figure.subplots(1, 2), experiment.panels, strict=True):
            axes.set_title(title, loc="left")
            if key == "chosen":
                draw_choice(axes, list(next(iter(arms.values())).values()))
                continue
            draw_arms(axes, arms, key)
            axes.set_xlabel("step")
        figure.axes[0].legend(loc="best", fontsize=8)
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})


def draw_arms(axes: Axes, arms: Arms, key: str) -> None:
    """Every arm's seeds and mean by step; then the intervals, in the frame that these have set."""
    drawn = [
        (number, *draw_lines(axes, number, arm, list(runs.values()), key))
        for number, (arm, runs) in enumerate(arms.items())
    ]
    axes.autoscale_view()  # limits are found late otherwise
    axes.autoscale(False)
    for number, steps, rows in drawn:
        if rows[0]["low"] is not None:
            ends = [[row[end] for row in rows] for end in ("low", "high")]
            axes.fill_between(steps, *ends, color=COLOURS[number], alpha=0.12, linewidth=0)


def draw_lines(
    axes: Axes, number: int, arm: str, runs: Sequence[Run], key: str
) -> tuple[NDArray[Any], list[dict[str, Any]]]:
    """The steps, and the mean over seeds with its interval at each."""
    values = np.array([series(run, key) for run in runs])  # [seeds, scored steps or steps]
    steps = np.array(runs[0]["steps"])
    scored = values.shape[1] == len(steps)
    if not scored:
        values = np.apply_along_axis(smoothed, 1, values)
        steps = np.arange(SMOOTH, SMOOTH + values.shape[1])
    rows = [mean_over_seeds(column, CONFIDENCE) for column in values.T]
    colour = COLOURS[number]
    axes.plot(steps, values.T, color=colour, linewidth=0.6, alpha=0.4)
    axes.plot(
        steps,
        [row["mean"] for row in rows],
        color=colour,
        marker=MARKERS[number],
        markersize=4,
        markevery=1 if scored else 6,
        linewidth=1.6,
        label=arm,
    )
    return steps, rows


def smoothed(values: Any) -> Any:
    """The mean of each step and the `SMOOTH` - 1 before it."""
    return np.convolve(values, np.ones(SMOOTH) / SMOOTH, mode="valid")


def draw_choice(axes: Axes, runs: Sequence[Run]) -> None:
    """The best of the last m checkpoints, by the problems that chose it and by fresh ones."""
    labels: Mapping[str, str] = {
        "seen": "on the 30 problems that chose it",
        "fresh": "on fresh problems",
    }
    for number, (key, label) in enumerate(labels.items()):
        values = np.array([[one[key] for one in run["chosen"]] for run in runs])
        rows = [mean_over_seeds(column, CONFIDENCE) for column in values.T]
        numbers = np.arange(1, len(rows) + 1)
        half = [0.0 if row["low"] is None else row["mean"] - row["low"] for row in rows]
        axes.errorbar(
            numbers + 0.04 * (2 * number - 1),
            [row["mean"] for row in rows],
            yerr=half,
            color=COLOURS[number],
            marker=MARKERS[number],
            markersize=5,
            linewidth=1.5,
            capsize=3,
            label=label,
        )
    axes.set_xticks(numbers)
    axes.set_xlabel("m")
    axes.margins(y=0.35)
    axes.legend(loc="upper left", fontsize=8)
