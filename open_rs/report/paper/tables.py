"""Tables 1 to 3 of the paper and the costs of runs, as texts."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from open_rs.benchmarks import BENCHMARKS as KNOWN
from open_rs.evaluate.scores import Interval, wilson
from open_rs.evaluate.tables import plain
from open_rs.plan.cost import PRICES
from open_rs.report.costs import RunCost
from open_rs.report.format import points
from open_rs.report.paper.facts import BENCHMARKS, COST_COLUMNS, Facts
from open_rs.report.paper.ours import UNEXPECTED, OurRun, OurScore
from open_rs.report.paper.render import Cell, Table

NORMAL_95 = 1.959964  # quantile of the standard normal for a 95 % interval
TITLES = {
    "aime24": "AIME24",
    "math500": "MATH-500",
    "amc23": "AMC23",
    "minerva": "Minerva",
    "olympiadbench": "OlympiadBench",
}
TABLE_1 = {
    "model": "Model",
    "size": "Size",
    **{name: f"{title} (n = {KNOWN[name].num_problems})" for name, title in TITLES.items()},
    "average": "Average",
    "k": "k",
    "harness": "Harness",
}
OTHER_SETS = {
    "model": "Model",
    "set": "Set",
    "score": "pass@1",
    "low": "low",
    "high": "high",
    "n": "n",
    "k": "k",
    "harness": "Harness",
}
TABLES_2_3 = {
    **dict(
        zip(
            COST_COLUMNS,
            (
                *("Model", "Base model", "SFT data", "Reward model", "RL data × samples"),
                *("Hardware", "Hours", "Dollars"),
            ),
            strict=True,
        )
    ),
    "device_hours": "Device-hours",
}
COSTS = {
    "run": "Run",
    "phase": "Phase",
    "device_hours": "Device-hours",
    "share": "Share, %",
    "tokens": "Tokens",
    "usd": "Dollars",
}
SCORES = ("model", "benchmark", "score", "low", "high", "n", "k", "harness")


def single_pass(mean: float, problems: int) -> Interval:
    """Wilson's 95 % interval of one sample of each of `problems` problems."""
    return wilson(mean, problems, NORMAL_95)


def table_1(facts: Facts, runs: Sequence[OurRun]) -> Table:
    """Every row of the paper, then a row for each step of a run that was scored on one of its
    benchmarks, with intervals wherever the number of samples is known.
    """
    rows = [paper_row(facts, row) for row in facts.table1]
    notes = [
        "percent; [low, high] is the 95 % interval over problems: Wilson's for the authors' one "
        "sample a problem, that of open-rs evaluate for runs; none where k is not told",
        "the paper took scores of several harnesses into one table: a difference between rows of "
        "two harnesses is none between two models",
        "average: of the five figures as they are printed here; none is set in bold, since a "
        "highest figure is no verdict",
    ]
    chosen = [
        f"{one.model} on {TITLES[one.benchmark]} (of {one.best_of})"
        for one in facts.scores
        if one.best_of > 1 and facts.samples.get(plain(one.model)) == 1
    ]
    if chosen:
        notes.append(
            "the best of the checkpoints that were scored on these very problems, so on average "
            f"more than the model would score again: {', '.join(chosen)}"
        )
    for run in runs:
        rows += own_rows(run)
        notes += comparison_notes(run)
    return Table(
        "table1",
        "Table 1: zero-shot pass@1 (arXiv 2503.16219), runs of open-rs below",
        TABLE_1,
        rows,
        notes,
    )


def paper_row(facts: Facts, row: dict[str, str]) -> dict[str, Cell]:
    cells = {name: Cell(row[name]) for name in ("model", "size")}
    samples = facts.samples.get(plain(row["model"]))
    told: str | None = None
    for name in BENCHMARKS:
        score = facts.score(row["model"], name)
        told = told or (score.harness if score else None)
        beside = ""
        if score is not None and samples == 1:
            beside = span(single_pass(score.mean, score.problems))
        cells[name] = Cell(row[name], beside)
    cells["average"] = Cell(average([row[name] for name in BENCHMARKS]))
    cells["k"] = Cell(str(samples or "not told"))
    cells["harness"] = Cell(told or "not told")
    return cells


