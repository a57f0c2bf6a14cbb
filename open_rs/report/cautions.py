"""What a careful reader would ask about the verdict, answered from the run's own files."""

from open_rs.evaluate.scores import expected_best
from open_rs.report.format import count, percent, points
from open_rs.report.load import Row, RunData
from open_rs.runs import different_keys


def cautions(data: RunData) -> list[str]:
    """A sentence for each thing that the verdict depends on."""
    found = []
    if data.comparison:
        found.append(
            "One training run with one seed: the interval covers the draw of problems and "
            "completions, not the luck of training. Repeat with other seeds before you publish."
        )
        found += _harness_cautions(data)
        if data.comparison.get("left_out"):
            found.append(
                f"{count(data.comparison['left_out'])} problems are left out of the difference: "
                "the grader could not judge them on both sides."
            )
        found += _comparison_cautions(data.comparison)
    if (step := data.selected_step) is not None:
        found.append(f"The checkpoint of step {step} was chosen on validation problems.")
    found += _uses(data)
    skipped = sum(bool(row.get("optim/skipped")) for row in data.metrics)
    if skipped:
        steps = "1 step was" if skipped == 1 else f"{count(skipped)} steps were"
        found.append(f"{steps} skipped: loss or gradient was not finite.")
    for name, summary in data.evaluations.items():
        if name.startswith("validation"):
            continue
        if (summary.get("undecided_frac") or 0) > 0:
            found.append(
                f"{name}: {percent(summary['undecided_frac'], 2)} of the samples could not be "
                "graded; they count neither way in the score."
            )
        if (summary.get("truncated_frac") or 0) >= 0.1:
            found.append(
                f"{name}: {percent(summary['truncated_frac'])} of the completions hit the cap, "
                "so the score is also a score of brevity."
            )
        trained = summary.get("training_prompt")
        if trained is not None and trained != summary["fingerprint"]["prompt"]:
            found.append(f"{name}: the prompt was not the one of training.")
        if summary.get("too_long"):
            found.append(
                f"{name}: {count(summary['too_long'])} problems left out: prompt too long."
            )
    return found


def _comparison_cautions(comparison: Row) -> list[str]:
    """What the comparison itself says beside its numbers."""
    found = []
    one = comparison.get("undecided") or {}
    if one.get("before") or one.get("after"):
        found.append(
            f"Not judged: {count(one['before'])} samples before, {count(one['after'])} after. All "
            f"of them counted against the difference, its interval is {points(one['low'])} to "
            f"{points(one['high'])}; the verdict has to bear that."
        )
    if "smallest_gain" in comparison:
        found.append(
            f"A gain of {points(comparison['smallest_gain'])} points would be found in 80 % of "
            "such comparisons; a smaller one mostly not."
        )
    if comparison.get("untold"):
        found.append(f"Taken on trust, since no file tells it: {', '.join(comparison['untold'])}.")
    return found


def _uses(data: RunData) -> list[str]:
    """How often each held-out set that chooses nothing was used, from the run's own memory."""
    found = []
    for content in dict.fromkeys(row["problems"] for row in data.test_uses):
        uses = [row for row in data.test_uses if row["problems"] == content and row["step"]]
        steps = sorted({row["step"] for row in uses})
        if len(steps) == 1:
            times = "once" if len(uses) == 1 else f"{len(uses)} times"
            found.append(f"{uses[0]['set']}: used {times}, for the checkpoint of step {steps[0]}.")
        elif steps:
            listed = ", ".join(map(str, steps))
            found.append(
                f"{uses[0]['set']}: scored for the checkpoints of steps {listed}. To report the "
                f"best of them is to choose on the test set{_best_by_chance(data, content, steps)}."
            )
    return found


def _best_by_chance(data: RunData, content: str, steps: list[int]) -> str:
    """What the best of several equal checkpoints seems to gain (the winner's curse)."""
    scores = [
        summary["scores"]["pass@1"]
        for summary in data.evaluations.values()
        if summary.get("fingerprint", {}).get("problems") == content and summary["step"] in steps
    ]
    if not scores:
        return ""
    score = sum(one["value"] for one in scores) / len(scores)
    trials = scores[0]["n"] * scores[0]["k"]
    gain = expected_best(score, trials, len(steps)) - score
    return (
        f": of {len(steps)} that do not differ the best seems up to {points(gain)} points better "
        "than they are, by chance alone"
    )


def _harness_cautions(data: RunData) -> list[str]:
    """Settings in which the harness of the two compared evaluations differs: there must be none."""
    before, after = (
        data.evaluations.get(data.comparison[side], {}).get("fingerprint")
        for side in ("before", "after")
    )
    if before is None or after is None or before == after:
        return []
    differing = ", ".join(sorted(different_keys(before, after)))
    return [
        f"Before and after were not measured quite alike; they differ in: {differing}. "
        "Part of the difference may come from that."
    ]
