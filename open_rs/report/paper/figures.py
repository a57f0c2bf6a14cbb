"""Figures 1 and 2: the authors' scores, with the intervals that they lacked."""

import math
from collections.abc import Mapping, Sequence

from scipy.special import stdtrit

from open_rs.evaluate.tables import Published, plain
from open_rs.report.paper.facts import BASE, Checkpoint, Facts, number, parameters, score_of
from open_rs.report.paper.ours import OurRun, OurScore
from open_rs.report.paper.plot import Figure, Panel, Point, Series, percent
from open_rs.report.paper.tables import TITLES, single_pass, size_text


def figure_1(facts: Facts, runs: Sequence[OurRun]) -> Figure:
    drawn = [run for run in runs if last_score(run, "aime24") is not None]
    by_size = {row["model"]: parameters(row["size"]) for row in facts.table1}
    by_cost = costs_of(facts)
    sizes = {run.label: (run.parameters or 0) / 1e9 for run in drawn}
    spent = {
        run.label: run.cost.total.usd
        for run in drawn
        if run.cost and run.cost.total.usd is not None
    }
    unsized = [row["model"] for row in facts.table1 if not row["size"] and row["aime24"]]
    left = [*scatter(facts, by_size), *levels(facts, unsized), *own_marks(drawn, sizes)]
    right = [*scatter(facts, by_cost), *own_marks(drawn, spent)]
    y_label = "AIME24 pass@1, %"
    panels = [
        Panel(
            "against model size",
            "parameters, log scale",
            y_label,
            left,
            log_x=True,
            ticks=size_ticks([*by_size.values(), *sizes.values()]),
            empty="" if left else "no size with a score on AIME24",
        ),
        Panel(
            "against training cost",
            "cost of training in dollars, log scale",
            y_label,
            right,
            log_x=True,
            ticks=dollar_ticks([*by_cost.values(), *spent.values()]),
            empty="" if right else "no cost with a score on AIME24",
        ),
    ]
    caption = [*caption_1(facts, unsized), *own_caption_1(runs, spent)]
    title = "AIME24 pass@1 against size and cost"
    return Figure("figure1", title, panels, 2, caption, share_y=all(one.series for one in panels))


def caption_1(facts: Facts, unsized: Sequence[str]) -> list[str]:
    lines = [
        "Figure 1 (arXiv 2503.16219): AIME24 pass@1 against model size and training cost.",
        "Source: Tables 1 to 3. Bars: 95 % Wilson interval of one sample of each of 30 problems, "
        "for the authors' own models; the other scores are quoted from several papers, and how "
        "many samples a problem they are of is not told.",
        *best_of(facts),
        "Cost is that of training as published; $42 leaves out what scoring the checkpoints took.",
    ]
    again = [one for one in facts.remeasured if one.benchmark == "aime24"]
    if again:
        told = ", ".join(f"{one.model} {100 * one.mean:.1f}" for one in again)
        lines.append(
            "Diamonds: the same models under one protocol, mean over seeds with its 95 % interval "
            f"(Sober-Reasoning leaderboard): {told}."
        )
    if unsized:
        lines.append(f"Size not published, so a line: {', '.join(unsized)}.")
    return lines


def own_caption_1(runs: Sequence[OurRun], spent: Mapping[str, float]) -> list[str]:
    """What of the runs is drawn, and what is not and why."""
    lines = []
    for run in runs:
        one = last_score(run, "aime24")
        if one is None:
            lines.append(f"{run.label}: no score on aime24, so it is not drawn.")
            continue
        lines.append(
            f"{run.label}: step {one.step}, n = {one.n} problems, k = {one.k} samples each, "
            f"interval over problems; {one.harness}."
        )
        if not run.parameters:
            lines.append(f"{run.label}: holds no whole model, so it is not in the left panel.")
        if run.label not in spent:
            lines.append(f"{run.label}: its hours have no price, so it is not in the right panel.")
    return lines


def best_of(facts: Facts) -> list[str]:
    """A sentence for each AIME24 score that is the best of several checkpoints."""
    return [
        f"{one.model}'s {100 * one.mean:.1f} is the best of {one.best_of} checkpoints that were "
        f"scored on these {one.problems} problems."
        for one in facts.scores
        if one.benchmark == "aime24" and one.best_of > 1
    ]


def costs_of(facts: Facts) -> dict[str, float | None]:
    """Dollars by model of Table 1; the three Open-RS models have the cost of Open-RS."""
    held = {plain(row["model"]): number(row["usd"], "usd") for row in facts.costs}
    return {
        row["model"]: held.get(plain(row["model"]).rstrip("123"), held.get(plain(row["model"])))
        for row in facts.table1
    }


def scatter(facts: Facts, place: dict[str, float | None]) -> list[Series]:
    """AIME24 of Table 1's models where `place` has an x: the authors', others, re-measured ones."""
    found: dict[str, list[tuple[str, Point]]] = {"others": [], "authors": [], "remeasured": []}
    for row in facts.table1:
        one, x = facts.score(row["model"], "aime24"), place.get(row["model"])
        if one is None or x is None:
            continue
        if facts.samples.get(plain(row["model"])) == 1:
            ends = single_pass(one.mean, one.problems)
            found["authors"].append((row["model"], percent(x, one.mean, ends.low, ends.high)))
        else:
            found["others"].append((row["model"], percent(x, one.mean)))
        again = score_of(facts.remeasured, row["model"], "aime24")
        if again is not None:
            low, high = mean_over_seeds(again)
            found["remeasured"].append((row["model"], percent(x, again.mean, low, high)))
    labels = {
        "others": "quoted in the paper",
        "authors": "Open-RS as published, one sample a problem",
        "remeasured": "re-measured, mean over seeds",
    }
    return [
        Series(
            labels[role],
            [point for _, point in held],
            "marks",
            role,
            tuple(name for name, _ in held),
        )
        for role, held in found.items()
        if held
    ]


