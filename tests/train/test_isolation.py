"""Isolated rewards: what hangs, crashes or misbehaves leaves rollouts undecided, and no process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from open_rs.errors import InputError
from open_rs.grade import Grade
from open_rs.grade.processes import children
from open_rs.problems import Problem
from open_rs.recipe import AccuracyReward, CustomReward
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.train.isolation import IsolatedFailure, IsolatedFunction, decode, encode
from open_rs.train.rewards import open_rewards, score

PROBLEM = Problem("p", "1 + 1", "2", solution="two", source="s")

PLUG_IN = """
import os, signal, subprocess, sys
from open_rs.grade import Grade
from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout, RolloutGroup

def moody(rollout, problem):
    print("not a reply")
    mood = rollout.completion
    if mood == "hangs":
        while True:
            pass
    if mood == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if mood == "leaves":
        os._exit(0)
    if mood == "exits":
        sys.exit("enough")
    if mood == "raises":
        raise KeyError(problem.id)
    if mood == "abstains":
        return None
    return float("nan") if mood == "nan" else len(rollout.completion_ids)

def process(rollout, problem):
    return os.getpid()

def started(own_session):
    sleeper = [sys.executable, "-c", "import time; time.sleep(1000)"]
    return subprocess.Popen(sleeper, start_new_session=own_session).pid

def starts(rollout, problem):
    mood = rollout.completion
    if mood in ("in its group", "in its own session"):
        return started(mood == "in its own session")
    if mood == "by an orphan":  # which is nobody's child here once its parent has gone
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.setsid()
            os.write(writer, str(started(True)).encode())
            os._exit(0)
        os.wait()
        return int(os.read(reader, 20))
    if mood == "an orphan that ends":
        reader, writer = os.pipe()
        if os.fork() == 0:
            child = os.fork()
            os.write(writer, str(child or "").encode())
            os._exit(0)
        os.wait()
        return int(os.read(reader, 20))
    return moody(rollout, problem)

def forks_and_returns_twice(rollout, problem):
    child = os.fork()
    return 1.0 if child else 2.0

