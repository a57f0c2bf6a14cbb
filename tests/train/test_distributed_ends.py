"""How a job of several ranks ends when something is wrong: in one sentence, and resumable."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ranks_job import launch

from open_rs.runs import RunFolder, read_log, read_metrics
from open_rs.train.checkpoint import checkpoint_steps, damage

RECIPE = """
name = "ranks"
seed = 3
threads = 1
[data]
train = { path = "problems.jsonl" }
[rollout]
group_size = 4
prompts_per_step = 2
max_completion_tokens = 16
[train]
num_steps = 2
learning_rate = 1e-4
"""
PROBLEMS = """{"id": "a", "problem": "1 + 1", "answer": "2"}
{"id": "b", "problem": "2 + 1", "answer": "3"}
"""


@pytest.fixture
def places(tmp_path) -> list[Path]:
    """A folder for each of two ranks, as two machines have them; the data are on the first."""
    found = [tmp_path / "machine0", tmp_path / "machine1"]
    for folder in found:
        folder.mkdir()
        (folder / "recipe.toml").write_text(RECIPE)
    (found[0] / "problems.jsonl").write_text(PROBLEMS)
    return found


def train(places: list[Path], *settings: str) -> list[str]:
    """`open-rs train` on a rank in each place: what each printed, and its status."""
    command = ["-m", "open_rs", "train", "recipe.toml", "--out", "run", *settings]
    ranks = launch(len(places), command, places)
    printed = [one.communicate(timeout=180)[0].strip() for one in ranks]
    return [f"{text}\nstatus {one.returncode}" for text, one in zip(printed, ranks, strict=True)]


def test_the_other_ranks_need_neither_data_nor_run_folder(places):
    leader, other = train(places)
    assert "step 2 done" in leader and leader.endswith("status 0")
    assert other == "\nstatus 0"
    assert not (places[1] / "run").exists()
    assert len(read_metrics(RunFolder(places[0] / "run"))) == 2


@pytest.mark.slow
def test_a_rank_with_another_recipe_is_named(places):
    (places[1] / "recipe.toml").write_text(RECIPE.replace("1e-4", "2e-4"))
    leader, other = train(places)
    assert "rank 1 on " in leader
    assert "differs from rank 0 in recipe.train.learning_rate; give every rank the same" in leader
    assert leader.endswith("status 2") and "Traceback" not in leader
    assert other == "\nstatus 1"
    assert not (places[0] / "run").exists()  # nothing was begun


@pytest.mark.slow
def test_a_rank_without_the_recipe_is_named(places):
    (places[1] / "recipe.toml").unlink()
    leader, other = train(places)
    assert "rank 1 on " in leader and "recipe.toml" in leader.splitlines()[-2]
    assert leader.endswith("status 2") and other == "\nstatus 1"


@pytest.mark.slow
def test_a_rank_without_the_model_is_named(places):
    from open_rs.models import model_path

    (places[0] / "model").symlink_to(model_path("tiny"))
    leader, other = train(places, "model.path=./model")
    last = leader.splitlines()[-2]
    assert "rank 1 on " in last and "model.path ./model: no such folder" in last
    assert leader.endswith("status 2") and "Traceback" not in leader
    assert other == "\nstatus 1"


@pytest.mark.slow
def test_a_rank_with_another_model_in_the_same_path_is_named(places):
    """Of the same shapes: its weights are those that rank 0 gives it, and it samples otherwise."""
    from open_rs.models import model_path

    for folder in places:
        shutil.copytree(model_path("tiny"), folder / "model")
    config = places[1] / "model" / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-02'))
    leader, other = train(places, "model.path=./model")
    last = leader.splitlines()[-2]
    assert "rank 1 on " in last and "differs from rank 0 in config.rms_norm_eps" in last
    assert leader.endswith("status 2") and "Traceback" not in leader
    assert other == "\nstatus 0"


# What a flipped bit does: rank 1's first weight is another one before its second update.
APART = """
import torch
from open_rs.cli import main
from open_rs.train.distributed_work import Follower
real = Follower.update
def update(self, step):
    if step.seed == 5:  # the recipe's 3, and the step
        next(self.layout.policy.parameters()).data[0, 0] += 2.0**-20
    return real(self, step)
