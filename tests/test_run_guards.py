"""The commands on a run folder that is locked, read-only, full or a stranger's clock's, with keys
all around: one writer, one sentence, nothing lost, nothing told.
"""

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from open_rs import cli
from open_rs.lock import OWNER, lock_folder
from open_rs.recipe import recipe_from_dict
from open_rs.runs import RunFolder, read_log, write_json

RECIPE = """
name = "small"
[data.train]
task = "arithmetic"
count = 4
[data.test]
task = "arithmetic"
split = "test"
count = 2
[rollout]
group_size = 2
prompts_per_step = 2
max_completion_tokens = 8
[train]
num_steps = 1
"""


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs `open-rs ARGS` in an empty folder that holds recipe.toml: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(RECIPE, encoding="utf-8")

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["open-rs", *args])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("quickstart", "--out", "run"),
        ("curate", "recipe.toml", "--out", "run"),
        ("plan", "recipe.toml", "--out", "run"),
        ("train", "recipe.toml", "--out", "run"),
        ("train", "--resume", "run"),
        ("evaluate", "run"),
        ("evaluate", "tiny", "--benchmark", "problems.jsonl", "--out", "run"),
    ],
)
def test_a_command_that_writes_is_refused_while_another_writes(command, arguments):
    Path("problems.jsonl").write_text('{"id": "a", "problem": "1 + 1", "answer": "2"}\n')
    run = RunFolder(Path("run"))
    with lock_folder(run.path):
        write_json(run.recipe, recipe_from_dict({"name": "small"}).model_dump(mode="json"))
        before = {file: file.read_bytes() for file in run.path.iterdir()}
        status, out, err = command(*arguments)
        assert (status, out) == (2, "")
        assert f"open-rs: run: process {os.getpid()} on " in err.splitlines()[-1]
        assert {file: file.read_bytes() for file in run.path.iterdir()} == before


def test_a_report_can_be_made_of_a_run_that_is_being_written(command):
    run = RunFolder(Path("run"))
    with lock_folder(run.path):
        write_json(run.recipe, recipe_from_dict({"name": "small"}).model_dump(mode="json"))
        assert command("report", "run")[0] == 0
    assert run.report.is_file()


def test_a_command_gives_its_folder_back_however_it_ends(command):
    for _ in range(2):
        status, _, err = command("plan", "recipe.toml", "--out", "run", "model.path=no/such/model")
        assert status == 2 and "no such folder" in err and not Path("run", OWNER).exists()


def test_the_folder_of_a_killed_command_is_taken_over_aloud(command):
    code = (
        "import os, signal, sys\nfrom open_rs import cli\nfrom open_rs.commands import train\n"
        "train.plan_stage = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.argv = ['open-rs', 'train', 'recipe.toml', '--out', 'run']\ncli.main()\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Path("run", OWNER).is_file()
    status, _, err = command("plan", "recipe.toml", "--out", "run", "model.path=no/such/model")
    assert status == 2 and "run: taken over from process" in err and "no such folder" in err
    assert not Path("run", OWNER).exists()


def test_the_folder_of_a_process_on_another_host_is_taken_over_by_a_flag(command):
    with lock_folder(Path("run")):
        owner = json.loads(Path("run", OWNER).read_text())
    Path("run", OWNER).write_text(json.dumps(owner | {"host": "another-host"}))
    arguments = ("plan", "recipe.toml", "--out", "run", "model.path=no/such/model")
    status, _, err = command(*arguments)
    assert status == 2 and "on another-host" in err and "give --take-over" in err
    status, _, err = command(*arguments, "--take-over")
    assert status == 2 and "taken over from process" in err and "no such folder" in err


# --- keys, and a clock that jumps ---

KEYS = {
    "HF_TOKEN": f"hf_{'canaryHF7' * 4}",
    "OPENAI_API_KEY": f"sk-{'canaryOA7' * 4}",
    "WANDB_API_KEY": "canaryWB7" * 4,
    "TRACKER_PASSWORD": "canaryPW7",
}
LEAKY = """
import os
import urllib.request

def leaks(rollout, problem):
    names = ("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "TRACKER_PASSWORD")
    seen = " ".join(os.environ[name] for name in names)
    raise RuntimeError(f"401 for https://me:canaryURL7@host/x?token=canaryQU7 with {seen}")
"""


@pytest.fixture
def keys(monkeypatch):
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


def told(folder, *more):
    """Everything that a run wrote, as bytes, archives unpacked."""
    files = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    contents = [
        gzip.decompress(content) if file.suffix == ".gz" else content
        for file, content in files.items()
    ]
    names = "\n".join(map(str, files))
    return b"\n".join([*contents, names.encode(), *(text.encode() for text in more)])


def test_no_key_is_told_anywhere_and_no_clock_is_trusted(command, keys, monkeypatch):
    Path("leaky.py").write_text(LEAKY)
    monkeypatch.setattr(sys, "path", list(sys.path))
    jumps = itertools.cycle([0.0, 1e8, -1e8, 3.0])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    leaky = '{type="custom", function="leaky:leaks", weight=0, isolated=true}'
    rewards = f'rewards=[{{type="accuracy"}}, {leaky}]'
    status, out, err = command("train", "recipe.toml", "--out", "run", rewards)
    assert status == 0, err
    run = RunFolder(Path("run"))
    (event,) = [row for row in read_log(run.events) if row["event"] == "undecided"]
    assert "401 for https://***@host/x?token=*** with *** *** *** ***" in event["first_error"]
    assert command("report", "run")[0] == 0
    assert b"canary" not in told(run.path, out, err)
    (metrics,) = read_log(run.metrics)
    seconds = [row["seconds"] for row in read_log(run.ledger)]
    seconds += [value for key, value in metrics.items() if key.startswith("time/")]
    assert len(seconds) > 8 and all(0 <= one < 600 for one in seconds)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        (f"model.path={KEYS['HF_TOKEN']}", "model.path"),
        ('data.train={ path = "https://me:canaryURL7@host/x.jsonl" }', "data.train.path"),
        (f"name={KEYS['WANDB_API_KEY']}", "name"),
    ],
)
def test_a_recipe_that_holds_a_key_is_refused_and_the_key_not_repeated(
    command, keys, override, key
):
    status, out, err = command("train", "recipe.toml", "--out", "run", override)
    assert (status, out) == (2, "") and "canary" not in err
    assert f"recipe recipe.toml: {key} holds what looks like a key" in err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "recipe.toml", f"train.api_key={KEYS['OPENAI_API_KEY']}"),
        ("train", "recipe.toml", f"train.num_steps={KEYS['OPENAI_API_KEY']}"),
        ("train", "recipe.toml", KEYS["WANDB_API_KEY"]),
        ("train", f"https://me:{KEYS['TRACKER_PASSWORD']}@host/recipe.toml"),
        ("report", KEYS["HF_TOKEN"]),
    ],
)
def test_no_message_repeats_a_key(command, keys, arguments):
    status, out, err = command(*arguments)
    assert status == 2 and err and "canary" not in out + err


