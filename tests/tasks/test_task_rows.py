"""Sources of the kind `task`: the settings that they read, and which held-out set is leaked."""

import textwrap

import pytest

from open_rs.errors import InputError
from open_rs.problems import load_problems
from open_rs.recipe import Source
from open_rs.tasks import task_rows
from open_rs.tasks.arithmetic import arithmetic_problems, defect_counts


def plain(text):
    return " ".join(text.lower().split())


def test_arithmetic_reads_every_setting():
    source = Source(task="arithmetic", split="validation", count=7, seed=5, levels=(2, 3))
    expected = arithmetic_problems("validation", 7, seed=5, levels=(2, 3))
    assert load_problems(source) == expected


def test_raw_rows_leak_the_first_test_problems_of_their_seed_and_levels():
    raw = Source(task="arithmetic_raw", count=200, seed=4, levels=(1, 2))
    rows = load_problems(raw, raw=True)
    assert len(rows) == 200
    leaked = defect_counts(200, 200)["held_out"]  # 200 * .06 = 12
    test = Source(task="arithmetic", split="test", count=50, seed=4, levels=(1, 2))
    held_out = [plain(one.problem) for one in load_problems(test)]
    texts = {plain(one.problem) for one in rows}
    assert [text in texts for text in held_out] == [True] * leaked + [False] * (50 - leaked)


def test_few_raw_rows_leak_nothing():
    rows = load_problems(Source(task="arithmetic_raw", count=5), raw=True)  # 5 * .06 rounds to 0
    assert len(rows) == 5


def test_raw_rows_are_for_training():
    with pytest.raises(InputError, match="arithmetic_raw holds training rows only"):
        load_problems(Source(task="arithmetic_raw", split="test", count=50), raw=True)


def test_unknown_split_and_task():
    with pytest.raises(InputError, match="split 'dev' unknown; use one of train"):
        load_problems(Source(task="arithmetic", split="dev", count=5))
    with pytest.raises(InputError, match="task 'arithmetik' unknown; did you mean 'arithmetic'"):
        load_problems(Source(task="arithmetik", count=5))
    with pytest.raises(InputError, match="task 'zzz' unknown; known: arithmetic, arithmetic_raw"):
        load_problems(Source(task="zzz", count=5))


USER_MODULE = """
def doubles(source):
    for n in range(source.seed, source.seed + 1000):
        yield {"question": f"Twice {n}?", "answer": 2 * n, "source": source.split}

def numbers(source):
    return [1, 2]

def nothing(source):
    return None
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_tasks_for_rows.py").write_text(textwrap.dedent(USER_MODULE))
    monkeypatch.chdir(tmp_path)
    return "my_tasks_for_rows"


def test_the_users_own(user_module):
    task = f"{user_module}:doubles"
    source = Source(task=task, split="x", count=3, seed=4, columns={"problem": "question"})
    problems = load_problems(source)
    assert [(one.problem, one.answer, one.source) for one in problems] == [
        ("Twice 4?", "8", "x"),
        ("Twice 5?", "10", "x"),
        ("Twice 6?", "12", "x"),
    ]


def test_the_users_own_that_returns_no_rows(user_module):
    with pytest.raises(InputError, match=r"numbers, row 1: a dict .* got int"):
        load_problems(Source(task=f"{user_module}:numbers", count=3))
    with pytest.raises(InputError, match="nothing: must return rows, got NoneType"):
        list(task_rows(Source(task=f"{user_module}:nothing", count=3)))
    with pytest.raises(InputError, match="did you mean my_tasks_for_rows:doubles"):
        load_problems(Source(task=f"{user_module}:double", count=3))
