"""Sources of reasoning-gym: what is taken, splits, options, and golds that both graders judge."""

import subprocess
import sys

import pytest

pytest.importorskip("reasoning_gym", reason="the extra `tasks` is not installed")

from gym_answers import verdicts

from open_rs.errors import InputError
from open_rs.grade import Grader
from open_rs.machine import package_version
from open_rs.problems import load_problems, place_of
from open_rs.recipe import Source
from open_rs.tasks.gym import GOLDS, KIND_OF, REFUSED, is_plain

# Where score_answer is laxer than the question asks for: rounding, or no look at the sign
LAX = {"coin_flip", "decimal_arithmetic", "gsm_symbolic"}


@pytest.fixture(scope="module")
def grader():
    with Grader() as one:
        yield one


def gym(name, count=10, **settings):
    return load_problems(Source(task=f"reasoning_gym:{name}", count=count, **settings))


@pytest.mark.parametrize("name", KIND_OF)
def test_the_grader_and_the_data_set_agree(name, grader):
    found = verdicts(name, grader, 3)
    assert found.not_right == []
    assert found.near >= 3
    assert found.lenient == []
    assert found.strict == [] or name in LAX


def test_every_data_set_is_taken_or_refused_for_one_reason():
    from reasoning_gym.factory import DATASETS

    taken = [name for names in GOLDS.values() for name in names]
    refused = [name for names in REFUSED.values() for name in names]
    assert sorted(taken + refused) == sorted(DATASETS)


def test_a_problem_is_what_the_data_set_says():
    from reasoning_gym import create_dataset

    one, *_ = gym("chain_sum", count=1, seed=3)
    # any seed of theirs is ours: the first item that falls into [0, 0.8) under it
    from open_rs.tasks.gym import SIZE, spread_seed

    made = create_dataset("chain_sum", seed=spread_seed("chain_sum", 3), size=SIZE)
    first = next(made[i] for i in range(100) if place_of(made[i]["question"]) < 0.8)
    assert (one.problem, one.answer) == (first["question"], first["answer"])
    assert one.source == "reasoning_gym/chain_sum"


def test_the_same_settings_give_the_same_rows_and_more_of_them_go_on():
    assert gym("lcm", 8, seed=2) == gym("lcm", 12, seed=2)[:8]
    few, other = ({one.problem for one in gym("lcm", 30, seed=seed)} for seed in (2, 3))
    assert len(few & other) < 3  # their item 1 of seed 2 is item 0 of seed 3; ours are far apart


def test_splits_are_disjoint_whatever_the_seeds():
    # few distinct questions: every seed meets the same ones
    sets = [
        {one.problem for one in gym("coin_flip", 4, split=split, seed=seed)}
        for seed, split in enumerate(("train", "validation", "test"))
    ]
    assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]
    places = [place_of(text) for text in sets[1]]
    assert all(0.8 <= place < 0.9 for place in places)


def test_options_go_to_the_data_set():
    for one in gym("chain_sum", 5, options={"min_terms": 2, "max_terms": 2, "max_digits": 1}):
        assert sum(sign in "+-" for sign in one.problem.partition("=")[0]) >= 1
        left = one.problem.rpartition(":")[2].partition("=")[0]
        assert eval(left) == int(one.answer)
        assert len([word for word in left.split() if word.isdigit()]) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "reasoning_gym:sudoku"}, "sudoku: its gold is a grid or a list"),
        ({"task": "reasoning_gym:countdown"}, "countdown: many answers are right"),
        ({"task": "reasoning_gym:chain_sun"}, "unknown; did you mean 'chain_sum'"),
        ({"task": "reasoning_gym:zzz"}, r"unknown; docs/tasks.md lists"),
        ({"task": "reasoning_gym:lcm", "split": "dev"}, "split 'dev' unknown; use one of train"),
        ({"task": "reasoning_gym:lcm", "options": {"min_number": 1}}, "did you mean min_numbers"),
        ({"task": "reasoning_gym:lcm", "options": {"seed": 1}}, "option 'seed' unknown"),
        (
            {"task": "reasoning_gym:chain_sum", "options": {"min_terms": 9, "max_terms": 2}},
            "its options are refused",
        ),
        (
            {"task": "reasoning_gym:coin_flip", "count": 500, "split": "test"},
            "no more distinct problems in split 'test' after",
        ),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        load_problems(Source(**{"count": 3, **settings}))


def test_options_are_for_tasks():
    with pytest.raises(ValueError, match="options are those of a task"):
        Source(path="a.jsonl", options={"min_terms": 2})
    with pytest.raises(ValueError, match="options are those of a task"):
        Source(task="arithmetic", count=3, options={"min_terms": 2})


def test_golds_that_cannot_be_judged():
    assert not is_plain(None, "number")
    assert not is_plain(" ", "number")
    assert not is_plain("1\n2", "number")
    # the grader reads "tac" as t a c, a product, and so as "cat" too
    assert not is_plain("tac", "text")
    assert is_plain("tack", "text") and is_plain("red", "word")


def test_without_the_package_the_cure_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(InputError, match=r'pip install "open-rs\[tasks\]"'):
        gym("lcm")


def test_no_torch():
    code = """
import sys
from open_rs.problems import load_problems
from open_rs.recipe import Source
load_problems(Source(task="reasoning_gym:lcm", count=2))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_decides_a_curation():
    from open_rs.curate.inputs import deciding, source_hashes

    plain, two = (
        Source(task="reasoning_gym:lcm", count=3, options=options)
        for options in ({}, {"min_numbers": 3})
    )
    assert "options" not in deciding(plain) and "choices" not in deciding(plain)
    assert deciding(two) == deciding(plain) | {"options": {"min_numbers": 3}}
    assert source_hashes(plain) == {"reasoning-gym": package_version("reasoning-gym")}