def test_the_traceback_of_a_bug_repeats_no_key():
    code = (
        "import os, sys\nfrom open_rs import cli\nfrom open_rs.commands import shared, report\n"
        "def broken(path): raise RuntimeError('401 for ' + os.environ['WANDB_API_KEY'])\n"
        "report.run_at = broken\nsys.argv = ['open-rs', 'report', 'run']\ncli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **KEYS},
    )  # fmt: skip
    assert done.returncode == 1 and "canary" not in done.stderr
    assert done.stderr.endswith("RuntimeError: 401 for ***\n") and "Traceback" in done.stderr


# --- a disk that is read-only, or full ---


@pytest.fixture
def disk(tmp_path):
    """A file system of 90 MB at tmp_path/disk; the test is skipped where it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=90M")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(folder, options):
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("curate", "recipe.toml", "--out", "disk/new"),
        ("plan", "recipe.toml", "--out", "disk/a/b"),
        ("train", "recipe.toml", "--out", "disk/run"),
        ("train", "--resume", "disk/run"),
        ("evaluate", "disk/run"),
        ("report", "disk/run"),
    ],
)
def test_a_read_only_folder_is_one_sentence(command, disk, arguments):
    run = RunFolder(Path("disk/run"))
    write_json(run.recipe, recipe_from_dict({"name": "small"}).model_dump(mode="json"))
    mount(disk, "remount,ro")
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert "cannot be written (Read-only file system); name a folder that can be written" in last


FILLS = """
from pathlib import Path

def fills(rollout, problem):
    if Path("full").exists():
        Path("full").unlink()
        with open("disk/ballast", "wb", buffering=0) as file:
            for size in (1 << 16, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue
    return sum(rollout.completion_ids) % 7
"""
LONGER = ("train.num_steps=3", "train.save_every=1", "data.train.count=8")


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_costs_nothing(command, disk, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("fills_a_disk.py").write_text(FILLS)
    changes = (*LONGER, 'rewards=[{type="custom", function="fills_a_disk:fills"}]')
    assert command("train", "recipe.toml", "--out", "whole", *changes)[0] == 0
    Path("full").touch()
    arguments = ("train", "recipe.toml", "--out", "disk/run", *changes)
    for _ in range(2):  # it stays full
        status, _, err = command(*arguments)
        assert status == 2
        assert "cannot be written (No space left on device); free space" in err.splitlines()[-1]
        arguments = ("train", "--resume", "disk/run")
    Path("disk/ballast").unlink()
    status, _, err = command(*arguments)
    assert status == 0, err
    whole, run = RunFolder(Path("whole")), RunFolder(Path("disk/run"))
    for name in ("model.safetensors", "trainer/optimizer.safetensors"):
        assert (run.checkpoint(3) / name).read_bytes() == (whole.checkpoint(3) / name).read_bytes()
    first, second = ([timeless(row) for row in read_log(one.metrics)] for one in (whole, run))
    assert first == second and len(first) == 3
    assert any(row["optim/grad_norm"] > 0 for row in first)


def timeless(row):
    return {key: value for key, value in row.items() if not key.startswith("time/")}
