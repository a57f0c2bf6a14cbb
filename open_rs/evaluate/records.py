"""The files of a finished evaluation: `records.jsonl`, every sample, `problems.jsonl`, what was
asked, and `summary.json`, the scores.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_rs.errors import InputError
from open_rs.evaluate.majority import majority_row
from open_rs.evaluate.scores import score_table
from open_rs.problems import Problem, problem_lines, read_jsonl
from open_rs.rollout.protocol import Rollout, SearchedRollout
from open_rs.runs import read_json, write_chunks, write_json, write_text
from open_rs.scripts import outside_share

RECORDS, SUMMARY, PROBLEMS = "records.jsonl", "summary.json", "problems.jsonl"
JUDGE = "math-verify"  # the library that decides what is correct: its version moves scores
SUMMARY_KEYS = ("name", "step", "num_problems", "num_samples", "scores", "fingerprint")
TEXT = ("completion", "completion_ids")  # what makes a record large

Row = dict[str, Any]


def problems_hash(problems: Iterable[Problem]) -> str:
    """Content hash of a set of problems, whatever their order (16 hex digits of SHA-256)."""
    rows = sorted((one.id, one.problem, one.answer) for one in problems)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def record_row(
    problem_id: str, rollout: Rollout, *, seed: int, policy_version: str, with_ids: bool = False
) -> Row:
    """The record of a graded sample; `correct` is null where the grader could not judge."""
    grade = rollout.grade
    assert grade is not None
    return {
        "problem_id": problem_id,
        "sample": rollout.sample,
        "completion": rollout.completion,
        **({"completion_ids": rollout.completion_ids} if with_ids else {}),
        "num_tokens": rollout.num_tokens,
        "finish_reason": rollout.finish_reason,
        "outcome": grade.outcome,
        "extracted": grade.extracted,
        "correct": grade.correct if grade.decided else None,
        "seed": seed,
        "policy_version": policy_version,
        **likelihood(rollout),
        **({"usd": rollout.usd} if rollout.usd is not None else {}),
        **({"error": rollout.error} if rollout.error is not None else {}),
    }


def likelihood(rollout: Rollout) -> Row:
    """The mean log-prob of a completion's tokens under its sampler, and what a search has drawn."""
    logprobs = rollout.engine_logprobs
    told: Row = {"mean_logprob": sum(logprobs) / len(logprobs)} if logprobs else {}
    if isinstance(rollout, SearchedRollout):
        kept = [{"num_tokens": tokens, "mean_logprob": mean} for tokens, mean in rollout.kept]
        told["search"] = {"drawn": rollout.drawn, "read_tokens": rollout.read_tokens, "kept": kept}
    return told


def drawn_tokens(row: Row) -> int:
    """The tokens that a sample has cost: a search counts what it has dropped, too."""
    return sum(map(sum, row["search"]["drawn"])) if "search" in row else int(row["num_tokens"])


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
    """The score table of these records: pass@1, pass@k and, from two samples on, maj@k."""
    counts = tally(rows)
    known = counts.decided > 0
    if not known.any():
        raise InputError(
            "the grader could judge none of the samples, so there is no score; look at the "
            "outcomes, and raise grade.timeout_s if they are timeouts"
        )
    table = score_table(
        counts.correct[known],
        counts.decided[known],
        num_samples=num_samples,
        confidence=confidence,
    )
    voted = majority_row(rows, num_samples=num_samples, confidence=confidence)
    if voted is not None and num_samples > 1:
        table[f"maj@{num_samples}"] = voted
    return table


def shares_of(rows: Sequence[Row]) -> dict[str, float]:
    """Shares over all samples, and tokens. `other_script_frac` is the mean share of letters outside
    the expected scripts, which `light` has measured.
    """
    total = len(rows)
    tokens = sum(row["num_tokens"] for row in rows)
    drawn = sum(map(drawn_tokens, rows))
    return {
        "truncated_frac": sum(row["finish_reason"] == "length" for row in rows) / total,
        "no_answer_frac": sum(row["outcome"] == "no_answer" for row in rows) / total,
        "undecided_frac": sum(row["correct"] is None for row in rows) / total,
        "other_script_frac": sum(row["other_script"] for row in rows) / total,
        "mean_tokens": tokens / total,
        "tokens_per_problem": drawn / len({row["problem_id"] for row in rows}),
    }


def cost_of(rows: Sequence[Row], seconds: float, usd_per_hour: float | None) -> Row:
    """Seconds, tokens per second, and dollars where there is a price: the machine's by the hour,
    and what each answer of an endpoint has cost.
    """
    asked = [row["usd"] for row in rows if "usd" in row]
    rented = [] if usd_per_hour is None else [seconds / 3600 * usd_per_hour]
    return {
        "seconds": seconds,
        "tokens_per_s": sum(map(drawn_tokens, rows)) / seconds,
        "endpoint_usd": sum(asked) if asked else None,
        "usd": sum(asked + rented) if asked or rented else None,
    }


def light(row: Row, scripts: tuple[str, ...]) -> Row:
    """A record without its text, which is measured instead."""
    small = {key: value for key, value in row.items() if key not in TEXT}
    return {**small, "other_script": outside_share(row["completion"], scripts)}


def total_tokens(summary: Row) -> int:
    """Every token that an evaluation has generated."""
    return round(summary["tokens_per_problem"] * summary["num_problems"])


def is_finished(folder: Path) -> bool:
    """Whether an evaluation was written here: its summary goes last."""
    return (folder / SUMMARY).exists()


def write_problems(folder: Path, problems: Iterable[Problem]) -> None:
    """What was asked and the golds, so that the folder can be graded anew by itself."""
    write_text(folder / PROBLEMS, problem_lines(replace(one, solution="") for one in problems))


def write_records(folder: Path, rows: Iterable[Row]) -> None:
    lines = (json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n" for row in rows)
    write_chunks(folder / RECORDS, lines)


def write_evaluation(folder: Path, rows: Iterable[Row], summary: Row) -> None:
    """The summary goes last: where it is, the evaluation is complete."""
    write_records(folder, rows)
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


def iter_records(folder: Path, summary: Row) -> Iterator[Row]:
    """Every sample of a finished evaluation, one at a time, checked against its summary."""
    path, seen = folder / RECORDS, set()
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
        yield row
    wanted = summary["num_problems"] * summary["num_samples"]
    if len(seen) != wanted:
        raise InputError(
            f"{path}: holds {len(seen)} samples and {SUMMARY} counts {wanted}; evaluate again"
        )


def read_records(folder: Path, summary: Row) -> list[Row]:
    """All of `iter_records`."""
    return list(iter_records(folder, summary))
