"""A curation that is killed (SIGKILL) at random instants and run again: the same bytes, and nothing
that the journal holds is asked again.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from open_rs.recipe import recipe_from_dict
from open_rs.runs import write_json, write_jsonl

NUM_SAMPLES = 3
OUTPUT = ("problems.jsonl", "manifest.jsonl", "summary.json", "README.md", "inputs.json")


def write_recipe(folder: Path) -> Path:
    """100 rows: copies, rows without a box and bad golds among them; all three kinds of stages."""
    rows = [
        {
            "problem": f"Compute {n % 70} + {n % 70 + 3}" + " now" * (n % 5) + ".",
            "answer": str(2 * (n % 70) + 3) if n % 11 else "",
            "solution": "\\boxed{1}" if n % 7 else "none",
        }
        for n in range(100)
    ]
    write_jsonl(folder / "rows.jsonl", rows)
    recipe = recipe_from_dict(
        {
            "model": {"path": "scripted/model"},
            "sources": [{"path": str(folder / "rows.jsonl")}],
            "filters": [
                {"type": "boxed"},
                {"type": "exact_duplicates"},
                {"type": "gold"},
                {"type": "pass_rate", "num_samples": NUM_SAMPLES},
                {"type": "sample", "count": 20},
            ],
        }
    )
    write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
    return folder / "recipe.json"


def killed_runs(folder: Path, *, trials: int, kills: int, seed: int, workers: int = 1) -> None:
    """Run the harness and compare what each trial left with what an uninterrupted run did."""
    command = [str(Path(__file__).with_name("kill_harness.py")), str(folder / "runs")]
    command += [str(write_recipe(folder)), *map(str, (trials, kills, seed, workers))]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["killed"] >= trials * kills // 2  # the others came too late
    whole = folder / "runs" / "whole"
    assert (whole / "problems.jsonl").stat().st_size > 0
    for trial in range(trials):
        out = folder / "runs" / str(trial)
        for name in (*OUTPUT, "pass_rates.jsonl", "answers.jsonl"):
            assert (out / name).read_bytes() == (whole / name).read_bytes(), (trial, name)
        assert not (out / ".work").exists()
        assert_nothing_asked_twice(folder / "runs" / "asked" / str(trial))


def assert_nothing_asked_twice(log: Path) -> None:
    """No question whose answer was journalled: what was asked twice was in flight at a kill."""
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert asked and not any(known for *_, known in asked)


def test_killed_at_four_instants(tmp_path: Path) -> None:
    killed_runs(tmp_path, trials=4, kills=1, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 3])
def test_killed_at_many_instants(tmp_path: Path, kills: int) -> None:
    killed_runs(tmp_path, trials=24, kills=kills, seed=2)


@pytest.mark.slow
def test_killed_with_workers(tmp_path: Path) -> None:
    killed_runs(tmp_path, trials=8, kills=2, seed=3, workers=2)
