"""The arithmetic problem source: splits, answers, levels, and the defects of the raw rows."""

import ast
import random
import re
import subprocess
import sys
from collections import Counter

import pytest

from open_rs.errors import InputError
from open_rs.problems import problem_id
from open_rs.tasks.arithmetic import (
    BAD_GOLDS,
    Expression,
    arithmetic_problems,
    careful_trace,
    defect_counts,
    draw_expression,
    raw_arithmetic_rows,
    split_of,
)

OPERATIONS = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
}


def evaluate(node: ast.expr) -> int:
    """An evaluation that shares nothing with the generator: Python's parser and its precedence."""
    if isinstance(node, ast.Constant):
        return node.value
    assert isinstance(node, ast.BinOp)
    return OPERATIONS[type(node.op)](evaluate(node.left), evaluate(node.right))


def expression_of(problem: str) -> str:
    match = re.fullmatch(r"Compute (.+)\.", problem)
    assert match, problem
    return match[1]


def value_of(problem: str) -> str:
    return str(evaluate(ast.parse(expression_of(problem), mode="eval").body))


def plain(text: str) -> str:
    return " ".join(text.lower().split())


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_answers_equal_python(split):
    problems = arithmetic_problems(split, 300, seed=5, levels=range(1, 7))
    for problem in problems + arithmetic_problems(split, 10, seed=5, levels=[0]):
        assert problem.answer == value_of(problem.problem)
        assert problem.solution.endswith(f"The answer is \\boxed{{{problem.answer}}}.")
        assert problem.id == problem_id(problem.problem, problem.answer)


def test_every_line_of_a_careful_trace_is_true_and_follows_from_the_last():
    for problem in arithmetic_problems("train", 200, seed=6, levels=[2, 5]):
        *lines, _ = problem.solution.split("\n")
        carried = None
        for line in lines:
            left, result = line.split(" = ")
            assert str(evaluate(ast.parse(left, mode="eval").body)) == result
            assert carried is None or carried in left.split()
            carried = result
        assert carried == problem.answer


def test_careful_trace_by_hand():
    steps = ((7, "+", 5, 12), (12, "*", 3, 36), (36, "-", 8, 28))
    expression = Expression("(7 + 5) * 3 - 8", steps)
    assert careful_trace(expression) == "7 + 5 = 12\n12 * 3 = 36\n36 - 8 = 28"
    assert expression.value == 28


# First 16 hex digits of `printf %s TEXT | sha256sum`, modulo 10 with bc: 5, 0, 1, 9
SPLITS = {
    "7 + 5": "train",
    "9 - 4": "train",
    "(7 + 5) * 3 - 8": "train",
    "8 - (1 + 7)": "test",
}


def test_splits_are_a_function_of_the_text_alone():
    assert {text: split_of(text) for text in SPLITS} == SPLITS


def test_splits_are_disjoint_over_seeds_and_levels():
    texts = {
        split: {
            one.problem
            for seed in range(3)
            for one in arithmetic_problems(split, 60, seed=seed, levels=[1, 2])
        }
        for split in ("train", "validation", "test")
    }
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]
    for split, members in texts.items():
        assert {split_of(expression_of(text)) for text in members} == {split}


def test_splits_have_the_shares_eight_one_one():
    rng = random.Random(0)
    texts = {draw_expression(rng, 3).text for _ in range(5000)}
    shares = Counter(split_of(text) for text in texts)
    # Binomial standard deviation at most sqrt(.16 / 5000) = .0057; five of them
    assert shares["train"] / len(texts) == pytest.approx(0.8, abs=0.03)
    assert shares["validation"] / len(texts) == pytest.approx(0.1, abs=0.025)
    assert shares["test"] / len(texts) == pytest.approx(0.1, abs=0.025)


def test_same_arguments_same_problems_another_seed_others():
    first = arithmetic_problems("train", 50, seed=1, levels=[2, 3])
    assert first == arithmetic_problems("train", 50, seed=1, levels=[2, 3])
    other = arithmetic_problems("train", 50, seed=2, levels=[2, 3])
    assert len({one.id for one in first} & {one.id for one in other}) < 10


def test_problems_are_distinct_and_levels_cycle():
    problems = arithmetic_problems("test", 90, seed=0, levels=[1, 3, 4])
    assert len({one.id for one in problems}) == 90
    assert [one.source for one in problems[:4]] == [
        "arithmetic/level1", "arithmetic/level3", "arithmetic/level4", "arithmetic/level1",
    ]  # fmt: skip
    for problem in problems:  # level n has n + 1 operations
        level = int(problem.source[-1])
        assert len(re.findall(r" [-+*] ", problem.problem)) == level + 1


