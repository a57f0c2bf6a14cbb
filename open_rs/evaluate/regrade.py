"""Old samples under the grader of this version: nothing is sampled."""

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from open_rs.console import progress
from open_rs.errors import InputError
from open_rs.evaluate.records import (
    JUDGE,
    PROBLEMS,
    RECORDS,
    SUMMARY,
    Row,
    iter_records,
    light,
    read_summary,
    scores_of,
    shares_of,
    write_records,
)
from open_rs.grade import Grade, Grader
from open_rs.machine import package_version
from open_rs.problems import load_problems
from open_rs.recipe import Source
from open_rs.runs import write_json

AHEAD = 256  # completions that are being judged at a time
SHOWN = 20  # changed samples that the result names


def regrade(folder: Path, *, workers: int = 1, timeout_s: float = 5.0) -> dict[str, Any]:
    """Grade the records of a finished evaluation anew and compute its summary from them.

    The summary of another policy stays as summary.policy-N.json. Returns the scores before and
    after, and what changed: {"outcome -> outcome": how often}, and the first samples of which that
    is true.
    """
    old = read_summary(folder)
    golds = golds_of(folder)
    fingerprint = old["fingerprint"]
    was = fingerprint["grader_policy"]
    changes: Counter[str] = Counter()
    changed: list[Row] = []
    rows: list[Row] = []
    with Grader(
        workers=workers, timeout_s=timeout_s, unboxed_numbers="+unboxed_numbers" in was
    ) as grader:
        policy = grader.policy_version
        opens_think = bool(fingerprint.get("opens_think"))
        total = old["num_problems"] * old["num_samples"]
        with progress(f"{old['name']}: grading", total) as advance:

            def graded() -> Iterator[Row]:
                for row, grade in judged(folder, old, golds, grader, opens_think):
                    new = regraded_row(row, grade, policy)
                    if (row["outcome"], row["extracted"]) != (new["outcome"], new["extracted"]):
                        changes[f"{row['outcome']} -> {new['outcome']}"] += 1
                        if len(changed) < SHOWN:
                            changed.append(difference_of(row, new))
                    rows.append(light(new, tuple(old.get("scripts", ("latin",)))))
                    advance(1)
                    yield new

            if was != policy:
                write_json(folder / f"summary.policy-{was}.json", old)
            write_records(folder, graded())
    confidence = old["scores"]["pass@1"]["confidence"]
    scores = scores_of(rows, num_samples=old["num_samples"], confidence=confidence)
    judge = {JUDGE: package_version(JUDGE)}
    new_fingerprint = fingerprint | {
        "grader_policy": policy,
        "versions": fingerprint.get("versions", {}) | judge,
    }
    summary = {**old, "scores": scores, **shares_of(rows), "fingerprint": new_fingerprint}
    write_json(folder / SUMMARY, summary)
    return {
        "name": old["name"],
        "policies": [was, policy],
        "samples": total,
        "changes": dict(changes.most_common()),
        "changed": changed,
        "scores": {"before": old["scores"], "after": scores},
    }


def golds_of(folder: Path) -> dict[str, str]:
    if not (folder / PROBLEMS).is_file():
        raise InputError(
            f"{folder}: holds no {PROBLEMS} with the golds, so its {RECORDS} cannot be graded "
            "anew; evaluate again, or grade the completions by open-rs grade"
        )
    return {one.id: one.answer for one in load_problems(Source(path=str(folder / PROBLEMS)))}


def judged(
    folder: Path, summary: Row, golds: dict[str, str], grader: Grader, opens_think: bool
) -> Iterator[tuple[Row, Grade | None]]:
    """(record, its new grade) in their order; None where there was no completion to grade."""
    waiting: deque[tuple[Row, Future[Grade] | None]] = deque()
    for row in iter_records(folder, summary):
        if row["problem_id"] not in golds:
            raise InputError(
                f"{folder / PROBLEMS}: problem {row['problem_id']!r} of {RECORDS} is missing"
            )
        future = None
        if "error" not in row:
            gold = golds[row["problem_id"]]
            future = grader.submit(row["completion"], gold, opens_think=opens_think)
        waiting.append((row, future))
        if len(waiting) > AHEAD:
            yield settled(*waiting.popleft())
    while waiting:
        yield settled(*waiting.popleft())


def settled(row: Row, future: Future[Grade] | None) -> tuple[Row, Grade | None]:
    return row, None if future is None else future.result()


def regraded_row(row: Row, grade: Grade | None, policy: str) -> Row:
    if grade is None:
        return {**row, "policy_version": policy}
    return {
        **row,
        "outcome": grade.outcome,
        "extracted": grade.extracted,
        "correct": grade.correct if grade.decided else None,
        "policy_version": policy,
    }


def difference_of(old: Row, new: Row) -> Row:
    """One changed sample, as `changed` lists it."""
    return {
        "problem_id": old["problem_id"],
        "sample": old["sample"],
        "outcome": [old["outcome"], new["outcome"]],
        "extracted": [old["extracted"], new["extracted"]],
    }
