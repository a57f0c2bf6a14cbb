"""Where two gradings of the same rows disagree: two graders, or two versions of the policy."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from open_rs.errors import InputError
from open_rs.grade.types import OUTCOMES


@dataclass(frozen=True)
class Disagreement:
    """One row with two outcomes. `row` is its number in the files, from 1."""

    row: int
    id: str | None
    gold: str
    ours: str
    theirs: str
    extracted: str | None
    their_extracted: str | None


@dataclass(frozen=True)
class Audit:
    """How two graded files compare; `changes` counts (ours, theirs) of the rows that differ."""

    rows: int
    disagreements: list[Disagreement]
    changes: dict[str, int]
    left_out: int  # disagreements beyond the limit, counted in `changes`


def audit_files(ours: Path, theirs: Path, *, limit: int = 1_000) -> Audit:
    """Compare two outputs of `open-rs grade` row by row. The rows have to be the same: as many, in
    one order, with the same ids (where there are any) and golds.
    """
    rows = 0
    kept: list[Disagreement] = []
    changes: Counter[str] = Counter()
    for number, (one, other) in enumerate(zip_longest(_outcomes(ours), _outcomes(theirs)), start=1):
        if one is None or other is None:
            shorter = ours if one is None else theirs
            raise InputError(
                f"{shorter}: ends after {number - 1} rows; grade the same rows in both"
            )
        for name in ("id", "gold"):
            if name in one and name in other and one[name] != other[name]:
                raise InputError(
                    f"{theirs}, row {number}: {name} {other[name]!r} is not {one[name]!r} as in "
                    f"{ours}; grade the same rows in the same order"
                )
        rows += 1
        if one["outcome"] != other["outcome"]:
            changes[f"{one['outcome']} / {other['outcome']}"] += 1
            if len(kept) < limit:
                kept.append(_disagreement(number, one, other))
    return Audit(rows, kept, dict(changes), changes.total() - len(kept))


def _disagreement(number: int, one: dict[str, Any], other: dict[str, Any]) -> Disagreement:
    return Disagreement(
        row=number,
        id=None if one.get("id") is None else str(one["id"]),
        gold=str(one.get("gold", "")),
        ours=one["outcome"],
        theirs=other["outcome"],
        extracted=one.get("extracted"),
        their_extracted=other.get("extracted"),
    )


def _outcomes(path: Path) -> Iterator[dict[str, Any]]:
    from open_rs.problems import read_jsonl

    for number, row in read_jsonl(path):
        if row.get("outcome") not in OUTCOMES:
            raise InputError(
                f"{path}, line {number}: outcome {row.get('outcome')!r} is none of "
                f"{', '.join(OUTCOMES)}; grade the file with open-rs grade first"
            )
        yield row
