"""The filters that need nothing but the rows, the grader or a function of the user's."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_rs.curate.inputs import function_hash, held_out_source, source_hashes
from open_rs.curate.stages import Drop, Fetch, Row, Setting, Verdict
from open_rs.errors import InputError
from open_rs.grade import Grade, Grader
from open_rs.grade.exact import exact_verdict
from open_rs.grade.extract import last_boxed
from open_rs.grade.policy import policy_version
from open_rs.normalise import normalised, normalised_answer
from open_rs.plugins import load_function
from open_rs.problems import Problem, load_problems
from open_rs.recipe import (
    BoxedFilter,
    ContaminationFilter,
    CustomFilter,
    ExactDuplicatesFilter,
    GoldFilter,
    Recipe,
)

FETCHED_AT_ONCE = 4096


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
SHOWN_CHARACTERS = 60  # of a gold, in a detail
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
        long = len(answer) > SHOWN_CHARACTERS
        shown = answer[:SHOWN_CHARACTERS] + "..." if long else answer
        return Drop(GOLD_REASONS[grades[answer].outcome], shown)

    return [verdict(problem) for problem in problems]


@contextmanager
def open_gold(spec: GoldFilter, setting: Setting) -> Iterator[CheckGold]:
    grade = setting.recipe.grade
    with Grader(workers=grade.workers, timeout_s=grade.timeout_s) as grader:
        yield grader.check_gold


def grading_inputs(spec: Any, recipe: Recipe) -> Row:
    version = policy_version(unboxed_numbers=recipe.grade.unboxed_numbers)
    return {"grade": {"policy_version": version, "timeout_s": recipe.grade.timeout_s}}


def text_hashes(
    problems: Sequence[Problem], spec: ExactDuplicatesFilter
) -> NDArray[np.uint64]:  # [rows, 2]
    """128 bits of each normalised text."""
    texts = (normalised(one.problem).encode() for one in problems)
    digests = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


def exact_duplicates(
    hashes: NDArray[np.uint64], fetch: Fetch, spec: ExactDuplicatesFilter
) -> list[Verdict]:
    """Of problems with the same normalised text keeps the first; none where their golds differ."""
    verdicts: list[Verdict] = [None] * len(hashes)
    groups = equal_rows(hashes)
    members = np.sort(np.concatenate(groups)) if groups else np.empty(0, dtype=np.int64)
    known: dict[int, tuple[str, str]] = {}  # of a row: id and gold
    for start in range(0, len(members), FETCHED_AT_ONCE):
        rows = members[start : start + FETCHED_AT_ONCE].tolist()
        known |= {row: (one.id, one.answer) for row, one in zip(rows, fetch(rows), strict=True)}
    for group in groups:
        first, *copies = group.tolist()
        golds = different_golds(known[row][1] for row in (first, *copies))
        if len(golds) > 1:
            conflict = Drop("duplicates with different answers", " / ".join(map(repr, golds)))
            for row in (first, *copies):
                verdicts[row] = conflict
        else:
            for row in copies:
                verdicts[row] = Drop("duplicate", f"of {known[first][0]}")
    return verdicts


def equal_rows(hashes: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """The groups of two and more rows of `hashes` [rows, 2] that are equal, each in row order."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal rows stay in row order
    ordered = hashes[order]
    changes = np.flatnonzero(np.any(ordered[1:] != ordered[:-1], axis=1)) + 1
    starts = np.concatenate(([0], changes))
    ends = np.concatenate((changes, [len(ordered)]))
    several = ends - starts > 1
    return [order[start:end] for start, end in zip(starts[several], ends[several], strict=True)]


def different_golds(golds: Iterator[str] | Sequence[str]) -> list[str]:
    """The golds that differ, each as it is first written."""
    known: list[str] = []
    for gold in golds:
        if not any(same_gold(one, gold) for one in known):
            known.append(gold)
    return known


def same_gold(one: str, other: str) -> bool:
    """Equal in spelling, or to the grader at once, whichever of the two is the gold."""
    if normalised_answer(one) == normalised_answer(other):
        return True
    return "correct" in (exact_verdict(one, other), exact_verdict(other, one))


HeldOutTexts = Mapping[str, Drop]  # by normalised text


def contamination(
    problems: Sequence[Problem], spec: ContaminationFilter, texts: HeldOutTexts
) -> list[Verdict]:
    """Drops problems whose normalised text is that of a held-out problem."""
    return [texts.get(normalised(problem.problem)) for problem in problems]


def held_out_texts(held_out: Mapping[str, Sequence[Problem]]) -> HeldOutTexts:
    """What to say of a copy of a problem in a `held_out` set (by name)."""
    texts: dict[str, Drop] = {}
    for name, members in held_out.items():
        for member in members:
            texts.setdefault(
                normalised(member.problem), Drop(f"copy of a row of {name}", member.id)
            )
    return texts


@contextmanager
def open_contamination(spec: ContaminationFilter, setting: Setting) -> Iterator[HeldOutTexts]:
    sources = {name: held_out_source(setting.recipe, name) for name in spec.against}
    yield held_out_texts({name: load_problems(one, raw=True) for name, one in sources.items()})


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


def held_out_inputs(spec: ContaminationFilter, recipe: Recipe) -> Row:
    sources = {name: held_out_source(recipe, name) for name in spec.against}
    return {
        "held_out": {name: one.model_dump(mode="json") for name, one in sources.items()},
        "files": {
            key: hash_ for one in sources.values() for key, hash_ in source_hashes(one).items()
        },
    }


def custom_inputs(spec: CustomFilter, recipe: Recipe) -> Row:
    return {"files": function_hash(spec.function)}