def own_rows(run: OurRun) -> list[dict[str, Cell]]:
    """A row for each step of `run` that was scored on one of the paper's benchmarks."""
    rows = []
    for step in sorted({one.step for one in run.scores if one.held in BENCHMARKS}):
        scores = [one for name in BENCHMARKS if (one := run.score(name, step))]
        cells = {name: Cell() for name in TABLE_1}
        cells["model"] = Cell(row_name(run, step))
        cells["size"] = Cell(size_text(run.parameters))
        for one in scores:
            asked = KNOWN[one.held].num_problems
            beside = span(one) + (f", n = {one.n}" if one.n != asked else "")
            cells[one.held] = Cell(f"{100 * one.value:.1f}", beside)
        cells["average"] = Cell(average([cells[name].text for name in BENCHMARKS]))
        cells["k"] = Cell(", ".join(dict.fromkeys(str(one.k) for one in scores)))
        cells["harness"] = Cell("; ".join(dict.fromkeys(one.harness for one in scores)))
        rows.append(cells)
    return rows


def row_name(run: OurRun, step: int) -> str:
    if step == 0:
        return f"{run.model}, the base of {run.label}"
    chosen = ", chosen on validation" if step == run.selected else ""
    return f"{run.label}, step {step}{chosen}"


def comparison_notes(run: OurRun) -> list[str]:
    """What the run's own paired comparisons of base and selected checkpoint found."""
    notes = []
    for path in sorted((run.data.run.path / "evaluations").glob("comparison*.json")):
        found = run.data.object(path)
        held = path.stem.removeprefix("comparison").lstrip("-") or "test"
        try:
            d, p = found["difference"], found.get("p_adjusted") or found["p_value"]
            notes.append(
                f"{run.label}, {held}: after - before {points(d['value'])} points "
                f"[{points(d['low'])}, {points(d['high'])}], paired by problem, "
                f"n = {found['num_problems']}, k = {found['num_samples']}, p = {p:.2g}: "
                f"{found['verdict']}"
            )
        except UNEXPECTED:
            notes.append(f"{run.label}: {path.name} is not as expected")
    return notes


def other_sets(runs: Sequence[OurRun]) -> Table:
    """Scores of runs on test sets that are none of the paper's."""
    rows = [
        {
            "model": Cell(row_name(run, one.step)),
            "set": Cell(one.held),
            **{key: Cell(f"{100 * getattr(one, name):.1f}") for key, name in ENDS.items()},
            **{key: Cell(str(getattr(one, key))) for key in ("n", "k", "harness")},
        }
        for run in runs
        for one in run.scores
        if one.held not in (*BENCHMARKS, "validation")
    ]
    return Table("table1_other_sets", "Runs on other test sets, percent", OTHER_SETS, rows)


ENDS = {"score": "value", "low": "low", "high": "high"}


def score_rows(facts: Facts, runs: Sequence[OurRun]) -> list[list[str]]:
    """Every score of Table 1 and of the runs, one a row, in the order of SCORES."""
    rows = []
    for row in facts.table1:
        samples = facts.samples.get(plain(row["model"]))
        for name in BENCHMARKS:
            if (one := facts.score(row["model"], name)) is None:
                continue
            ends = single_pass(one.mean, one.problems) if samples == 1 else None
            low, high = (f"{100 * ends.low:.2f}", f"{100 * ends.high:.2f}") if ends else ("", "")
            told = [str(one.problems), str(samples or ""), one.harness or ""]
            rows.append([row["model"], name, row[name], low, high, *told])
    for run in runs:
        for own in run.scores:
            figures = [f"{100 * value:.2f}" for value in (own.value, own.low, own.high)]
            told = [str(own.n), str(own.k), own.harness]
            rows.append([row_name(run, own.step), own.held, *figures, *told])
    return rows


def average(texts: Iterable[str]) -> str:
    """The mean of figures to one decimal; empty where one is blank."""
    held = list(texts)
    return f"{sum(map(float, held)) / len(held):.1f}" if all(map(str.strip, held)) else ""


def span(one: Interval | OurScore) -> str:
    return f"[{100 * one.low:.1f}, {100 * one.high:.1f}]"


def size_text(parameters: int | None) -> str:
    """1.5B, 135M."""
    if parameters is None:
        return ""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if parameters >= scale:
            return f"{parameters / scale:.3g}{unit}"
    return str(parameters)