def same(rollout, problem, *, group):
    assert isinstance(rollout, Rollout) and isinstance(problem, Problem)
    assert isinstance(group, RolloutGroup) and group.problem == problem
    assert group.rollouts[rollout.sample] is rollout and rollout.grade == Grade("correct", "2", 0.5)
    return len(group.rollouts) + group.prompt_ids[0] / 10
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "moods_of_a_user.py").write_text(PLUG_IN)
    (tmp_path / "dies_at_import.py").write_text("import os\nos._exit(3)\n")
    (tmp_path / "raises_at_import.py").write_text("raise ValueError('no luck')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return "moods_of_a_user"


def rollout_of(text="", sample=0, tokens=4):
    grade = Grade("correct", "2", 0.5)
    return Rollout(list(range(tokens)), [-1.0] * tokens, text, "stop", sample=sample, grade=grade)


def opened(*functions, **settings):
    specs = [CustomReward(function=one, isolated=True, **settings) for one in functions]
    return open_rewards(
        [AccuracyReward(), *specs], max_completion_tokens=10, template_opens_think=True
    )


def test_each_misbehaviour_costs_its_own_rollout_only(module):
    moods = ["fine", "hangs", "fine", "crashes", "leaves", "exits", "raises", "abstains", "nan", ""]
    rewards, errors = [], []
    with opened(f"{module}:moody", timeout_s=1.0) as functions:
        for sample, mood in enumerate(moods):
            rollout = rollout_of(mood, sample)
            report = score([RolloutGroup(PROBLEM, [1], [rollout])], functions)
            rewards.append(rollout.reward)
            errors.append((report.first_error or "").removeprefix("reward 'moody' on problem p, "))
            assert report.undecided == (rollout.reward is None)
    assert rewards == [5, None, 5, *[None] * 6, 5]
    assert errors[1] == "sample 1 took more than 1 s and was killed"
    assert [error.partition(" (")[0] for error in errors[3:5]] == [
        f"sample {sample} ended its process" for sample in (3, 4)
    ]
    assert errors[5:7] == ["sample 5 raised SystemExit: enough", "sample 6 raised KeyError: 'p'"]
    assert errors[7:9] == ["", "sample 8 returned nan"]
    assert errors[0] == errors[2] == errors[9] == ""


def test_the_function_sees_what_it_would_see_here(module):
    group = RolloutGroup(PROBLEM, [7], [rollout_of("答\ud800", sample) for sample in range(3)])
    with opened(f"{module}:same") as rewards:
        report = score([group], rewards)
    assert report.first_error is None
    assert [one.reward_breakdown["same"] for one in group.rollouts] == [3.7] * 3


def test_a_call_survives_json():
    group = RolloutGroup(PROBLEM, [1], [rollout_of(str(n), n) for n in range(3)])
    group.rollouts[2].grade = None
    for index in range(3):
        rollout, copy = decode(encode(PROBLEM, [1], group.rollouts, index))
        assert copy == group and rollout is copy.rollouts[index]


def test_a_long_completion_passes_whole(module):
    with IsolatedFunction(f"{module}:moody") as function:
        rollout = rollout_of("long" * 10**6, tokens=20_000)  # far beyond what a pipe holds
        assert function(rollout, PROBLEM, group=RolloutGroup(PROBLEM, [], [rollout])) == 20_000


def test_no_process_is_left(module):
    rollout = rollout_of()
    group = RolloutGroup(PROBLEM, [], [rollout])
    with opened(f"{module}:process") as rewards:
        score([group], rewards)
        pid = int(rollout.reward_breakdown["process"])
        assert pid != os.getpid() and alive(pid)
    assert not wait_while_alive(pid)


WAYS_TO_START = ["in its group", "in its own session", "by an orphan"]


@pytest.mark.parametrize("way", WAYS_TO_START)
@pytest.mark.parametrize("end", ["hangs", "crashes", "leaves"])
def test_what_a_function_started_ends_with_its_process(module, way, end):
    with IsolatedFunction(f"{module}:starts", timeout_s=2.0) as function:
        sleeper = int(call(function, way))
        assert call(function, "fine") == 4 and alive(sleeper)  # it may serve the next calls
        function.timeout_s = 0.2
        with pytest.raises(IsolatedFailure):
            call(function, end)
        assert not wait_while_alive(sleeper)
        function.timeout_s = 5.0
        assert call(function, "fine") == 4


@pytest.mark.parametrize("way", WAYS_TO_START)
def test_what_a_function_started_ends_with_close(module, way):
    with IsolatedFunction(f"{module}:starts") as function:
        sleeper = int(call(function, way))
        assert alive(sleeper)
    assert not alive(sleeper)  # close returns when it is gone


def test_what_the_import_started_serves_every_child_and_ends_with_close(module):
    Path("starts_at_import.py").write_text(
        f"from {module} import moody, started\nsleeper = started(True)\n"
        "def speaks(rollout, problem):\n"
        "    return sleeper if rollout.completion == '' else moody(rollout, problem)\n"
    )
    with IsolatedFunction("starts_at_import:speaks", timeout_s=2.0) as function:
        sleeper = int(call(function, ""))
        with pytest.raises(IsolatedFailure):
            call(function, "hangs")
        assert int(call(function, "")) == sleeper and alive(sleeper)
    assert not alive(sleeper)


def test_orphans_that_end_are_reaped_while_the_function_goes_on(module):
    with IsolatedFunction(f"{module}:starts") as function:
        orphans = [int(call(function, "an orphan that ends")) for _ in range(5)]
        for _ in range(10**5):
            if not any(Path(f"/proc/{pid}").exists() for pid in orphans):
                break
            os.sched_yield()
        assert not [pid for pid in orphans if Path(f"/proc/{pid}").exists()]  # nor a zombie
        assert call(function, "fine") == 4


def test_a_function_that_forks_and_returns_twice_is_heard_once(module):
    with IsolatedFunction(f"{module}:forks_and_returns_twice") as function:
        assert [call(function, "") for _ in range(5)] == [1.0] * 5


def test_the_limit_holds_where_nobody_reads_the_request(module):
    with IsolatedFunction(f"{module}:process", timeout_s=1.0) as function:
        os.kill(int(call(function, "")), signal.SIGSTOP)
        with pytest.raises(IsolatedFailure, match="took more than 1 s"):
            call(function, "more than a pipe holds" * 10_000)
        assert call(function, "") > 1


@pytest.mark.parametrize("way", ["process itself", *WAYS_TO_START])
def test_no_process_is_left_by_a_caller_that_is_killed(module, way):
    name = "process" if way == "process itself" else "starts"
    code = (
        "import os, signal\nfrom open_rs.train.isolation import IsolatedFunction\n"
        "from open_rs.problems import Problem\n"
        "from open_rs.rollout.protocol import Rollout, RolloutGroup\n"
        f"rollout = Rollout([], [], '{way}', 'stop')\n"
        "group = RolloutGroup(Problem('p', '?', '!'), [], [rollout])\n"
        f"function = IsolatedFunction('{module}:{name}').__enter__()\n"
        "print(int(function(rollout, group.problem, group=group)), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -9 and not wait_while_alive(int(done.stdout))


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("moods_of_a_user:mody", "did you mean moods_of_a_user:moody"),
        ("no_such_module_here:x", "no module no_such_module_here"),
        ("raises_at_import:x", "importing raises_at_import raised ValueError: no luck"),
        ("dies_at_import:x", "importing its module ended or held up the process"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_wrong_input(module, function, sentence):
    before = children()
    with pytest.raises(InputError, match=sentence), opened(f"{module}:moody", function):
        pass
    assert children() == before  # that of moody is gone, too
    assert "raises_at_import" not in sys.modules  # the user's code ran there and not here


def test_an_isolated_function_is_imported_there_and_not_here(module):
    with opened(f"{module}:moody"):
        assert module not in sys.modules


def call(function, completion):
    rollout = rollout_of(completion)
    return function(rollout, PROBLEM, group=RolloutGroup(PROBLEM, [], [rollout]))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_while_alive(pid):
    """Whether it still lives after as many looks as take a loaded machine seconds."""
    for _ in range(10**5):
        if not alive(pid):
            return False
        os.sched_yield()
    return True
