"""`open-rs train` from outside: what a resume takes, how it ends."""

import json
import os
import signal
import subprocess
import sys

import pytest
from test_resume import recipe_with, start, trace
from test_signals import SHORT
from typer.testing import CliRunner

from open_rs import cli
from open_rs.budget import governed
from open_rs.errors import InputError
from open_rs.interrupt import poll
from open_rs.runs import open_run, read_json, read_log
from open_rs.train import loop

RECIPE = recipe_with(**SHORT)


def open_rs(*words, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "open_rs.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **settings,
    )


@pytest.mark.parametrize(("number", "status"), [(15, 143), (2, 130), (10, 138)])
def test_a_signal_ends_the_command_with_its_own_status(
    monkeypatch, tmp_path, capsys, number, status
):
    def stopped(recipe, run, **kwargs):
        with governed(recipe, run, "train"):
            os.kill(os.getpid(), number)
            poll()

    monkeypatch.setattr(loop, "train", stopped)
    run = open_run(tmp_path / "run", RECIPE)
    monkeypatch.setattr(sys, "argv", ["open-rs", "train", "--resume", str(run.path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == status
    said = capsys.readouterr().err
    assert signal.Signals(number).name in said and f"train --resume {run.path}" in said
    assert [(row["event"], row["stage"]) for row in read_log(run.events)] == [("stop", "train")]


@pytest.mark.slow
def test_a_resume_from_outside(tmp_path):
    """Stopped by SIGTERM once it has a first step; gone on with another free setting."""
    run = open_run(tmp_path / "run", RECIPE)
    process = open_rs("train", run.recipe, "--out", run.path, "train.keep_last=9")
    while process.poll() is None:
        if run.metrics.exists() and run.metrics.read_bytes().count(b"\n") >= 2:
            process.terminate()
            break
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert "stopped by SIGTERM after step" in said and "which is saved" in said
    assert read_log(run.events)[-1]["reason"] == "SIGTERM"
    done = open_rs("train", "--resume", run.path, "train.keep_last=2", "--max-hours", 5, "--json")
    answer, said = done.communicate(timeout=300)
    assert done.returncode == 0, said
    assert json.loads(answer)["step"] == 4
    assert read_json(run.recipe)["budget"]["hours"] == 5.0
    whole = start(RECIPE, tmp_path / "whole")
    assert trace(run, 4)[:2] == trace(whole, 4)[:2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume", "{empty}"], "is empty, so there is nothing to go on with"),
        (["--resume", "{foreign}"], "recipe.json"),
        (["other.toml", "--resume", "{run}"], "give no recipe and no --out"),
        (["--resume", "{run}", "train.num_steps=9"], "train.num_steps changed since the run"),
        (["--resume", "{run}", "rollout.temperatur=1"], "did you mean"),
        (["--resume", "{run}", "budget.usd=1"], "set budget.usd_per_hour"),
    ],
)
def test_a_resume_that_cannot_be_is_one_sentence(tmp_path, words, said):
    for name in ("empty", "foreign"):
        (tmp_path / name).mkdir()
    (tmp_path / "foreign" / "recipe.json").write_text('{"lr": 3}')
    run = open_run(tmp_path / "run", RECIPE)
    places = {"empty": tmp_path / "empty", "foreign": tmp_path / "foreign", "run": run.path}
    given = [word.format(**places) for word in words]
    result = CliRunner().invoke(cli.app, ["train", *given])
    assert isinstance(result.exception, InputError), result.exception
    assert said in str(result.exception) and "\n" not in str(result.exception)
