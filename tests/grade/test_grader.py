import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from open_rs.grade import Grader
from open_rs.grade.pool import WorkerProcess


def worker_pids(parent: int) -> list[int]:
    """The processes below `parent`, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended while we looked
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            child = int(stat.parent.name)
            found += [child, *worker_pids(child)]
    return found


def needs_algebra(n: int) -> str:
    """An answer equal to the root of 6 that takes a worker to see."""
    return rf"\boxed{{\sqrt{{2}} \sqrt{{3}} + {n} - {n}}}"


@pytest.mark.parametrize(
    ("completion", "gold", "outcome"),
    [
        (r"\boxed{4}", "4", "correct"),
        (r"\boxed{5}", "4", "wrong"),
        ("4", "4", "no_answer"),
        (r"<think>\boxed{4}", "4", "no_answer"),
        (r"<think>so</think> \boxed{4}", "4", "correct"),
        (r"\boxed{4}", " ", "bad_gold"),
        (r"\boxed{\frac{2}{4}}", r"\frac12", "correct"),
        (r"\boxed{x+x}", "2x", "correct"),
        (r"\boxed{3x}", "2x", "wrong"),
    ],
)
def test_outcomes(grader, completion, gold, outcome):
    assert grader.grade(completion, gold).outcome == outcome


@pytest.mark.parametrize(
    "gold",
    [
        "see figure", r"\text{See figure.}", "???", r"\foo", r"\frac{1}", "5 +", "((", "nan", "N/A",
        r"\includegraphics{a.png}", r"\frac{1}{0}", r"2 + \frac{x}{3-3}", "Proof in the solution",
        "the number of apples that are left when all of them have been eaten",
    ],
)  # fmt: skip
def test_a_gold_that_says_nothing_is_bad_whatever_the_answer(grader, gold):
    assert grader.check_gold(gold).outcome == "bad_gold"
    assert grader.grade(r"\boxed{7}", gold).outcome == "bad_gold"


@pytest.mark.parametrize(
    "gold",
    [
        "7", "Evelyn", r"\text{two lines}", "n/a", "no solution", r"\frac{0}{3}",
        r"y^{\prime}+r y-r x(t)=0", r"\int_0^1 x dx", "x^2 = 4",
    ],
)  # fmt: skip
def test_a_gold_that_says_something_grades_itself(grader, gold):
    assert grader.check_gold(gold).outcome == "correct"


def test_template_that_opens_the_thought(grader):
    assert grader.grade(r"so \boxed{4}", "4", opens_think=True).outcome == "no_answer"
    assert grader.grade(r"so</think> \boxed{4}", "4", opens_think=True).outcome == "correct"


def test_grade_many_keeps_the_order(grader):
    pairs = [(rf"\boxed{{x+{n}}}", f"{n % 3}+x") for n in range(12)]
    outcomes = [grade.outcome for grade in grader.grade_many(pairs)]
    assert outcomes == ["correct"] * 3 + ["wrong"] * 9


def test_works_from_asyncio(grader):
    async def two() -> list[str]:
        futures = [grader.submit(rf"\boxed{{y+{n}}}", "1+y") for n in (1, 2)]
        return [grade.outcome for grade in await asyncio.gather(*map(asyncio.wrap_future, futures))]

    assert asyncio.run(two()) == ["correct", "wrong"]


def test_worker_killed_from_outside_is_replaced_and_the_answer_not_lost():
    before = set(worker_pids(os.getpid()))
    with Grader(workers=1) as fresh:
        assert fresh.grade(needs_algebra(1), r"\sqrt{6}").outcome == "correct"
        for pid in set(worker_pids(os.getpid())) - before:
            os.kill(pid, signal.SIGKILL)
        assert fresh.grade(needs_algebra(2), r"\sqrt{6}").outcome == "correct"
    assert set(worker_pids(os.getpid())) <= before


def test_closing_with_an_error_cancels_the_queue():
    with pytest.raises(KeyError), Grader(workers=1) as fresh:
        futures = [fresh.submit(needs_algebra(n), r"\sqrt{6}") for n in range(50)]
        raise KeyError
    assert all(future.done() for future in futures)
    assert futures[-1].cancelled()


def test_importing_the_grader_imports_neither_torch_nor_sympy():
    code = "import sys, open_rs.grade; assert not {'torch', 'sympy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_closed_grader_says_so():
    closed = Grader()
    closed.close()
    with pytest.raises(RuntimeError, match="closed"):
        closed.submit(r"\boxed{1}", "1")


def test_a_pair_that_comes_while_the_grader_closes_is_refused_or_answered():
    late = Grader()
    late._pool.close(cancel=False)  # between the check of submit and the queue
    with pytest.raises(RuntimeError, match="closed"):
        late.submit(needs_algebra(1), r"\sqrt{6}")
    racing, futures = Grader(), []

    def submit():
        with contextlib.suppress(RuntimeError):
            for n in range(100_000):
                futures.append(racing.submit(needs_algebra(n), r"\sqrt{6}"))

    thread = threading.Thread(target=submit)
    thread.start()
    while not futures:
        os.sched_yield()
    racing.close(cancel=True)
    thread.join()
    assert all(future.done() for future in futures)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_worker_that_fails_in_an_unknown_way_costs_one_pair_at_most(monkeypatch, failures):
    left = [ValueError("not JSON")] * failures
    judge = WorkerProcess.judge

    def failing(process, *request):
        if left:
            raise left.pop()
        return judge(process, *request)

    monkeypatch.setattr(WorkerProcess, "judge", failing)
    with Grader(timeout_s=30.0) as fresh:
        futures = [fresh.submit(needs_algebra(n), r"\sqrt{6}") for n in (1, 2)]
        outcomes = [future.result(timeout=60).outcome for future in futures]
    assert outcomes == ["correct" if failures == 1 else "error", "correct"]


def test_a_fault_of_the_reader_is_an_error_and_no_crash(monkeypatch, grader):
    def faulty(gold, answer):
        raise ValueError("no such digit")

    monkeypatch.setattr("open_rs.grade.grader.exact_verdict", faulty)
    assert grader.grade(r"\boxed{7 fault}", "7").outcome == "error"


def test_making_a_grader_is_cheap():
    started = time.perf_counter()
    Grader().close()
    assert time.perf_counter() - started < 0.5
