"""The figures of perf/README.md on one page, from the numbers that the scripts beside it wrote.

    python perf/plots.py runs/step_w?.json runs/rollout_w?.json runs/roofline.json runs/growth.json

Each file is told by what it holds (`--json` of step.py, rollout.py, roofline.py and growth.py); a
panel of which there is no file is left out. The same bytes each time.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from open_rs.report.paper.draw import our_settings

Facts = dict[str, Any]
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"
TARGETS = {"W1": 8.0, "W2": 3.0, "W3": 5.0}  # times TRL's step
MEMORY_TARGET = 0.6  # of TRL's peak
DPI, PANEL = 110, (4.6, 3.4)  # inches


def step_ratios(axes: Axes, found: Sequence[Facts]) -> None:
    """How many times faster than TRL a whole step is: the median, and the range of the pairs."""
    axes.set_title("a whole step: times faster than TRL", loc="left")
    for place, one in enumerate(found):
        ratios = sorted(one["ratios"])
        middle = statistics.median(ratios)
        reach = [[middle - ratios[0]], [ratios[-1] - middle]]
        axes.bar(place, middle, color=BLUE, width=0.6)
        axes.errorbar(place, middle, yerr=reach, color=GREY, capsize=4, linewidth=1.2)
        axes.text(place, middle / 2, f"{middle:.1f}x", ha="center", color="white")
        target = TARGETS[one["workload"]]
        label = "target" if place == 0 else None
        axes.plot([place - 0.4, place + 0.4], [target] * 2, color=ORANGE, linewidth=2, label=label)
    axes.set_xticks(range(len(found)), [one["workload"] for one in found])
    axes.margins(y=0.3)
    axes.legend(loc="upper right", fontsize=8, ncols=3)


def step_memory(axes: Axes, found: Sequence[Facts]) -> None:
    """Peak memory of a step of ours beside that of TRL's faster setting."""
    axes.set_title("peak memory of a step, GiB", loc="left")
    for place, one in enumerate(found):
        ours, theirs = one["sides"]["open-rs"]["peak"], one["sides"][one["faster"]]["peak"]
        bars = ((-0.2, ours, BLUE, "open-rs"), (0.2, theirs, GREY, "TRL"))
        for shift, peak, colour, label in bars:
            name = label if place == 0 else None
            axes.bar(place + shift, peak / 2**30, color=colour, width=0.36, label=name)
        bound, label = MEMORY_TARGET * theirs / 2**30, "target" if place == 0 else None
        axes.plot([place - 0.4, place], [bound] * 2, color=ORANGE, linewidth=2, label=label)
        axes.text(place - 0.2, ours / 2**30, f"{ours / theirs:.0%}", ha="center", va="bottom")
    axes.set_xticks(range(len(found)), [one["workload"] for one in found])
    axes.margins(y=0.3)
    axes.legend(loc="upper right", fontsize=8, ncols=3)


def rollout_speeds(axes: Axes, found: Sequence[Facts]) -> None:
    """Tokens a second of every way to sample, as multiples of `generate`'s median."""
    axes.set_title("rollout: times `generate`", loc="left")
    names, speeds = [], []
    for one in found:
        of_way = {
            name: [sum(run["lengths"]) / run["seconds"] for run in runs]
            for name, runs in one["runs"].items()
        }
        base = statistics.median(next(of_way[way] for way in of_way if way.startswith("generate,")))
        for name, several in of_way.items():
            names.append(f"{one['workload']} {name.split(' (')[0]}")
            speeds.append([speed / base for speed in several])
    for place, several in enumerate(speeds):
        middle = statistics.median(several)
        reach = [[middle - min(several)], [max(several) - middle]]
        colour = BLUE if "native" in names[place] else GREY
        axes.barh(place, middle, color=colour, height=0.6)
        axes.errorbar(middle, place, xerr=reach, color=ORANGE, capsize=3, linewidth=1.2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()


def roofline(axes: Axes, found: Sequence[Facts]) -> None:
    """What share of its limit each phase of a step reaches."""
    axes.set_title("share of this machine's limit, by phase", loc="left")
    phases = [phase for one in found for phase in one["phases"]]
    for place, phase in enumerate(phases):
        share = phase["limit"] / phase["seconds"]
        axes.barh(place, share, color=BLUE, height=0.6)
        axes.text(share / 2, place, f"{share:.0%}", ha="center", va="center", color="white")
    axes.set_yticks(range(len(phases)), [one["name"].split(",")[0] for one in phases], fontsize=8)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()


def growth(axes: Axes, found: Sequence[Facts]) -> None:
    """Seconds a step over the tokens generated, a line for each group size."""
    axes.set_title("a step's seconds by tokens generated", loc="left")
    keys = ("tokens", "seconds")
    for one in found:
        sizes = sorted({cell["group_size"] for cell in one["cells"]})
        for number, size in enumerate(sizes):
            cells = [cell for cell in one["cells"] if cell["group_size"] == size]
            points = [
                [statistics.median(step[key] for step in cell["steps"]) for cell in cells]
                for key in keys
            ]
            shade = 0.25 + 0.75 * number / max(len(sizes) - 1, 1)
            axes.plot(*points, "o-", color=BLUE, alpha=shade, markersize=3, label=f"G {size}")
        every = [[step[key] for cell in one["cells"] for step in cell["steps"]] for key in keys]
        ends = np.array([min(every[0]), max(every[0])])
        rate = sum(every[1]) / sum(every[0])
        axes.plot(ends, rate * ends, "--", color=ORANGE, label=f"{1e3 * rate:.2f} ms a token")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set_xlabel("tokens")
    axes.legend(loc="best", fontsize=7)


# What a file has to hold for a panel.
PANELS: dict[str, list[Callable[[Axes, Sequence[Facts]], None]]] = {
    "ratios": [step_ratios, step_memory],
    "runs": [rollout_speeds],
    "phases": [roofline],
    "cells": [growth],
}


def page(found: Sequence[Facts]) -> Figure:
    """Every panel of which there are facts, two side by side."""
    drawn = [
        (draw, chosen)
        for key, panels in PANELS.items()
        if (chosen := [one for one in found if key in one])
        for draw in panels
    ]
    rows = -(-len(drawn) // 2)
    figure = Figure(figsize=(2 * PANEL[0], rows * PANEL[1]), dpi=DPI, layout="constrained")
    places = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, (draw, chosen) in zip(places[: len(drawn)], drawn, strict=True):
        axes.set_axisbelow(True)
        draw(axes, chosen)
    for axes in places[len(drawn) :]:
        axes.remove()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/perf.png"))
    given = parser.parse_args()
    found = [json.loads(path.read_text(encoding="utf-8")) for path in given.files]
    if not any(key in one for one in found for key in PANELS):
        parser.error(f"none of these files holds one of {', '.join(PANELS)}")
    with our_settings():
        figure = page(found)
        FigureCanvasAgg(figure).print_png(given.out, metadata={"Software": None})


if __name__ == "__main__":
    main()
