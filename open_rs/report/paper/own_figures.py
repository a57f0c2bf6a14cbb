"""Figures 2 to 5 of runs of one's own: scores, reward, KL and length over steps."""

from collections.abc import Sequence

from open_rs.report.curves import smoothing_window
from open_rs.report.paper.ours import OurRun, file_part
from open_rs.report.paper.plot import Figure, Panel, Point, Series, percent
from open_rs.report.paper.tables import TITLES

NO_SCORES = "no evaluation in this run"


def own_figure_2(run: OurRun) -> Figure:
    """A run's scores over its steps, the paper's two benchmarks first."""
    sets = [name for name in sets_of(run) if len(steps_of(run, name)) > 1] or sets_of(run)
    panels = [own_score_panel(run, name) for name in sets]
    caption = [
        f"Scores of {run.label} over its steps, with the 95 % interval over problems (after "
        "Figure 2 of arXiv 2503.16219). Dashed: the base, which is step 0, and its interval.",
        *(
            f"{name}: n = {one.n} problems, k = {one.k} samples each; {one.harness}."
            for name in sets
            if (one := next((s for s in run.scores if s.held == name), None))
        ),
    ]
    if "validation" in sets:
        caption.append("The checkpoint is chosen on validation: its score there is no test score.")
    for name in sets:
        steps = [step for step in steps_of(run, name) if step]
        if name != "validation" and len(steps) > 1:
            caption.append(
                f"{name}: scored for the checkpoints of steps {', '.join(map(str, steps))}; to "
                "report the best of them is to choose on the test set."
            )
    caption += [] if panels else [NO_SCORES]
    return Figure(
        f"figure2_{file_part(run.label)}",
        f"{run.label}: scores over training steps",
        panels or [Panel("scores", "step", "pass@1, %", [], empty=NO_SCORES)],
        max(1, min(len(panels), 3)),
        caption,
    )


def sets_of(run: OurRun) -> list[str]:
    """The sets that a run was scored on: the figure's own benchmarks, validation, the others."""
    first = ("amc23", "math500", "validation")
    names = {one.held for one in run.scores}
    return [*(name for name in first if name in names), *sorted(names.difference(first))]


def steps_of(run: OurRun, held: str) -> list[int]:
    return [one.step for one in run.scores if one.held == held]


def own_score_panel(run: OurRun, held: str) -> Panel:
    scores = [one for one in run.scores if one.held == held]
    points = [percent(one.step, one.value, one.low, one.high) for one in scores]
    series = [Series("base", points[:1], "level", "base")] if scores[0].step == 0 else []
    style = "line" if len(points) > 2 else "marks"  # between two scores nothing was measured
    series.append(Series("checkpoint", points, style, "ours"))
    chosen = [Point(one.x, one.y) for one in points if one.x and one.x == run.selected]
    if chosen:
        series.append(Series("chosen on validation", chosen, "star", "ours"))
    return Panel(TITLES.get(held, held), "step", f"{TITLES.get(held, held)} pass@1, %", series)


def own_curves(run: OurRun) -> list[Figure]:
    """Figures 3 and 4 for a run that pays for accuracy, as experiments 1 and 2 did, and 5 for one
    with the cosine reward of experiment 3.
    """
    about = "over optimizer steps; the paper's axis counts local steps, about 30 to one of them"
    length = length_panel(run)
    figures = []
    if "cosine" in run.rewards():
        figures.append(("figure5", "KL and length, cosine reward (experiment 3)", kl_panel(run)))
    if "accuracy" in run.rewards() or not figures:
        figures.append(("figure3", "accuracy reward and length (experiment 1)", reward_panel(run)))
        figures.append(("figure4", "KL and length (experiment 2)", kl_panel(run)))
    return [
        Figure(
            f"{name}_{file_part(run.label)}",
            f"{run.label}: {title.partition(' (')[0]}",
            [panel, length],
            2,
            [
                f"{run.label}: {title.partition(' (')[0]} {about} (after F{name[1:6]} {name[6]} of "
                "arXiv 2503.16219, whose own curves were not published).",
                "Thin: each step. Bold: trailing mean. Length in tokens, band from the 10th to the "
                "90th percentile of the step's completions: their spread, no error of the mean.",
                *([f"{panel.title}: {panel.empty}."] if panel.empty else []),
            ],
        )
        for name, title, panel in figures
    ]


def reward_panel(run: OurRun) -> Panel:
    return curve_panel(
        run, "reward/accuracy", "accuracy reward", "accuracy reward, mean", "no accuracy reward"
    )


def kl_panel(run: OurRun) -> Panel:
    off = not run.data.recipe["loss"].get("kl_coef")
    why = "loss.kl_coef is 0, so no KL was computed" if off else "no KL in metrics.jsonl"
    return curve_panel(run, "policy/kl", "KL divergence", "KL to the base, nats per token", why)


def curve_panel(run: OurRun, key: str, title: str, y_label: str, absent: str) -> Panel:
    points = [Point(row["step"], row[key]) for row in run.data.metrics if is_number(row.get(key))]
    if not points:
        return Panel(title, "step", y_label, [], empty=absent)
    window = smoothing_window(len(points))
    series = [Series("each step", points, "faint" if window > 1 else "line", "ours")]
    if window > 1:
        bold = trailing_mean(points, window)
        series.append(Series(f"mean of {window} steps", bold, "line", "ours"))
    return Panel(title, "step", y_label, series, from_zero=key == "policy/kl")


def length_panel(run: OurRun) -> Panel:
    rows = [row for row in run.data.metrics if is_number(row.get("completion/mean_tokens"))]
    if not rows:
        return Panel("completion length", "step", "tokens", [], empty="no lengths in metrics.jsonl")
    keys = ("completion/mean_tokens", "completion/p10_tokens", "completion/p90_tokens")
    ends = [[row.get(key) if is_number(row.get(key)) else None for key in keys[1:]] for row in rows]
    points = [Point(row["step"], row[keys[0]], *band) for row, band in zip(rows, ends, strict=True)]
    series = [Series("mean, 10th to 90th percentile", points, "line", "ours")]
    cap = run.data.recipe["rollout"].get("max_completion_tokens")
    if isinstance(cap, int):
        series.append(Series("cap", [Point(0.0, cap)], "level", "base"))
    return Panel("completion length", "step", "tokens", series, from_zero=True)


def trailing_mean(points: Sequence[Point], window: int) -> list[Point]:
    """The mean of each point and up to `window` - 1 before it."""
    means = []
    for place, point in enumerate(points):
        held = points[max(0, place - window + 1) : place + 1]
        means.append(Point(point.x, sum(one.y for one in held) / len(held)))
    return means


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