def test_values_stay_in_range():
    rng = random.Random(1)
    for _ in range(2000):
        for left, sign, right, result in draw_expression(rng, 6).steps:
            assert 0 <= result <= 99
            assert min(left, right) <= 9
            assert sign != "*" or min(left, right) >= 2


@pytest.mark.parametrize(
    ("split", "count", "levels", "named"),
    [
        ("dev", 5, [1], "'dev' unknown; use one of train, validation, test"),
        ("train", 0, [1], "at least one"),
        ("train", 5, [], "at least one level"),
        ("train", 5, [1, 7], "level 7"),
        ("train", 5, [-1], "level -1"),
        ("test", 50, [0], "no more distinct"),  # level 0 has fewer than 200 over all splits
    ],
)
def test_bad_requests_say_what_to_do(split, count, levels, named):
    with pytest.raises(InputError, match=re.escape(named)):
        arithmetic_problems(split, count, seed=0, levels=levels)


def test_raw_rows_refuse_level_zero():
    with pytest.raises(InputError, match="trivial"):
        raw_arithmetic_rows(100, seed=0, levels=[0, 1], held_out=[])


def test_defect_counts_by_hand():
    # 500 * (.06, .06, .08, .06, .10), and three held-out problems cannot give thirty
    expected = {"no_box": 30, "bad_gold": 30, "duplicate": 40, "held_out": 30, "trivial": 50}
    assert defect_counts(500, 80) == expected
    assert defect_counts(500, 3) == expected | {"held_out": 3}
    assert defect_counts(500, 0) == expected | {"held_out": 0}


def test_raw_rows_hold_the_stated_defects():
    held_out = arithmetic_problems("test", 80, seed=9, levels=[1, 2, 3, 4])
    rows = raw_arithmetic_rows(500, seed=3, levels=[1, 2, 3, 4], held_out=held_out)
    counts = defect_counts(500, 80)
    assert len(rows) == 500
    assert all(set(row) == {"problem", "answer", "solution", "source"} for row in rows)

    assert sum("\\boxed" not in row["solution"] for row in rows) == counts["no_box"]
    golds = Counter(row["answer"] for row in rows if not row["answer"].isdigit())
    assert set(golds) == set(BAD_GOLDS)
    assert golds.total() == counts["bad_gold"]
    assert sum(row["source"].endswith("level0") for row in rows) == counts["trivial"]

    secret = {plain(one.problem) for one in held_out}
    leaked = [row for row in rows if plain(row["problem"]) in secret]
    assert len(leaked) == counts["held_out"]
    assert len({plain(row["problem"]) for row in leaked}) == counts["held_out"]
    exact = {one.problem for one in held_out}
    assert sum(row["problem"] in exact for row in leaked) == 10  # a third of 30 as it is

    times = Counter(plain(row["problem"]) for row in rows)
    assert max(times.values()) == 2
    assert sum(number - 1 for number in times.values()) == counts["duplicate"]
    exactly = Counter(row["problem"] for row in rows)
    assert sum(number - 1 for number in exactly.values()) == 14  # ceil(40 / 3)


def test_raw_rows_have_one_defect_at_most_and_are_else_right():
    held_out = arithmetic_problems("test", 40, seed=9, levels=[1, 2])
    for row in raw_arithmetic_rows(300, seed=4, levels=[1, 2], held_out=held_out):
        has_box, has_gold = "\\boxed{" in row["solution"], row["answer"].isdigit()
        assert has_box or has_gold
        if has_gold:
            assert row["answer"] == value_of(plain(row["problem"]).capitalize())


def test_raw_rows_are_shuffled_and_deterministic():
    held_out = arithmetic_problems("test", 40, seed=9, levels=[1, 2])
    rows = raw_arithmetic_rows(300, seed=4, levels=[1, 2], held_out=held_out)
    assert rows == raw_arithmetic_rows(300, seed=4, levels=[1, 2], held_out=held_out)
    assert rows != raw_arithmetic_rows(300, seed=5, levels=[1, 2], held_out=held_out)
    trivial = [i for i, row in enumerate(rows) if row["source"].endswith("level0")]
    assert trivial[0] < 60 and trivial[-1] > 240  # 30 of 300: not in one block


def test_no_heavy_import():
    heavy = "{'torch', 'transformers'} & set(sys.modules)"
    code = f"import sys, open_rs.tasks.arithmetic; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
