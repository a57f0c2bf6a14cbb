"""Figures 1 to 5: their data, the CSV that equals what is drawn, and pictures that can be read."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from scipy import stats
from synthetic_run import CAP, make_run

from open_rs.report.paper.draw import canvas_of, draw, legend_columns, our_settings
from open_rs.report.paper.facts import BASE, Facts, load_facts, score_of
from open_rs.report.paper.figures import (
    costs_of,
    dollar_ticks,
    figure_1,
    figure_2,
    mean_over_seeds,
    next_seed,
)
from open_rs.report.paper.ours import OurRun, open_run
from open_rs.report.paper.own_figures import own_curves, own_figure_2, trailing_mean
from open_rs.report.paper.plot import Figure, Panel, Point, Series, figure_csv
from open_rs.runs import read_json, read_log, write_json, write_jsonl


@pytest.fixture(scope="module")
def facts() -> Facts:
    return load_facts()


@pytest.fixture
def run(tmp_path: Path) -> OurRun:
    folder = make_run(tmp_path / "mine", num_steps=60)
    return open_run(folder.path, "mine", None, [])


def with_kl_and_cosine(tmp_path: Path) -> OurRun:
    folder = make_run(tmp_path / "cosine", num_steps=8)
    recipe = read_json(folder.recipe)
    recipe["rewards"] = [{"type": "cosine"}, {"type": "format"}]
    recipe["loss"]["kl_coef"] = 0.04
    write_json(folder.recipe, recipe)
    rows = read_log(folder.metrics)
    write_jsonl(folder.metrics, [row | {"policy/kl": row["step"] / 100} for row in rows])
    return open_run(folder.path, "cosine", None, [])


def rows_of(figure: Figure) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(figure_csv(figure))))


def values(row: dict[str, str]) -> tuple[float, ...]:
    return tuple(float(row[key]) for key in ("x", "y", "low", "high") if row[key])


def test_figure_1_places_each_model_at_its_size_and_cost(facts: Facts) -> None:
    rows = {(row["panel"], row["series"]): values(row) for row in rows_of(figure_1(facts, []))}
    assert rows["against model size", "Llama-3.1-70B-Instruct"] == (70, 16.7)
    assert rows["against training cost", "DeepScaleR-1.5B-Preview"] == (3629, 43.1)
    assert rows["against training cost", "Still-3-1.5B-Preview"] == (2268, 32.5)
    assert rows["against model size", "o1-preview"] == (44.6,)  # a line: its size is not published
    assert ("against training cost", "rStar-Math-7B") not in rows  # no dollars in the paper
    costs = {name: usd for name, usd in costs_of(facts).items() if usd is not None}
    assert [costs[f"Open-RS{n}"] for n in (1, 2, 3)] == [42, 42, 42] and len(costs) == 7


def test_figure_1_has_the_interval_of_one_sample_a_problem(facts: Facts) -> None:
    left = figure_1(facts, []).panels[0]
    (authors,) = [one for one in left.series if one.role == "authors"]
    best = authors.points[authors.names.index("Open-RS3")]
    ends = stats.binomtest(14, 30).proportion_ci(0.95, method="wilson")
    assert (best.low, best.high) == pytest.approx((100 * ends.low, 100 * ends.high), abs=0.1)
    (others,) = [one for one in left.series if one.role == "others" and one.style == "marks"]
    assert all(point.low is None for point in others.points)
    assert "Open-RS3's 46.7 is the best of 21 checkpoints" in " ".join(figure_1(facts, []).caption)


def test_figure_2_is_every_checkpoint_of_the_csv_with_its_band(
    facts: Facts, data_dir: Path
) -> None:
    with (data_dir.parent / "paper" / "open_rs_checkpoints.csv").open(newline="") as file:
        wanted = {
            (row["experiment"], row["benchmark"].replace("_", ""), int(row["step"])): float(
                row["extractive_match"]
            )
            for row in csv.DictReader(file)
            if row["benchmark"] in ("amc23", "math_500")
        }
    drawn = {}
    titles = {"AMC23": "amc23", "MATH-500": "math500"}
    for row in rows_of(figure_2(facts)):
        if row["series"] == "checkpoint":
            name, experiment = row["panel"].split(", experiment ")
            step, *ends = values(row)
            drawn[experiment, titles[name], int(step)] = ends
    assert drawn.keys() == wanted.keys() and len(wanted) == 42
    for key, share in wanted.items():
        n = {"amc23": 40, "math500": 500}[key[1]]
        ends = stats.binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
        assert drawn[key] == pytest.approx([100 * share, 100 * ends.low, 100 * ends.high], abs=1e-3)


def test_figure_2_shows_the_base_twice_and_what_was_released(facts: Facts) -> None:
    panel = figure_2(facts).panels[0]
    levels = {one.label: one.points[0] for one in panel.series if one.style == "level"}
    ends = stats.binomtest(25, 40).proportion_ci(0.95, method="wilson")  # 25 / 40 = 0.625
    base = levels["base, Table 1"]
    assert base.y == pytest.approx(62.9)
    assert (base.low, base.high) == pytest.approx((100 * ends.low, 100 * ends.high), abs=0.5)
    assert levels["base, re-measured"].y == pytest.approx(71.5)
    stars = [
        (panel.title, one.points[0].x, round(one.points[0].y, 1))
        for panel in figure_2(facts).panels
        for one in panel.series
        if one.style == "star"
    ]
    assert stars[:3] == [  # the checkpoints of 100, 50 and 50 steps
        ("AMC23, experiment 1", 100, 70.0),
        ("AMC23, experiment 2", 50, 80.0),
        ("AMC23, experiment 3", 50, 72.5),
    ]


def test_spread_over_seeds_by_hand(facts: Facts) -> None:
    base = score_of(facts.remeasured, BASE, "amc23")
    assert base is not None and (base.mean, base.std, base.seeds) == (0.715, 0.039, 10)
    # t(9, .975) = 2.26216; 2.26216 x .039 x sqrt(1.1) = .09253; / sqrt(10): .02790
    assert next_seed(base) == pytest.approx((0.715 - 0.09253, 0.715 + 0.09253), abs=1e-5)
    low, high = next_seed(base)
    amc = [one.score.mean for one in facts.checkpoints if one.score.benchmark == "amc23"]
    assert len(amc) == 21 and sum(low <= one <= high for one in amc) == 17 and max(amc) <= high
    assert mean_over_seeds(base) == pytest.approx((0.715 - 0.02790, 0.715 + 0.02790), abs=1e-5)


def test_scores_of_a_run_over_its_steps(run: OurRun) -> None:
    figure = own_figure_2(run)
    assert [panel.title for panel in figure.panels] == ["validation", "test"]
    validation = figure.panels[0].series
    assert [one.label for one in validation] == ["base", "checkpoint", "chosen on validation"]
    assert validation[0].points[0].y == pytest.approx(42.0)  # 0.42 + 0.3 x 0 / 60
    assert [point.x for point in validation[1].points] == [0, 10, 20, 30, 40, 50, 60]
    assert validation[1].points[-1] == Point(60, *map(pytest.approx, (72.0, 67.0, 77.0)))
    assert validation[2].points[0].x == 50


def test_curves_of_a_run(run: OurRun, tmp_path: Path) -> None:
    third, fourth = own_curves(run)
    assert (third.name, fourth.name) == ("figure3_mine", "figure4_mine")
    metrics = {row["step"]: row for row in run.data.metrics}
    raw, bold = third.panels[0].series
    assert [point.y for point in raw.points] == [
        metrics[n]["reward/accuracy"] for n in range(1, 61)
    ]
    assert bold.label == "mean of 3 steps"
    assert bold.points[-1].y == pytest.approx(np.mean([point.y for point in raw.points[-3:]]))
    length, cap = third.panels[1].series
    first = metrics[1]
    assert length.points[0] == Point(
        1,
        first["completion/mean_tokens"],
        first["completion/p10_tokens"],
        first["completion/p90_tokens"],
    )
    assert cap.points[0].y == CAP
    assert fourth.panels[0].empty == "loss.kl_coef is 0, so no KL was computed"
    (fifth,) = own_curves(with_kl_and_cosine(tmp_path))
    assert fifth.name == "figure5_cosine"
    assert [point.y for point in fifth.panels[0].series[0].points][-1] == 0.08


def test_ticks_of_costs() -> None:
    assert dollar_ticks([42, None, 3629]) == (
        *((10, "$10"), (100, "$100"), (1000, "$1,000"), (10000, "$10,000")),
    )
    # 0.0003 to 3,629: nine decades, every other one
    assert [text for _, text in dollar_ticks([0.0003, 3629])] == [
        *("$0.0001", "$0.01", "$1", "$100", "$10,000")
    ]
    assert dollar_ticks([None]) == ()


def test_trailing_mean() -> None:
    points = [Point(n, y) for n, y in enumerate((1.0, 3.0, 8.0))]
    # 1; (1 + 3) / 2; (3 + 8) / 2
    assert [one.y for one in trailing_mean(points, 2)] == [1.0, 2.0, 5.5]


def drawn_values(axes: Axes) -> set[tuple[Any, ...]]:
    """What lies on the axes, rounded: points, bars from low to high, corners of bands, levels."""
    held: list[tuple[Any, ...]] = []
    for line in axes.lines:
        xs, ys = (np.asarray(one, float) for one in (line.get_xdata(), line.get_ydata()))
        if line.get_transform() == axes.get_yaxis_transform():
            held.append(("level", ys[0]))
        elif len(xs) == 2 and xs[0] == xs[1]:
            held.append(("bar", xs[0], *ys))
        else:
            held += [("point", *pair) for pair in zip(xs, ys, strict=True)]
    for one in axes.collections:
        if isinstance(one, PolyCollection):
            held += [("corner", *vertex) for path in one.get_paths() for vertex in path.vertices]
        else:
            held += [("point", *pair) for pair in np.asarray(one.get_offsets())]
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        held.append(("span", patch.get_y(), patch.get_y() + patch.get_height()))
    return {(kind, *(round(float(value), 4) for value in rest)) for kind, *rest in held}


@pytest.mark.parametrize("name", ["figure1", "figure2", "own2", "own3"])
def test_the_csv_equals_what_is_drawn(name: str, facts: Facts, run: OurRun) -> None:
    figure = {
        "figure1": lambda: figure_1(facts, []),
        "figure2": lambda: figure_2(facts),
        "own2": lambda: own_figure_2(run),
        "own3": lambda: own_curves(run)[0],
    }[name]()
    with our_settings():
        canvas = canvas_of(figure)
    by_title = {axes.get_title(): drawn_values(axes) for axes in canvas.axes}
    apart = {one.title for one in figure.panels for two in one.series if two.style == "marks"}
    told: dict[str, set[tuple[Any, ...]]] = {title: set() for title in by_title}
    for row in rows_of(figure):
        x, y, low, high = (
            round(float(row[key]), 4) if row[key] else None for key in ("x", "y", "low", "high")
        )
        banded = low is not None
        held = told[row["panel"]]
        if x is None:
            held |= {("level", y)} | ({("span", low, high)} if banded else set())
        else:
            held.add(("point", x, y))
        if x is not None and banded and row["panel"] in apart:
            held.add(("bar", x, low, high))
        elif x is not None and banded:
            held |= {("corner", x, low), ("corner", x, high)}
    assert sum(map(len, told.values())) > 10
    for title, held in told.items():
        drawn = by_title[title]
        assert held <= drawn
        # A band's outline also closes on itself; nothing else is drawn that the CSV lacks.
        assert {one for one in drawn - held if one[0] != "corner"} == set()


def test_same_bytes_each_time_whatever_the_users_settings(facts: Facts) -> None:
    once = draw(figure_2(facts))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "k", "svg.hashsalt": "x"}):
        assert draw(figure_2(facts)) == once
        assert matplotlib.rcParams["font.size"] == 30  # and theirs are left alone
    assert b"<dc:date>" not in once["svg"] and b"matplotlib.org" not in once["png"]
    assert b"Wilson interval" in once["svg"]  # the caption is in the file
    assert once["png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("with_run", [False, True])
def test_labels_of_figure_1_do_not_overlap(with_run: bool, facts: Facts, run: OurRun) -> None:
    runs: list[OurRun] = []
    if with_run:
        score = replace(run.scores[0], held="aime24", step=50, value=0.3, low=0.2, high=0.4)
        run.scores.append(score)
        run.parameters = 1_500_000_000
        runs = [run, replace(run, label="another run with a long name")]
    with our_settings():
        canvas = canvas_of(figure_1(facts, runs))
        canvas.canvas.draw()
        renderer = FigureCanvasAgg(canvas).get_renderer()
        for axes in canvas.axes:
            texts = [one for one in axes.texts if isinstance(one, Annotation)]
            assert len(texts) >= 4
            for one in texts:
                one.update_positions(renderer)
            boxes = [Text.get_window_extent(one, renderer) for one in texts]
            inside = axes.get_window_extent()
            for place, box in enumerate(boxes):
                assert inside.x0 <= box.x0 and box.x1 <= inside.x1, texts[place].get_text()
                assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_every_band_of_a_row_of_panels_is_inside_its_axis(facts: Facts) -> None:
    figure = figure_2(facts)
    with our_settings():
        canvas = canvas_of(figure)
    for axes, panel in zip(canvas.axes, figure.panels, strict=True):
        points = [point for one in panel.series for point in one.points]
        low, high = axes.get_ylim()
        assert low <= min(one.y if one.low is None else one.low for one in points)
        assert high >= max(one.y if one.high is None else one.high for one in points)


def test_the_legend_fits(facts: Facts, run: OurRun) -> None:
    for figure in (figure_1(facts, []), figure_2(facts), own_figure_2(run), *own_curves(run)):
        with our_settings():
            canvas = canvas_of(figure)
            canvas.canvas.draw()
            box = canvas.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= canvas.bbox.x1 and box.y0 >= 0
    assert legend_columns(["ab", "cd"], 10) == 2 and legend_columns(["x" * 60] * 4, 10) == 2


@pytest.mark.parametrize("label", ["$x_1$ ^{", "日本語", "<b>&", "a\\b", "x" * 300])
def test_any_name_can_be_drawn(label: str) -> None:
    points = [Point(1.0, 2.0, 1.0, 3.0)]
    panel = Panel(label, "x", "y", [Series(label, points, "marks", "ours", (label,))], log_x=True)
    made = draw(Figure("f", label, [panel], 1, [label]))
    assert made["svg"].rstrip().endswith(b"</svg>") and len(made["png"]) > 1000


def test_nothing_to_draw_is_said_in_its_place() -> None:
    panel = Panel("t", "x", "y", [], empty="no evaluation in this run")
    with our_settings():
        (axes,) = canvas_of(Figure("f", "t", [panel], 1)).axes
        found: list[Any] = [one.get_text() for one in axes.texts]
    assert found == ["no evaluation in this run"]
