"""The launch files: they parse, and what they call exists and gets the arguments that it takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from open_rs.lock import OWNER
from open_rs.recipe import load_recipe

ROOT = Path(__file__).parents[2]
SLURM, SKYPILOT = ROOT / "launch" / "slurm.sh", ROOT / "launch" / "skypilot.yaml"

# Stand-ins: srun runs its command as rank 3 of 8, scontrol tells nodes or notes a requeue.
SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] || exit 99
[ "$SRUN_CPUS_PER_TASK" = 8 ] || exit 98
shift
export SLURM_PROCID=3 SLURM_LOCALID=1 SLURM_NTASKS=8
"$@"
"""
SCONTROL = """#!/bin/bash
case "$1" in
show) printf 'node7\\nnode8\\n' ;;
requeue) echo "$2" >> requeued ;;
esac
"""
OPEN_RS = """#!/bin/bash
echo "$RANK/$WORLD_SIZE $LOCAL_RANK $MASTER_ADDR:$MASTER_PORT" "$@" >> called
exit "$STATUS"
"""
# Takes the folder of the run as the command does.
WRITER = f"""#!{sys.executable}
import sys
from pathlib import Path
from open_rs.errors import InputError
from open_rs.lock import lock_folder
try:
    with lock_folder(Path(sys.argv[-1])):
        pass
except InputError as error:
    sys.exit(f"{{error}}")
"""


@pytest.fixture
def cluster(tmp_path):
    """A folder to submit from, with stand-ins on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "open-rs": OPEN_RS}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return tmp_path


def submit(cluster, *arguments, status=0, **more):
    environment = {
        "PATH": f"{cluster / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_ID": "40017",
        "SLURM_CPUS_PER_TASK": "8",
        "STATUS": str(status),
    } | more
    done = subprocess.run(
        ["bash", SLURM, *arguments], cwd=cluster, env=environment, capture_output=True, text=True
    )
    called = cluster / "called"
    return done.returncode, called.read_text() if called.exists() else ""


def requeued(cluster):
    return (cluster / "requeued").exists()


def test_a_new_run_is_begun_by_its_recipe(cluster):
    told = submit(cluster, "recipe.toml", "runs/one", "train.num_steps=5")
    # port 20,000 + 40,017 mod 20,000
    place = "3/8 1 node7:20017"
    assert told == (0, f"{place} train recipe.toml train.num_steps=5 --out runs/one\n")
    assert not requeued(cluster)


def test_a_run_that_is_there_goes_on(cluster):
    (cluster / "runs" / "one").mkdir(parents=True)
    (cluster / "runs" / "one" / "recipe.json").write_text("{}")
    code, called = submit(cluster, "recipe.toml", "runs/one", "train.num_steps=5")
    assert (code, called.split(maxsplit=3)[3]) == (0, "train --resume runs/one\n")


@pytest.mark.parametrize(
    ("status", "again"),
    [(138, True), (143, False), (3, False), (2, False), (1, False)],
    ids=["time limit", "cancelled", "guard", "wrong input", "failed"],
)
def test_only_the_time_limit_queues_it_again(cluster, status, again):
    code, _ = submit(cluster, "recipe.toml", "runs/one", status=status)
    assert (code, requeued(cluster)) == (status, again)


def lost_run(folder, job, attempt):
    """A run of which the machine was lost: its writer could not take its name away."""
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text("{}")
    owner = {"pid": 1, "host": "node3", "started": "2026", "life": "x"}
    (folder / OWNER).write_text(json.dumps(owner | {"job": job, "attempt": attempt}))


def test_a_job_whose_node_died_goes_on_from_another(cluster):
    lost_run(cluster / "runs" / "one", "Slurm job 40017", 0)
    (cluster / "bin" / "open-rs").write_text(WRITER)
    asked = "recipe.toml", "runs/one"
    assert submit(cluster, *asked)[0] == 1  # no restart: the other may live
    assert submit(cluster, *asked, SLURM_RESTART_COUNT="1")[0] == 0
    assert submit(cluster, *asked)[0] == 0  # it has left its folder in order


def test_a_spot_machine_takes_over_from_the_one_that_was_taken(tmp_path):
    lost_run(tmp_path / "runs" / "one", "SkyPilot task sky-managed-1, node 0", None)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    torchrun = tmp_path / ".venv" / "bin" / "torchrun"
    torchrun.write_text(WRITER)
    torchrun.chmod(0o755)
    script = yaml.safe_load(SKYPILOT.read_text(encoding="utf-8"))["run"]
    script = script.replace("/runs/", f"{tmp_path}/runs/")
    environment = {
        "PATH": os.environ["PATH"],
        "RUN": "one",
        "RECIPE": "recipe.toml",
        "SKYPILOT_NUM_GPUS_PER_NODE": "1",
        "SKYPILOT_NODE_RANK": "0",
    }
    for task, status in (("another", 1), ("sky-managed-1", 0)):
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment | {"SKYPILOT_TASK_ID": task},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr


def test_a_run_is_named(cluster):
    assert submit(cluster, "recipe.toml") == (2, "")


def test_processes_and_gpus_of_a_node_are_as_many():
    lines = [line.removeprefix("#SBATCH --") for line in SLURM.read_text().splitlines()]
    options = dict(line.split("=", 1) for line in lines if "=" in line.split(" ")[0])
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert options["signal"].startswith("USR1@")
    assert SLURM.stat().st_mode & 0o111


def test_the_script_parses():
    assert subprocess.run(["bash", "-n", SLURM]).returncode == 0


def test_the_task_of_skypilot_parses_and_its_commands_exist(tmp_path):
    task = yaml.safe_load(SKYPILOT.read_text(encoding="utf-8"))
    known = {"name", "num_nodes", "resources", "workdir", "envs", "file_mounts", "setup", "run"}
    assert set(task) == known
    recipe = load_recipe(ROOT / task["envs"]["RECIPE"])
    assert recipe.name == task["envs"]["RUN"]
    device, _, count = task["resources"]["accelerators"].partition(":")
    assert (device, int(count)) == ("A40", 4)
    for part in ("setup", "run"):
        script = tmp_path / part
        script.write_text(task[part])
        assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert "-m open_rs" in task["run"] and "--resume" in task["run"]
