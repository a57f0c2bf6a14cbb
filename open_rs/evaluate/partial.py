"""The score of an evaluation that is not finished, to look at while it runs."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from open_rs.evaluate.scores import mean_interval


class PartialScore:
    """pass@1 of the samples so far, with its interval over problems.

    Short completions end first, and the problems come in the order of the file, so it is not yet
    the score: it tells whether something is wrong, and how much is still open.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = ()) -> None:
        self._counts: dict[str, list[int]] = {}  # problem id: [correct, decided]
        for row in rows:
            self.add(row)

    def add(self, row: dict[str, Any]) -> None:
        if row["correct"] is not None:
            counts = self._counts.setdefault(row["problem_id"], [0, 0])
            counts[0] += row["correct"]
            counts[1] += 1

    def text(self) -> str:
        if not self._counts:
            return "nothing graded yet"
        correct, decided = np.array(list(self._counts.values())).T
        found = mean_interval(correct / decided, 0.95, int(decided.sum()))
        return (
            f"pass@1 so far {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] "
            f"on {len(correct)} problems"
        )
