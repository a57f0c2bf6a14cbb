"""Multi-step integer arithmetic with graded difficulty: problems without a download.

A problem is `Compute (7 + 5) * 3 - 8.`; level n has n + 1 operations. The operand of each operation
is one digit and every intermediate value lies in 0..99, so that a model of a million parameters can
learn each single operation and only the chain of them is hard. A problem belongs to exactly one
split because the split is a hash of its text; generation throws away what belongs elsewhere.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from open_rs.errors import InputError
from open_rs.problems import Problem, problem_id

Split = Literal["train", "validation", "test"]

MAX_LEVEL = 6
MAX_VALUE = 99
MIRROR_PROBABILITY = (
    0.25  # `9 - (2 + 3)` in place of `2 + 3 - 9`: what is computed first stands right
)
PATIENCE = 20_000  # draws in a row without a new problem after which a level counts as used up

# Shares of the raw rows that are defective, one kind for each curation filter; the rest is clean.
DEFECT_SHARES = {
    "no_box": 0.06,  # the solution has no \boxed{}
    "bad_gold": 0.06,  # the answer cannot be parsed, or is empty
    "duplicate": 0.08,  # a clean row again, two thirds in altered case or whitespace
    "held_out": 0.06,  # a held-out problem, altered in the same way
    "trivial": 0.10,  # one operation: the model always solves it, so that it teaches nothing
}
BAD_GOLDS = ("\\frac{", "", "\\text{}")


@dataclass(frozen=True)
class Expression:
    """`text` as a problem shows it; `steps` (left, sign, right, result) as they are evaluated."""

    text: str
    steps: tuple[tuple[int, str, int, int], ...]

    @property
    def value(self) -> int:
        return self.steps[-1][3]


def apply(left: int, sign: str, right: int) -> int:
    """left sign right, for the signs + - *."""
    return {"+": left + right, "-": left - right, "*": left * right}[sign]


def draw_expression(rng: random.Random, level: int) -> Expression:
    """A random expression of level + 1 operations."""
    value = rng.randint(1, 9)
    text, outermost = str(value), ""
    steps: list[tuple[int, str, int, int]] = []
    while len(steps) <= level:
        sign, digit = rng.choice("+-*"), rng.randint(1, 9)
        mirrored = bool(steps) and rng.random() < MIRROR_PROBABILITY
        left, right = (digit, value) if mirrored else (value, digit)
        result = apply(left, sign, right)
        if not 0 <= result <= MAX_VALUE or (sign == "*" and min(left, right) < 2):
            continue  # out of range, or a product that needs no thought
        if mirrored:
            text = f"{digit} {sign} ({text})"
        elif sign == "*" and outermost in ("+", "-"):
            text = f"({text}) {sign} {digit}"
        else:
            text = f"{text} {sign} {digit}"
        steps.append((left, sign, right, result))
        value, outermost = result, sign
    return Expression(text, tuple(steps))


def split_of(text: str) -> Split:
    """The one split to which an expression belongs: SHA-256 of its text mod 10; 0-7, 8, 9."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10
    return "train" if bucket < 8 else "validation" if bucket == 8 else "test"


def careful_trace(expression: Expression) -> str:
    """One operation a line, each result carried on: the way that leads to the right answer."""
    return "\n".join(
        f"{left} {sign} {right} = {result}" for left, sign, right, result in expression.steps
    )


def problem_text(expression: Expression) -> str:
    return f"Compute {expression.text}."


def answer_text(answer: str) -> str:
    """The sentence with which a solution ends."""
    return f"The answer is \\boxed{{{answer}}}."


def arithmetic_problems(
    split: Split, count: int, *, seed: int, levels: Sequence[int]
) -> list[Problem]:
    """`count` distinct problems of `split`, the levels in turn; same arguments, same problems."""
    check_request(split, count, levels)
    rng = random.Random(f"{split}/{seed}")
    seen: set[str] = set()
    return [draw_problem(rng, split, levels[i % len(levels)], seen) for i in range(count)]


