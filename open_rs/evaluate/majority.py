"""maj@k: is the most frequent of a problem's k answers correct?"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_rs.evaluate.scores import score_row
from open_rs.grade.normalise import normalise

METHOD = "a tie of the most frequent answers counts as the share of them that is correct"
DRAWS = 400


def majority_row(
    rows: Iterable[Mapping[str, Any]], *, num_samples: int, confidence: float
) -> dict[str, Any] | None:
    """maj@k over records, with n, k and both intervals; None where no record holds an answer.

    Two samples give the same answer where the grader called both correct, or where their extracted
    texts are equal once normalised as the grader does it. A sample without an answer, and one that
    the grader could not judge, has no vote. The variance over samples of the same problems is that
    of `DRAWS` redraws of each problem's votes (seeded).
    """
    ballots = [one for one in votes(rows).values() if one is not None]
    if not any(counts.sum() for counts, _ in ballots):
        return None
    values = np.array([majority(counts, right) for counts, right in ballots])
    rng = np.random.default_rng(0)
    spread = np.array([_redrawn_variance(counts, right, rng) for counts, right in ballots])
    row = score_row(
        values,
        spread if num_samples > 1 else None,
        num_samples=num_samples,
        trials=len(values),
        confidence=confidence,
    )
    return row | {"ties": METHOD}


def votes(
    rows: Iterable[Mapping[str, Any]],
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.bool_]] | None]:
    """(count of each distinct answer, whether it is correct) by problem; None where the grader
    could judge none of its samples.
    """
    found: dict[str, dict[str | None, int]] = {}
    judged: set[str] = set()
    forms: dict[str, str] = {}
    for row in rows:
        counts = found.setdefault(row["problem_id"], {})
        if row["correct"] is None:
            continue
        judged.add(row["problem_id"])
        if row["correct"]:
            counts[None] = counts.get(None, 0) + 1
        elif row.get("extracted") is not None:
            text = row["extracted"]
            answer = forms[text] if text in forms else forms.setdefault(text, normalise(text))
            counts[answer] = counts.get(answer, 0) + 1
    return {
        problem: (
            np.array(list(counts.values()), dtype=np.int64),
            np.array([answer is None for answer in counts], dtype=bool),
        )
        if problem in judged
        else None
        for problem, counts in found.items()
    }


def majority(counts: NDArray[np.number], right: NDArray[np.bool_]) -> float:
    """The share of the answers [g] with most votes that is correct: 1 or 0 but for ties. `counts`
    are votes, or sums of their weights.
    """
    if not counts.sum():
        return 0.0
    return float(np.mean(right[counts == counts.max()]))


def _redrawn_variance(
    counts: NDArray[np.integer], right: NDArray[np.bool_], rng: np.random.Generator
) -> float:
    total = int(counts.sum())
    if len(counts) < 2:
        return 0.0
    drawn = rng.multinomial(total, counts / total, size=DRAWS)  # [draws, g]
    tied = drawn == drawn.max(axis=1, keepdims=True)
    scores = (tied & right).sum(axis=1) / tied.sum(axis=1)
    return total / (total - 1) * float(np.var(scores))
