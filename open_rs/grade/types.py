"""The verdict of the grader."""

from dataclasses import dataclass
from typing import Literal, get_args

Outcome = Literal["correct", "wrong", "no_answer", "bad_gold", "timeout", "error"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Grade:
    """`extracted` is the answer that was judged, None without one; `seconds` is the time that
    grading took.
    """

    outcome: Outcome
    extracted: str | None
    seconds: float

    @property
    def decided(self) -> bool:
        """Whether the completion itself was judged; else (bad gold, timeout, error) it counts
        neither way.
        """
        return self.outcome in ("correct", "wrong", "no_answer")

    @property
    def correct(self) -> bool:
        return self.outcome == "correct"
