"""Which figures of metrics.jsonl are drawn, in which chart, and what is marked on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from open_rs.report.load import Row, RunData


@dataclass(frozen=True)
class Line:
    key: str  # of metrics.jsonl
    label: str
    low: str | None = None  # keys of a band around the line
    high: str | None = None


@dataclass(frozen=True)
class Chart:
    id: str
    title: str
    note: str
    unit: str  # "percent", "number" or "seconds"
    lines: tuple[Line, ...]
    smooth: bool = True  # draw a trailing mean over the steps in bold
    stacked: bool = False
    zero: bool = True  # the axis begins at 0 unless values are below
    absent: str = "not recorded"
    references: tuple[tuple[str, float], ...] = field(default=())  # (label, value): dashed lines


REWARD_FIGURES = ("mean", "std", "undecided_frac")

CHARTS = (
    Chart(
        "validation",
        "Held-out pass@1",
        "Validation problems, never trained on; band: interval.",
        "percent",
        (Line("validation/pass@1", "pass@1", "validation/pass@1_low", "validation/pass@1_high"),),
        smooth=False,
        zero=False,
        absent="no validation set was scored",
    ),
    Chart("reward", "Reward and its parts", "Mean over the step's rollouts.", "number", ()),
    Chart(
        "length",
        "Completion length, tokens",
        "Median with the band from the 10th to the 90th percentile.",
        "number",
        (
            Line(
                "completion/p50_tokens",
                "median",
                "completion/p10_tokens",
                "completion/p90_tokens",
            ),
            Line("completion/mean_tokens", "mean"),
        ),
        smooth=False,
    ),
    Chart(
        "truncated",
        "Truncated completions",
        "Share that ran into the cap.",
        "percent",
        (Line("completion/truncated_frac", "truncated"),),
    ),
    Chart(
        "drift",
        "Loops and other scripts",
        "Share of repeated passages, and of letters outside the Latin script.",
        "percent",
        (
            Line("completion/repetition_frac", "repeated"),
            Line("completion/other_script_frac", "other scripts"),
        ),
    ),
    Chart(
        "groups",
        "Groups without signal",
        "Share of groups whose rollouts all earned the same: they teach nothing.",
        "percent",
        (
            Line("groups/dead_frac", "dead groups"),
            Line("groups/unsolved_dead_frac", "of them not solved"),
        ),
    ),
    Chart(
        "entropy",
        "Entropy of the policy, nats",
        "Mean over trained tokens; a fall to 0 ends exploration.",
        "number",
        (Line("policy/entropy", "entropy"),),
    ),
    Chart(
        "kl",
        "KL to the start",
        "k3 estimate against the frozen start, per token.",
        "number",
        (Line("policy/kl", "KL"),),
    ),
    Chart(
        "engine",
        "KL between sampler and trainer",
        "Should be near 0: what was sampled is what is trained.",
        "number",
        (Line("policy/engine_kl", "engine KL"),),
    ),
    Chart(
        "gradient",
        "Gradient norm",
        "Before it is scaled down to the limit.",
        "number",
        (Line("optim/grad_norm", "norm"),),
    ),
    Chart(
        "clip",
        "Clipped tokens",
        "Share whose ratio left the trust region.",
        "percent",
        (
            Line("policy/clip_low_frac", "below"),
            Line("policy/clip_high_frac", "above"),
        ),
    ),
    Chart(
        "rate",
        "Learning rate",
        "Warm-up, then cosine.",
        "number",
        (Line("optim/learning_rate", "rate"),),
        smooth=False,
    ),
    Chart(
        "undecided",
        "Undecided rollouts",
        "Grader or reward failed; left out of the group's mean.",
        "percent",
        (Line("reward/undecided_frac", "undecided"),),
    ),
    Chart(
        "seconds",
        "Time per step",
        "Where the seconds of a step go.",
        "seconds",
        (Line("time/rollout_s", "rollout"), Line("time/update_s", "update")),
        smooth=False,
        stacked=True,
    ),
)

EVENT_KINDS = {  # event -> (what it is called, how it is marked)
    "save": ("checkpoint saved", "tick"),
    "select": ("chosen checkpoint", "star"),
    "skipped_step": ("step skipped", "cross"),
    "resume": ("resumed", "dash"),
    "alarm": ("alarm", "cross"),
    "roll_back": ("rolled back to here", "dash"),
    "change": ("setting changed", "tick"),
    "stop": ("stopped", "dash"),
}


def curves(data: RunData) -> Row:
    """The charts that have something to show as JSON for the page, and a note for each other."""
    charts, absent = [], []
    for chart in CHARTS:
        lines = [_series(data.metrics, line) for line in _lines(chart, data)]
        lines = [line for line in lines if line["steps"]]
        if not lines:
            absent.append({"title": chart.title, "why": _why_absent(chart, data)})
            continue
        references = [{"label": label, "value": value} for label, value in _references(chart, data)]
        charts.append(_drawn(chart, lines) | {"references": references})
    return {"charts": charts, "absent": absent, "events": marks(data), "last_step": data.last_step}


def overlaid(runs: Sequence[RunData], names: Sequence[str]) -> Row:
    """The charts of several runs, a line per run: a chart of several lines becomes one for each."""
    made: list[Row] = []
    for chart in CHARTS:
        keys = dict.fromkeys(line for data in runs for line in _lines(chart, data))
        for line in keys:
            series = [
                _series(data.metrics, line) | {"label": name, "run": place}
                for place, (data, name) in enumerate(zip(runs, names, strict=True))
            ]
            series = [one for one in series if one["steps"]]
            if series:
                several = len(keys) > 1
                made.append(
                    _drawn(chart, series)
                    | {
                        "id": f"{chart.id}-{line.key.replace('/', '-')}" if several else chart.id,
                        "title": f"{chart.title}: {line.label}" if several else chart.title,
                        "stacked": False,
                    }
                )
    marked = [
        mark | {"run": place, "label": f"{name}: {mark['label']}"}
        for place, (data, name) in enumerate(zip(runs, names, strict=True))
        for mark in marks(data)
    ]
    last = max((data.last_step for data in runs), default=0)
    return {"charts": made, "absent": [], "events": marked, "last_step": last}


def _drawn(chart: Chart, lines: list[Row]) -> Row:
    """A chart as JSON for the page."""
    return {
        "id": chart.id,
        "title": chart.title,
        "note": chart.note,
        "unit": chart.unit,
        "zero": chart.zero,
        "stacked": chart.stacked,
        "smooth": smoothing_window(len(lines[0]["steps"])) if chart.smooth else 1,
        "lines": lines,
        "references": [],
    }


def _why_absent(chart: Chart, data: RunData) -> str:
    if chart.id == "kl" and data.recipe and not data.recipe["loss"]["kl_coef"]:
        return "loss.kl_coef is 0, so no reference model was kept"
    return chart.absent


def smoothing_window(num_points: int) -> int:
    """Steps in the trailing mean that is drawn in bold: a twentieth of the run, none below 20."""
    return max(1, num_points // 20) if num_points >= 20 else 1


def _lines(chart: Chart, data: RunData) -> tuple[Line, ...]:
    """The lines of a chart; the parts of the reward are named by the run itself."""
    if chart.id != "reward":
        return chart.lines
    names = {
        key.removeprefix("reward/")
        for row in data.metrics
        for key in row
        if key.startswith("reward/")
    }
    weights = {f"{name}_weight" for name in names}  # scheduled ones stand in metrics.jsonl
    parts = sorted(names.difference(REWARD_FIGURES, weights))
    return (Line("reward/mean", "reward"), *(Line(f"reward/{part}", part) for part in parts))


def _series(rows: list[Row], line: Line) -> Row:
    """The points of a line: steps, values and, where there is a band, its ends."""
    points = [row for row in rows if _is_number(row.get(line.key))]
    series: Row = {
        "label": line.label,
        "key": line.key,
        "steps": [row["step"] for row in points],
        "values": [_short(row[line.key]) for row in points],
    }
    if (
        line.low
        and line.high
        and all(_is_number(row.get(line.low)) and _is_number(row.get(line.high)) for row in points)
    ):
        series["low"] = [_short(row[line.low]) for row in points]
        series["high"] = [_short(row[line.high]) for row in points]
    return series


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _short(value: float) -> float:
    """Six significant digits are more than a chart shows."""
    return float(f"{value:.6g}")


def _references(chart: Chart, data: RunData) -> list[tuple[str, float]]:
    """Fixed values that a curve is read against, from the recipe."""
    recipe = data.recipe
    if chart.id == "validation":
        first = next((row for row in data.metrics if _is_number(row.get("validation/pass@1"))), {})
        if first.get("step") == 0:
            return [("before training", _short(first["validation/pass@1"]))]
    if chart.id == "length" and recipe:
        return [("cap", float(recipe["rollout"]["max_completion_tokens"]))]
    if chart.id == "gradient" and recipe:
        return [("limit", float(recipe["train"]["max_grad_norm"]))]
    return []


def marks(data: RunData) -> list[Row]:
    """Events that are drawn on the curves, once per kind, step and what they are about."""
    seen: dict[tuple[str, int, str], Row] = {}
    for row in data.events:
        kind, step = row["event"], row.get("step")
        if kind in EVENT_KINDS and isinstance(step, int):
            label, mark = EVENT_KINDS[kind]
            detail = str(row.get("detector") or row.get("key") or "")
            label += f": {detail}" if detail else ""
            seen[kind, step, detail] = {"step": step, "kind": kind, "label": label, "mark": mark}
    for row in data.metrics:
        if row.get("optim/skipped"):
            label, mark = EVENT_KINDS["skipped_step"]
            kind, step = "skipped_step", row["step"]
            seen[kind, step, ""] = {"step": step, "kind": kind, "label": label, "mark": mark}
    return sorted(seen.values(), key=lambda mark: mark["step"])