def tables_2_3(facts: Facts, runs: Sequence[OurRun]) -> list[Table]:
    """Data and cost of 7B and of 1.5B models; Open-RS and runs stand in both, as in the paper."""
    own = [run_row(run) for run in runs if run.cost is not None]
    tables = []
    for number, size in ((2, "7B"), (3, "1.5B")):
        rows = [
            {name: Cell(row[name]) for name in COST_COLUMNS}
            | {"device_hours": Cell(device_hours(row["hardware"], row["hours"]))}
            for row in facts.costs
            if plain(row["model"]) == "openrs"
            or (size == "7B") == ("7B" in row["base_model"].split("-"))
        ]
        tables.append(
            Table(
                f"table{number}",
                f"Table {number}: data and cost of training {size} models (arXiv 2503.16219)",
                TABLES_2_3,
                [*rows, *own],
                cost_notes(facts, runs),
            )
        )
    return tables


def device_hours(hardware: str, hours: str) -> str:
    """Devices times hours: `4x6 A100` is 24 devices, a plus adds kinds; blank without hours."""
    if not hours.strip():
        return ""
    devices = 0
    for kind in hardware.split("+"):
        found = re.match(r"\s*(\d+)x(\d+)?", kind)
        if found is None:
            return ""
        devices += int(found[1]) * int(found[2] or 1)
    return f"{devices * float(hours):g}"


def cost_notes(facts: Facts, runs: Sequence[OurRun]) -> list[str]:
    notes = []
    if facts.eval_seconds:
        hours, price = facts.eval_seconds / 3600, PRICES["A40"]
        notes.append(
            f"Open-RS: hours and dollars of training alone; scoring its checkpoints took "
            f"{hours:.1f} A40-hours more (${hours * price.usd_per_hour:.2f} at "
            f"${price.usd_per_hour:.2f} an hour), by the seconds in open_rs_checkpoints.csv"
        )
    notes.append(
        "DeepScaleR and Still-3: the text at hand has their dollars only; hardware, hours and "
        f"samples are recalled, and agree with them at ${PRICES['A100'].usd_per_hour:.2f} an "
        "A100-hour"
    )
    for run in runs:
        if run.cost is not None:
            notes.append(
                f"{run.label}: all of its ledger counts, evaluation, idle and killed time too; "
                f"{price_text(run.cost)}"
            )
    return notes


def price_text(cost: RunCost) -> str:
    if cost.rate.usd_per_hour is None:
        return cost.rate.source
    return f"${cost.rate.usd_per_hour:.2f} an hour of {cost.device} ({cost.rate.source})"


def run_row(run: OurRun) -> dict[str, Cell]:
    """A run as a row of Tables 2 and 3: training problems x group size, all hours of its device."""
    assert run.cost is not None
    total = run.cost.total
    problems = run.data.curation.get("kept")
    texts = {
        "model": run.label,
        "base_model": run.model,
        "sft_data": "0",
        "reward_model": "none",
        "rl_data_x_samples": f"{problems} x {run.data.recipe['rollout'].get('group_size')}"
        if problems
        else "",
        "hardware": f"1x {run.cost.device}",
        "hours": f"{total.device_hours:.3g}",
        "usd": "" if total.usd is None else f"{total.usd:.2f}",
        "device_hours": f"{total.device_hours:.3g}",
    }
    return {name: Cell(text) for name, text in texts.items()}


def costs_table(runs: Sequence[OurRun]) -> Table:
    """Device-hours, tokens and dollars by phase of each run."""
    rows, notes = [], []
    for run in runs:
        if run.cost is None:
            continue
        whole = run.cost.total.seconds or 1.0
        for one in [*run.cost.phases, run.cost.total]:
            texts: dict[str, Any] = {
                "run": run.label,
                "phase": one.phase,
                "device_hours": f"{one.device_hours:.4f}",
                "share": f"{100 * one.seconds / whole:.1f}",
                "tokens": str(one.tokens) if one.tokens else "",
                "usd": "" if one.usd is None else f"{one.usd:.4f}",
            }
            rows.append({name: Cell(text) for name, text in texts.items()})
        notes.append(f"{run.label}: {price_text(run.cost)}")
        notes += [f"{run.label}: {note}" for note in run.cost.notes if note != run.cost.rate.source]
    return Table("costs", "What the runs have cost, by phase", COSTS, rows, notes)
