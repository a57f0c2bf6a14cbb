"""The two files of an evaluation: `records.jsonl`, every sample, and `summary.json`, the scores."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_rs.errors import InputError
from open_rs.evaluate.scores import score_table
from open_rs.problems import Problem, read_jsonl
from open_rs.rollout.protocol import RolloutGroup
from open_rs.runs import read_json, write_json, write_jsonl

RECORDS, SUMMARY = "records.jsonl", "summary.json"
SUMMARY_KEYS = ("name", "step", "num_problems", "num_samples", "scores", "fingerprint")

Row = dict[str, Any]


def problems_hash(problems: Iterable[Problem]) -> str:
    """Content hash of a set of problems, whatever their order (16 hex digits of SHA-256)."""
    rows = sorted((one.id, one.problem, one.answer) for one in problems)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def record_rows(groups: Sequence[RolloutGroup], *, seed: int, policy_version: str) -> list[Row]:
    """One row per sample; `correct` is null where the grader could not judge."""
    rows = []
    for group in groups:
        for rollout in group.rollouts:
            grade = rollout.grade
            assert grade is not None
            rows.append(
                {
                    "problem_id": group.problem.id,
                    "sample": rollout.sample,
                    "completion": rollout.completion,
                    "num_tokens": rollout.num_tokens,
                    "finish_reason": rollout.finish_reason,
                    "outcome": grade.outcome,
                    "extracted": grade.extracted,
                    "correct": grade.correct if grade.decided else None,
                    "seed": seed,
                    "policy_version": policy_version,
                }
            )
    return rows


@dataclass(frozen=True)
class Tally:
    """What the records come down to, by problem: n problems in the order of their first record."""

    problem_ids: list[str]
    correct: NDArray[np.int64]  # [n]
    decided: NDArray[np.int64]  # [n]


def tally(rows: Iterable[Row]) -> Tally:
    """Count correct and decided samples by problem; one without a decided sample has 0 of both."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        count = counts.setdefault(row["problem_id"], [0, 0])
        if row["correct"] is not None:
            count[0] += row["correct"]
            count[1] += 1
    table = np.array(list(counts.values()), dtype=np.int64).reshape(-1, 2)
    return Tally(list(counts), table[:, 0], table[:, 1])


def scores_of(rows: Sequence[Row], *, num_samples: int, confidence: float) -> Row:
    """The score table of these records."""
    counts = tally(rows)
    known = counts.decided > 0
    if not known.any():
        raise InputError(
            "the grader could judge none of the samples, so there is no score; look at the "
            "outcomes, and raise grade.timeout_s if they are timeouts"
        )
    return score_table(
        counts.correct[known],
        counts.decided[known],
        num_samples=num_samples,
        confidence=confidence,
    )


def shares_of(rows: Sequence[Row]) -> dict[str, float]:
    """Shares over all samples, and mean tokens per completion."""
    total = len(rows)
    return {
        "truncated_frac": sum(row["finish_reason"] == "length" for row in rows) / total,
        "no_answer_frac": sum(row["outcome"] == "no_answer" for row in rows) / total,
        "undecided_frac": sum(row["correct"] is None for row in rows) / total,
        "mean_tokens": sum(row["num_tokens"] for row in rows) / total,
    }


def total_tokens(summary: Row) -> int:
    """Completion tokens of an evaluation."""
    return round(summary["mean_tokens"] * summary["num_problems"] * summary["num_samples"])


def is_finished(folder: Path) -> bool:
    """Whether an evaluation was written here: its summary goes last."""
    return (folder / SUMMARY).exists()


def write_evaluation(folder: Path, rows: Sequence[Row], summary: Row) -> None:
    """The summary goes last: where it is, the evaluation is complete."""
    write_jsonl(folder / RECORDS, rows)
    write_json(folder / SUMMARY, summary)


def read_summary(folder: Path) -> Row:
    path = folder / SUMMARY
    if not path.is_file():
        raise InputError(
            f"{folder}: holds no {SUMMARY}, so it is no finished evaluation; give the folder that "
            "open-rs evaluate has written"
        )
    summary = read_json(path)
    missing = [key for key in SUMMARY_KEYS if not isinstance(summary, dict) or key not in summary]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing; evaluate again")
    return summary


def read_records(folder: Path, summary: Row) -> list[Row]:
    """Every sample of a finished evaluation, checked against its summary."""
    path, rows, seen = folder / RECORDS, [], set()
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        key = (row.get("problem_id"), row.get("sample"))
        if not isinstance(key[0], str) or not isinstance(key[1], int):
            raise InputError(f"{where}: problem_id or sample is missing; evaluate again")
        if not (row.get("correct", "absent") is None or isinstance(row.get("correct"), bool)):
            raise InputError(f"{where}: correct must be true, false or null; evaluate again")
        if key in seen:
            raise InputError(
                f"{where}: sample {key[1]} of problem {key[0]!r} occurs twice; evaluate again"
            )
        seen.add(key)
        rows.append(row)
    wanted = summary["num_problems"] * summary["num_samples"]
    if len(rows) != wanted:
        raise InputError(
            f"{path}: holds {len(rows)} samples and {SUMMARY} counts {wanted}; evaluate again"
        )
    return rows
