"""The filters: problems and settings in, for each problem None (keep it) or a `Drop` out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_rs.errors import InputError
from open_rs.grade import Grade
from open_rs.grade.exact import exact_verdict
from open_rs.normalise import normalised, normalised_answer
from open_rs.problems import Problem, last_boxed


@dataclass(frozen=True)
class Drop:
    """Why a problem goes: `reason` is one of a few texts, which the funnel counts; `detail` is
    about this problem alone, such as the row that it copies.
    """

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


Verdict = Drop | None


def boxed(problems: Sequence[Problem]) -> list[Verdict]:
    r"""Drops problems whose solution holds no \boxed{} with balanced braces and a content."""

    def verdict(problem: Problem) -> Verdict:
        if not problem.solution.strip():
            return Drop("no solution")
        content = last_boxed(problem.solution)
        if content is None:
            return Drop("no \\boxed{} in the solution")
        return None if content.strip() else Drop("empty \\boxed{} in the solution")

    return [verdict(problem) for problem in problems]


GOLD_REASONS = {
    "wrong": "gold does not grade itself correct",
    "no_answer": "gold cannot be read as an answer",
    "bad_gold": "gold cannot be parsed",
    "timeout": "grading the gold against itself took too long",
    "error": "grading the gold against itself failed",
}


def gold(
    problems: Sequence[Problem], check_gold: Callable[[str], Grade], *, show: int = 60
) -> list[Verdict]:
    """Drops problems whose gold is empty, unparseable or does not grade itself correct.

    `check_gold` is called once per distinct gold; a detail shows `show` characters of it at most.
    """
    grades: dict[str, Grade] = {}

    def verdict(problem: Problem) -> Verdict:
        answer = problem.answer
        if not answer.strip():
            return Drop("no gold")
        if answer not in grades:
            grades[answer] = check_gold(answer)
        if grades[answer].correct:
            return None
        shown = answer if len(answer) <= show else answer[:show] + "..."
        return Drop(GOLD_REASONS[grades[answer].outcome], shown)

    return [verdict(problem) for problem in problems]


def exact_duplicates(problems: Sequence[Problem]) -> list[Verdict]:
    """Of problems with the same normalised text keeps the first; none where their golds differ."""
    first: dict[str, Problem] = {}
    golds: dict[str, list[str]] = {}  # of a text: the different golds, as first written
    texts = [normalised(problem.problem) for problem in problems]
    for text, problem in zip(texts, problems, strict=True):
        first.setdefault(text, problem)
        known = golds.setdefault(text, [])
        if not any(_same_gold(one, problem.answer) for one in known):
            known.append(problem.answer)

    def verdict(text: str, problem: Problem) -> Verdict:
        if len(golds[text]) > 1:
            written = " / ".join(repr(gold) for gold in golds[text])
            return Drop("duplicates with different answers", written)
        return None if first[text] is problem else Drop("duplicate", f"of {first[text].id}")

    return [verdict(text, problem) for text, problem in zip(texts, problems, strict=True)]


def _same_gold(one: str, other: str) -> bool:
    """Equal in spelling, or to the grader at once, whichever of the two is the gold."""
    if normalised_answer(one) == normalised_answer(other):
        return True
    return "correct" in (exact_verdict(one, other), exact_verdict(other, one))


def contamination(
    problems: Sequence[Problem], held_out: Mapping[str, Sequence[Problem]]
) -> list[Verdict]:
    """Drops problems whose normalised text is that of a problem in a `held_out` set (by name)."""
    where: dict[str, Drop] = {}
    for name, members in held_out.items():
        for member in members:
            where.setdefault(
                normalised(member.problem), Drop(f"copy of a row of {name}", member.id)
            )
    return [where.get(normalised(problem.problem)) for problem in problems]


@dataclass(frozen=True)
class PassRate:
    """How often a model solved a problem: `correct` of the `decided` of `num_samples` samples."""

    correct: int
    decided: int
    num_samples: int


def pass_rate(
    problems: Sequence[Problem], rates: Mapping[str, PassRate], *, above: float, below: float
) -> list[Verdict]:
    """Keeps problems with above < correct / decided < below; `rates` is by problem id.

    Samples that the grader could not decide count neither way; a problem without a decided one is
    dropped under a reason of its own.
    """

    def verdict(problem: Problem) -> Verdict:
        rate = rates[problem.id]
        if rate.decided == 0:
            return Drop("pass rate undecided", f"none of {rate.num_samples} samples was graded")
        detail = f"{rate.correct} of {rate.decided} correct"
        if rate.correct / rate.decided <= above:
            return Drop(f"pass rate not above {above:g}", detail)
        if rate.correct / rate.decided >= below:
            return Drop(f"pass rate not below {below:g}", detail)
        return None

    return [verdict(problem) for problem in problems]


def custom(problems: Sequence[Problem], keep: Callable[[Problem], Any], name: str) -> list[Verdict]:
    """The user's `keep(problem)`, known as `name`: a reason to drop the problem, or None."""

    def verdict(problem: Problem) -> Verdict:
        try:
            reason = keep(problem)
        except Exception as error:
            raise InputError(
                f"filter {name}: problem {problem.id} made it raise {type(error).__name__}: "
                f"{error}; mend the function"
            ) from error
        if reason is None:
            return None
        if not isinstance(reason, str) or not reason.strip():
            raise InputError(
                f"filter {name}: returned {reason!r} for problem {problem.id}; return the reason "
                "to drop it as text, or None to keep it"
            )
        return Drop(reason)

    return [verdict(problem) for problem in problems]
