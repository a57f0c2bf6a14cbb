"""The rollouts that the page carries: a stated choice of bounded size, the rest stays behind."""

from collections.abc import Sequence
from pathlib import Path

from open_rs.report.format import count, cut, size
from open_rs.report.load import Row, RunData

MAX_STEPS = 24
MAX_CHARACTERS = 4_000_000  # of text in the whole page
MAX_TEXT = 8_000  # characters of one completion, prompt or problem

KEYS = (
    "problem_id",
    "problem",
    "answer",
    "prompt",
    "sample",
    "completion",
    "completion_ids",
    "reward",
    "reward_breakdown",
    "advantage",
    "finish_reason",
    "outcome",
    "extracted",
)


def samples(data: RunData) -> Row | None:
    """Groups of evenly chosen steps and a sentence that says what was left out; None without any.

    Each chosen step gets an equal share of `MAX_CHARACTERS` and shows its groups in order until
    that is spent, one at least.
    """
    files = sorted((data.run.path / "rollouts").glob("*.jsonl.gz"))
    chosen = evenly(files, MAX_STEPS)
    steps, shown, total = [], 0, 0
    for path in chosen:
        groups = grouped(data.log(path, KEYS))
        if not groups:
            continue
        kept = within(groups, MAX_CHARACTERS // len(chosen))
        shown, total = shown + len(kept), total + len(groups)
        steps.append({"step": _step(path), "groups": kept, "of": len(groups)})
    if not steps:
        return None
    return {"steps": steps, "rule": rule(len(steps), len(files), shown, total)}


def rule(num_steps: int, of_steps: int, num_groups: int, of_groups: int) -> str:
    """What of the run's rollouts is on the page."""
    if num_steps == of_steps:
        text = f"All {count(num_steps)} steps are here"
    else:
        text = (
            f"{count(num_steps)} of {count(of_steps)} steps are here, evenly chosen, "
            "first and last included"
        )
    if num_groups == of_groups:
        text += ", each with all its groups"
    else:
        text += (
            f", with {count(num_groups)} of their {count(of_groups)} groups "
            f"(a page holds {size(MAX_CHARACTERS)} of text)"
        )
    return (
        text + f"; texts are cut after {count(MAX_TEXT)} characters. All else: rollouts/*.jsonl.gz."
    )


def evenly(items: Sequence[Path], limit: int) -> list[Path]:
    """At most `limit` of `items`, evenly spaced, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[round(index * (len(items) - 1) / (limit - 1))] for index in range(limit)]


def grouped(rows: list[Row]) -> list[Row]:
    """The rows of a step as groups, in order; a problem drawn twice makes two groups."""
    groups: list[Row] = []
    seen: set[int] = set()
    for row in rows:
        sample = row.get("sample", 0)
        if not groups or groups[-1]["id"] != row.get("problem_id") or sample in seen:
            seen = set()
            groups.append(
                {
                    "id": row.get("problem_id", ""),
                    "problem": cut(str(row.get("problem", "")), MAX_TEXT),
                    "answer": cut(str(row.get("answer", "")), MAX_TEXT),
                    "prompt": cut(str(row.get("prompt", "")), MAX_TEXT),
                    "rollouts": [],
                }
            )
        seen.add(sample)
        groups[-1]["rollouts"].append(
            {
                "sample": sample,
                "text": cut(str(row.get("completion", "")), MAX_TEXT),
                "tokens": len(row["completion_ids"]) if "completion_ids" in row else None,
                "reward": row.get("reward"),
                "parts": row.get("reward_breakdown") or {},
                "advantage": row.get("advantage"),
                "finish": row.get("finish_reason"),
                "outcome": row.get("outcome"),
                "extracted": cut(str(row["extracted"]), 200) if row.get("extracted") else None,
            }
        )
    return groups


def within(groups: list[Row], characters: int) -> list[Row]:
    """The first groups whose texts fit into `characters`, one at least."""
    spent = 0
    kept: list[Row] = []
    for group in groups:
        spent += len(group["problem"]) + len(group["prompt"])
        spent += sum(len(rollout["text"]) for rollout in group["rollouts"])
        if kept and spent > characters:
            break
        kept.append(group)
    return kept


def _step(path: Path) -> int:
    digits = path.name.split(".")[0]
    return int(digits) if digits.isdigit() else 0