def levels(facts: Facts, models: Sequence[str]) -> list[Series]:
    """Models without a size as lines over the whole width."""
    return [
        Series(name, [percent(0.0, one.mean)], "level", "others")
        for name in models
        if (one := facts.score(name, "aime24")) is not None
    ]


def own_marks(runs: Sequence[OurRun], place: dict[str, float]) -> list[Series]:
    held = [
        (run.label, percent(place[run.label], one.value, one.low, one.high))
        for run in runs
        if place.get(run.label) and (one := last_score(run, "aime24"))
    ]
    if not held:
        return []
    names = tuple(name for name, _ in held)
    return [Series("runs of open-rs", [point for _, point in held], "marks", "ours", names)]


def last_score(run: OurRun, held: str) -> OurScore | None:
    """The score of the selected checkpoint, else of the last one that was scored."""
    scores = [one for one in run.scores if one.held == held and one.step]
    chosen = [one for one in scores if one.step == run.selected]
    return next(reversed(chosen or scores), None)


def size_ticks(sizes: Sequence[float | None]) -> tuple[tuple[float, str], ...]:
    return tuple((size, size_text(round(size * 1e9))) for size in sorted({s for s in sizes if s}))


def dollar_ticks(costs: Sequence[float | None]) -> tuple[tuple[float, str], ...]:
    """Powers of ten around the costs, at most seven."""
    held = [math.log10(cost) for cost in costs if cost]
    if not held:
        return ()
    first, last = math.floor(min(held)), math.ceil(max(held))
    decades = range(first, last + 1, -(-(last - first + 1) // 7))
    return tuple((10.0**one, f"${10.0**one:,g}") for one in decades)


def mean_over_seeds(one: Published) -> tuple[float, float]:
    """95 % t interval of the mean over further seeds: mean -+ t s / sqrt(m)."""
    half = t_quantile(one.seeds) * (one.std or 0.0) / one.seeds**0.5
    return one.mean - half, one.mean + half


def next_seed(one: Published) -> tuple[float, float]:
    """95 % t interval for the score of one further seed: mean -+ t s sqrt(1 + 1 / m)."""
    half = t_quantile(one.seeds) * (one.std or 0.0) * (1 + 1 / one.seeds) ** 0.5
    return one.mean - half, one.mean + half


def t_quantile(seeds: int) -> float:
    return float(stdtrit(seeds - 1, 0.975)) if seeds > 1 else 0.0


def figure_2(facts: Facts) -> Figure:
    """The authors' checkpoints: a row for each benchmark, a column for each experiment."""
    experiments = sorted({one.experiment for one in facts.checkpoints})
    panels = [
        checkpoint_panel(facts, benchmark, experiment)
        for benchmark in ("amc23", "math500")
        for experiment in experiments
    ]
    caption = [
        "Figure 2 (arXiv 2503.16219): AMC23 and MATH-500 over training steps, experiments 1 to 3.",
        "Source: the authors' lighteval results of their checkpoints (open_rs_checkpoints.csv), "
        "one sample a problem: n = 40 (AMC23) and 500 (MATH-500). Shaded: 95 % Wilson interval, "
        "which the paper does not show. Stars: the checkpoints released as Open-RS1, 2 and 3.",
        "Dashed: the base as in Table 1, quoted from other papers and measured by another harness, "
        "so no difference to it is one between models; its band is drawn as for one sample a "
        "problem, since the number is not told.",
    ]
    for benchmark in ("amc23", "math500"):
        again = score_of(facts.remeasured, BASE, benchmark)
        if again is not None:
            low, high = next_seed(again)
            caption.append(
                f"Dotted: the base under one protocol with {again.seeds} seeds "
                f"(Sober-Reasoning), {TITLES[benchmark]} {100 * again.mean:.1f}; a further seed of "
                f"it is expected in {100 * low:.1f} to {100 * high:.1f}."
            )
    return Figure(
        "figure2",
        "The authors' checkpoints over training steps",
        panels,
        len(experiments),
        caption,
        share_y=True,
    )


def checkpoint_panel(facts: Facts, benchmark: str, experiment: str) -> Panel:
    held = sorted(
        (
            one
            for one in facts.checkpoints
            if (one.experiment, one.score.benchmark) == (experiment, benchmark)
        ),
        key=lambda one: one.step,
    )
    series = base_levels(facts, benchmark)
    series.append(Series("checkpoint", [checkpoint_point(one) for one in held], "line", "authors"))
    released = [one for one in held if one.released]
    if released:
        places = [percent(one.step, one.score.mean) for one in released]
        series.append(Series("released", places, "star", "authors"))
    return Panel(
        f"{TITLES[benchmark]}, experiment {experiment}",
        "step",
        f"{TITLES[benchmark]} pass@1, %",
        series,
    )


def checkpoint_point(one: Checkpoint) -> Point:
    ends = single_pass(one.score.mean, one.score.problems)
    return percent(one.step, one.score.mean, ends.low, ends.high)


def base_levels(facts: Facts, benchmark: str) -> list[Series]:
    """The base of Table 1 with the band of one sample a problem, and as it was measured again."""
    series = []
    if (base := facts.score(BASE, benchmark)) is not None:
        ends = single_pass(base.mean, base.problems)
        point = percent(0.0, base.mean, ends.low, ends.high)
        series.append(Series("base, Table 1", [point], "level", "base"))
    if (again := score_of(facts.remeasured, BASE, benchmark)) is not None:
        point = percent(0.0, again.mean)
        series.append(Series("base, re-measured", [point], "level", "remeasured"))
    return series
