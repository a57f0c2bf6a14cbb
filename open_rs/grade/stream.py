"""`open-rs grade`: a JSON Lines file of completions and golds in, one of grades out.

Any length in bounded memory, order kept. Whatever ends it early, every line of the output is whole.
"""

import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from open_rs.errors import InputError
from open_rs.grade.grader import Grader
from open_rs.grade.types import OUTCOMES, Grade

IN_FLIGHT = 1_000  # rows read ahead of the oldest that is not yet graded
IN_FLIGHT_CHARACTERS = 50_000_000  # of text in them


@dataclass
class GradeSummary:
    """What `grade_file` did. `complete` is False where it was interrupted."""

    policy_version: str
    rows: int = 0
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    undecided_frac: float = 0.0
    seconds: float = 0.0
    rows_per_second: float = 0.0
    complete: bool = True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def grade_file(
    source: Path,
    out: Path,
    *,
    workers: int = 1,
    timeout_s: float = 5.0,
    opens_think: bool = False,
    unboxed_numbers: bool = False,
    on_graded: Callable[[int], None] | None = None,
) -> GradeSummary:
    """Grade each row of `source` (`gold`, `completion`; other fields pass through) into `out`, with
    `outcome`, `extracted`, `seconds` and `policy_version` added.

    `on_graded` is called with 1 after each row. On Ctrl-C the rows that are done have been written,
    the summary says that it is not complete, and KeyboardInterrupt is not raised. A row that is not
    JSON or lacks a field is an InputError that names its line; the rows before it are in `out`.
    """
    if _same_file(source, out):
        raise InputError(f"{out}: is the input too; name another file to write to")
    grading = Grader(workers=workers, timeout_s=timeout_s, unboxed_numbers=unboxed_numbers)
    summary, started = GradeSummary(grading.policy_version), time.perf_counter()
    rows = _rows(source)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{source}: holds no rows; give one JSON object a line")
    counts: Counter[str] = Counter()
    with _writing(out) as sink, grading as grader:
        try:
            for row, grade in _graded(_chain(first, rows), grader, opens_think):
                counts[grade.outcome] += 1
                sink.write(_line(row, grade, grader.policy_version))
                if on_graded is not None:
                    on_graded(1)
        except KeyboardInterrupt:
            summary.complete = False
            grader.close(cancel=True)
    summary.rows = counts.total()
    summary.outcomes = {outcome: counts[outcome] for outcome in OUTCOMES}
    undecided = sum(counts[outcome] for outcome in ("bad_gold", "timeout", "error"))
    summary.undecided_frac = undecided / summary.rows if summary.rows else 0.0
    summary.seconds = time.perf_counter() - started
    summary.rows_per_second = summary.rows / summary.seconds
    return summary


def _graded(
    rows: Iterator[dict[str, Any]], grader: Grader, opens_think: bool
) -> Iterator[tuple[dict[str, Any], Grade]]:
    """(row, grade) in the order of the rows, with a bounded number of them under way. Rows that
    were read before an error in the file are still graded.
    """
    pending: deque[tuple[dict[str, Any], Future[Grade]]] = deque()
    characters = 0
    failure: InputError | None = None
    while True:
        try:
            row = next(rows, None)
        except InputError as error:
            row, failure = None, error
        if row is not None:
            opened = bool(row.get("opens_think", opens_think))
            pending.append((row, grader.submit(row["completion"], row["gold"], opens_think=opened)))
            characters += _characters(row)
        while pending and (
            row is None
            or len(pending) >= IN_FLIGHT
            or characters >= IN_FLIGHT_CHARACTERS
            or pending[0][1].done()
        ):
            oldest, future = pending.popleft()
            characters -= _characters(oldest)
            yield oldest, future.result()
        if row is None:
            break
    if failure is not None:
        raise failure


def _characters(row: dict[str, Any]) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str))


def _line(row: dict[str, Any], grade: Grade, policy_version: str) -> str:
    graded = {
        **row,
        "outcome": grade.outcome,
        "extracted": grade.extracted,
        "seconds": round(grade.seconds, 6),
        "policy_version": policy_version,
    }
    return json.dumps(graded, ensure_ascii=True) + "\n"


def _rows(source: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, each with the text fields that grading needs."""
    from open_rs.problems import read_jsonl  # pydantic, which a Grader alone does not need

    for number, row in read_jsonl(source):
        for name in ("gold", "completion"):
            if not isinstance(row.get(name), str):
                have = ", ".join(sorted(row)) or "none"
                raise InputError(
                    f"{source}, line {number}: field {name!r} is missing or not text "
                    f"(fields: {have}); every row needs gold and completion"
                )
        yield row


def _chain(first: dict[str, Any], rest: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from rest


def _same_file(source: Path, out: Path) -> bool:
    return source.exists() and out.exists() and os.path.samefile(source, out)


@contextmanager
def _writing(out: Path) -> Iterator[TextIO]:
    """`out` to write to, line by line; what stops that, such as a full disk, is an InputError."""
    try:
        with out.open("w", encoding="utf-8", buffering=1) as sink:
            yield sink
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror}); make room or name another file"
        ) from None