def check_request(split: str, count: int, levels: Sequence[int]) -> None:
    if split not in get_args(Split):
        raise InputError(f"split {split!r} unknown; use one of {', '.join(get_args(Split))}")
    if count < 1:
        raise InputError(f"count is {count}; ask for at least one problem")
    if not levels:
        raise InputError(f"levels is empty; name at least one level of 0 to {MAX_LEVEL}")
    for level in levels:
        if level not in range(MAX_LEVEL + 1):
            raise InputError(f"level {level} does not exist; use levels of 0 to {MAX_LEVEL}")


def draw_problem(rng: random.Random, split: Split, level: int, seen: set[str]) -> Problem:
    """A problem of `split` and `level` whose expression is not in `seen`; it is added there."""
    for _ in range(PATIENCE):
        expression = draw_expression(rng, level)
        if split_of(expression.text) == split and expression.text not in seen:
            break
    else:
        raise InputError(
            f"level {level} has no more distinct problems in split {split!r}: "
            f"{len(seen)} are drawn over all levels; ask for fewer or for higher levels"
        )
    seen.add(expression.text)
    text, answer = problem_text(expression), str(expression.value)
    return Problem(
        id=problem_id(text, answer),
        problem=text,
        answer=answer,
        solution=f"{careful_trace(expression)}\n{answer_text(answer)}",
        source=f"arithmetic/level{level}",
    )


def defect_counts(count: int, held_out_count: int) -> dict[str, int]:
    """How many of `count` raw rows have each defect; a held-out problem is used at most once."""
    counts = {kind: round(share * count) for kind, share in DEFECT_SHARES.items()}
    counts["held_out"] = min(counts["held_out"], held_out_count)
    return counts


def raw_arithmetic_rows(
    count: int, *, seed: int, levels: Sequence[int], held_out: Sequence[Problem]
) -> list[dict[str, str]]:
    """`count` shuffled raw training rows (problem, answer, solution, source), defective in part.

    `defect_counts(count, len(held_out))` rows have each defect; no row has two.
    Level 0 is the trivial share, so it is refused in `levels`.
    """
    if 0 in levels:
        raise InputError(
            "levels holds 0, which is the trivial share of the raw rows; use levels from 1"
        )
    counts = defect_counts(count, len(held_out))
    rng = random.Random(f"raw/{seed}")
    copies = counts["duplicate"] + counts["held_out"] + counts["trivial"]
    originals = [
        as_row(one)
        for one in arithmetic_problems("train", count - copies, seed=seed, levels=levels)
    ]
    rng.shuffle(originals)  # so that a defect does not follow the level
    no_box = originals[: counts["no_box"]]
    bad_gold = originals[counts["no_box"] : counts["no_box"] + counts["bad_gold"]]
    clean = originals[counts["no_box"] + counts["bad_gold"] :]
    for row in no_box:
        row["solution"] = row["solution"].replace("\\boxed{", "").replace("}", "")
    for i, row in enumerate(bad_gold):
        row["answer"] = BAD_GOLDS[i % len(BAD_GOLDS)]
    rows = originals
    rows += [disguised(row, i) for i, row in enumerate(rng.sample(clean, counts["duplicate"]))]
    leaked = rng.sample(list(held_out), counts["held_out"])
    rows += [disguised(as_row(one), i) for i, one in enumerate(leaked)]
    if counts["trivial"]:
        rows += [
            as_row(one)
            for one in arithmetic_problems("train", counts["trivial"], seed=seed, levels=[0])
        ]
    rng.shuffle(rows)
    return rows


def as_row(problem: Problem) -> dict[str, str]:
    return {
        "problem": problem.problem,
        "answer": problem.answer,
        "solution": problem.solution,
        "source": problem.source,
    }


def disguised(row: dict[str, str], number: int) -> dict[str, str]:
    """A copy of `row`: by `number` mod 3 as it is, in capitals, or with other whitespace."""
    text = row["problem"]
    return row | {
        "problem": (text, text.upper(), "  " + text.replace(" ", "  ") + "\n")[number % 3]
    }
