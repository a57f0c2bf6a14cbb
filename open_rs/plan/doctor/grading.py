"""The grader: it starts, judges as it should, and kills what hangs."""

from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, warn
from open_rs.plan.doctor.machine import usable_cores
from open_rs.plan.doctor.subject import Subject
from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.train.isolation import IsolatedFailure, IsolatedFunction

ALGEBRA = (r"\boxed{\sqrt{2}\sqrt{3}}", r"\sqrt{6}")  # only a worker can tell
PAIRS = (  # completion, gold, outcome
    (r"\boxed{42}", "42", "correct"),
    (r"so \boxed{\frac{1}{2}}", "0.5", "correct"),
    (r"\boxed{1} and then \boxed{2}", "2", "correct"),
    (r"\boxed{(x+1)^2}", "x^2+2x+1", "correct"),
    (r"\boxed{43}", "42", "wrong"),
    (r"\boxed{2}", r"\sqrt{2}", "wrong"),
    ("I do not know.", "42", "no_answer"),
)
HANG_S = 0.5


def starts(subject: Subject) -> Verdict:
    """A worker starts, and judges within grade.timeout_s."""
    grade = subject.grader.grade(*ALGEBRA)
    if grade.outcome == "timeout":
        return fail(
            f"a simple answer takes more than grade.timeout_s = {subject.recipe.grade.timeout_s:g}",
            "raise grade.timeout_s",
        )
    if not grade.correct:
        return fail(
            f"{ALGEBRA[0]} against {ALGEBRA[1]} is {grade.outcome}",
            "reinstall math-verify and sympy",
        )
    return ok(f"{1000 * grade.seconds:.0f} ms for the first answer")


def known_pairs(subject: Subject) -> Verdict:
    """Answers of which the verdict is known get it."""
    for completion, gold, outcome in PAIRS:
        grade = subject.grader.grade(completion, gold)
        if grade.outcome != outcome:
            return fail(
                f"{completion} against {gold} is {grade.outcome}, and should be {outcome}",
                "install open-rs and math-verify anew",
            )
    return ok(f"{len(PAIRS)} pairs")


def hang(subject: Subject) -> Verdict:
    """What hangs in a worker is killed."""
    problem, rollout = Problem("hang", "?", "!"), Rollout([], [], "", "stop")
    group = RolloutGroup(problem, [], [rollout])
    with IsolatedFunction(f"{__name__}:for_ever", timeout_s=HANG_S) as function:
        try:
            function(rollout, problem, group=group)
        except IsolatedFailure as failure:
            if "was killed" in str(failure):
                return ok(f"killed after {HANG_S:g} s")
    return fail(
        f"a function that never ends was not killed after {HANG_S:g} s",
        "run on Linux or macOS, outside a sandbox that keeps signals away",
    )


def for_ever(rollout: Rollout, problem: Problem) -> float:
    """Never returns."""
    while True:
        pass


def workers(subject: Subject) -> Verdict:
    """No more grading processes than cores."""
    number, cores = subject.recipe.grade.workers, usable_cores()
    if number > cores:
        return warn(
            f"grade.workers = {number} on {cores:g} cores: answers time out that would not",
            f"set grade.workers = {max(int(cores), 1)}",
        )
    return ok(f"{number} on {cores:g} cores")


CHECKS = (
    Check("grader.workers", workers),
    Check("grader.starts", starts, ahead=True),
    Check("grader.known_pairs", known_pairs, needs=("grader.starts",)),
    Check("grader.hang", hang, ahead=True),
)
