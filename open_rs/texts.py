"""Results of the commands as text for a person; `--json` prints the same for a machine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_rs.runs import RunFolder


def comparison_text(comparison: dict[str, Any]) -> str:
    """The before/after table with intervals and the verdict."""
    percent = 100 * comparison["difference"]["confidence"]
    rows = [f"{'':<10} {'pass@1':>7}   {percent:.0f} % interval"]
    for name in ("before", "after"):
        one = comparison["scores"][name]["pass@1"]
        rows.append(f"{name:<10} {one['value']:7.3f}   [{one['low']:.3f}, {one['high']:.3f}]")
    one = comparison["difference"]
    rows.append(
        f"{'difference':<10} {one['value']:+7.3f}   [{one['low']:+.3f}, {one['high']:+.3f}]"
    )
    rows.append(
        f"n = {comparison['num_problems']} problems, k = {comparison['num_samples']} samples each, "
        f"paired by problem, p = {comparison['p_value']:.2g}"
    )
    return "\n".join([*rows, f"verdict: {comparison['verdict']}"])


def funnel_text(summary: dict[str, Any], run: "RunFolder") -> str:
    rows = [f"curate: {summary['input']} rows"]
    rows += [
        f"  {one['filter']:<18} -{one['dropped']:<5} {one['kept']} left"
        for one in summary["funnel"]
    ]
    return "\n".join([*rows, f"  {summary['kept']} problems in {run.curated}"])


def grades_text(summary: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in summary["outcomes"].items() if count)
    end = "" if summary["complete"] else "; interrupted, the rest was not graded"
    return f"{summary['rows']} rows: {counts} ({summary['rows_per_second']:.0f} rows/s){end}"


def plan_text(made: dict[str, Any]) -> str:
    seconds, memory = made["seconds"], made["memory_bytes"]
    parts = ", ".join(f"{name} {seconds[name]:.0f}" for name in seconds if name != "total")
    rows = [
        f"plan: {made['steps']} steps, {made['completions']} completions in training and "
        f"{made['evaluation_completions']} in evaluation, {made['completion_tokens_are']} "
        f"{made['completion_tokens']:,} tokens, {made['epochs']:.1f} epochs of "
        f"{made['problems']} problems",
        f"  time {seconds['total']:.0f} s ({parts}), memory {memory['total'] / 2**30:.2f} GiB",
    ]
    return "\n".join([*rows, *(f"  note: {finding}" for finding in made["findings"])])


def scores_text(summary: dict[str, Any]) -> str:
    """A line per score, with its interval, and the shares that explain it."""
    rows = [
        f"{name:<8} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        for name, one in summary["scores"].items()
    ]
    first = summary["scores"]["pass@1"]
    rows.append(
        f"n = {first['n']}, k = {first['k']}, truncated {summary['truncated_frac']:.1%}, no answer "
        f"{summary['no_answer_frac']:.1%}, {summary['mean_tokens']:.0f} tokens a completion"
    )
    return "\n".join(rows)
