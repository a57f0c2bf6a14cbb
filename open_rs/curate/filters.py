"""The filters that need nothing but the rows, the grader or a function of the user's."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from open_rs.curate.inputs import function_hash
from open_rs.curate.stages import Drop, Row, Setting, Verdict, short
from open_rs.errors import InputError
from open_rs.grade import Grade, Grader
from open_rs.grade.extract import last_boxed
from open_rs.grade.policy import policy_version
from open_rs.plugins import load_function
from open_rs.problems import Problem
from open_rs.recipe import (
    BoxedFilter,
    CustomFilter,
    GoldFilter,
    Recipe,
)


def boxed(problems: Sequence[Problem], spec: BoxedFilter) -> list[Verdict]:
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
CheckGold = Callable[[str], Grade]


def gold(problems: Sequence[Problem], spec: GoldFilter, check_gold: CheckGold) -> list[Verdict]:
    """Drops problems whose gold is empty, unparseable or does not grade itself correct.

    `check_gold` is called once per distinct gold.
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
        return Drop(GOLD_REASONS[grades[answer].outcome], short(answer))

    return [verdict(problem) for problem in problems]


@contextmanager
def open_gold(spec: GoldFilter, setting: Setting) -> Iterator[CheckGold]:
    grade = setting.recipe.grade
    with Grader(workers=grade.workers, timeout_s=grade.timeout_s) as grader:
        yield grader.check_gold


def grading_inputs(spec: Any, recipe: Recipe) -> Row:
    version = policy_version(unboxed_numbers=recipe.grade.unboxed_numbers)
    return {"grade": {"policy_version": version, "timeout_s": recipe.grade.timeout_s}}


Keep = Callable[[Problem], Any]


def custom(problems: Sequence[Problem], spec: CustomFilter, keep: Keep) -> list[Verdict]:
    """The user's `keep(problem)`: a reason to drop the problem, or None."""

    def verdict(problem: Problem) -> Verdict:
        try:
            reason = keep(problem)
        except Exception as error:
            raise InputError(
                f"filter {spec.function}: problem {problem.id} made it raise "
                f"{type(error).__name__}: {error}; mend the function"
            ) from error
        if reason is None:
            return None
        if not isinstance(reason, str) or not reason.strip():
            raise InputError(
                f"filter {spec.function}: returned {reason!r} for problem {problem.id}; return the "
                "reason to drop it as text, or None to keep it"
            )
        return Drop(reason)

    return [verdict(problem) for problem in problems]


@contextmanager
def open_custom(spec: CustomFilter, setting: Setting) -> Iterator[Keep]:
    yield load_function(spec.function)


def custom_inputs(spec: CustomFilter, recipe: Recipe) -> Row:
    return {"files": function_hash(spec.function)}