Follower.update = update
main()
"""


@pytest.mark.slow
def test_ranks_that_train_apart_are_found_at_that_step(places):
    for folder in places:
        (folder / "apart.py").write_text(APART)
    ranks = launch(
        2, ["apart.py", "train", "recipe.toml", "--out", "run", "train.save_every=1"], places
    )
    leader = ranks[0].communicate(timeout=180)[0].strip()
    last = leader.splitlines()[-1]
    assert "rank 1 on " in last and "has other weights than rank 0 after the update" in last
    assert ranks[0].returncode == 3 and "Traceback" not in leader
    ranks[1].communicate(timeout=60)
    assert checkpoint_steps(RunFolder(places[0] / "run")) == [1]


# --- ranks that end in the middle ---

LONG = ("train.num_steps=200", "train.save_every=2", "rollout.max_completion_tokens=48")


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "open_rs")
START = (*TORCHRUN, "train", "recipe.toml", "--out", "run")


class Job:
    """`python -m MODULE ...` in a folder, and the run that it trains."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.run = RunFolder(folder / "run")
        self.agent = psutil.Popen(
            [sys.executable, "-m", *words],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for_steps(self, steps: int) -> None:
        while not self.run.metrics.exists() or len(read_metrics(self.run)) < steps:
            assert self.agent.poll() is None, self.agent.communicate()[0]
            time.sleep(0.05)

    def rank(self, number: int) -> psutil.Process:
        [found] = [one for one in self.agent.children() if one.environ().get("RANK") == str(number)]
        return found

    def end(self) -> str:
        """What was printed until all had ended, which is at once and not after a timeout."""
        family = self.agent.children(recursive=True)
        printed = self.agent.communicate(timeout=60)[0]
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive
        return printed


@pytest.fixture
def folder(places) -> Iterator[Path]:
    yield places[0]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "full"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_rank_brings_the_job_down_and_it_goes_on(number, sharding, folder):
    job = Job(folder, *START, f"train.sharding={sharding}", *LONG)
    job.wait_for_steps(5)
    job.rank(number).kill()
    printed = job.end()
    assert job.agent.returncode != 0
    assert "open_rs/train" not in printed  # torchrun's traceback is the only one
    steps = checkpoint_steps(job.run)
    assert steps and damage(job.run.checkpoint(steps[0])) is None
    before = len(read_metrics(job.run))
    assert before - steps[0] < 4
    again = Job(folder, "open_rs", "train", "--resume", "run")
    again.wait_for_steps(before + 1)
    again.agent.terminate()
    assert f"resuming after step {steps[0]}" in again.end()
    resumed = next(row for row in read_log(job.run.events) if row["event"] == "resume")
    assert resumed["step"] == steps[0] and "ranks" not in resumed


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_a_stop_that_is_asked_for_is_saved(sharding, folder):
    job = Job(folder, *START, f"train.sharding={sharding}", *LONG, "train.save_every=200")
    job.wait_for_steps(4)
    job.agent.send_signal(signal.SIGTERM)
    printed = job.end()
    assert "stopped by SIGTERM after step" in printed and "which is saved" in printed
    last = len(read_metrics(job.run))
    assert checkpoint_steps(job.run) == [last]
    stop = read_log(job.run.events)[-1]
    assert (stop["event"], stop["reason"], stop["step"]) == ("stop", "SIGTERM", last)


@pytest.mark.slow
def test_a_signal_to_one_rank_is_passed_on(folder):
    job = Job(folder, *START, *LONG, "train.save_every=200")
    job.wait_for_steps(2)
    job.rank(1).send_signal(signal.SIGUSR1)
    printed = job.end()
    assert "stopped by SIGUSR1 after step" in printed and "which is saved" in printed
    assert checkpoint_steps(job.run) == [len(read_metrics(job.run))]
