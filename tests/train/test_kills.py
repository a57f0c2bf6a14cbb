"""Runs that are killed, stopped, starved of disk and damaged: a slice of perf/reliability.py."""

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).parents[2] / "perf"))

from kill_recipes import RECIPES, recipe_named
from kills import Trial, is_an_edit, is_left_damaged

ROOT = Path(__file__).parents[2]


def kill(count: int, seed: int, work: Path, only: str = "") -> str:
    """The harness's report on so many runs; it exits with 1 where one came out otherwise."""
    command = [sys.executable, "perf/reliability.py", "kills", "--count", str(count)]
    command += ["--only", only]
    done = subprocess.run(
        [*command, "--seed", str(seed), "--work", str(work)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


def test_a_run_comes_out_the_same_whatever_was_done_to_it(tmp_path):
    """20 runs, each killed once to three times, at least 25 times in all; without the recipe of a
    roll-back, whose 18 steps take longer.
    """
    said = kill(20, 11, tmp_path, only="^(?!a roll-back)")
    assert "20 of 20 runs resumed to a bit-identical end" in said
    assert int(re.search(r"\((\d+) kills", said)[1]) >= 25


@pytest.mark.slow
def test_many_runs_come_out_the_same(tmp_path):
    assert "200 of 200 runs resumed to a bit-identical end" in kill(200, 12, tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_the_kills_are_valid_and_short(name):
    assert recipe_named(name).train.num_steps <= 18


@pytest.mark.parametrize(
    ("name", "kept", "said", "allowed"),
    [
        ("rollouts/000001.jsonl.gz", 30, "rollouts/000001.jsonl.gz is damaged", True),
        ("rollouts/000001.jsonl.gz", 30, "", False),  # nobody was told
        ("rolled_back/001/rollouts/000001.jsonl.gz", 30, "", True),
        ("checkpoints/000002/config.json", 30, "", True),
        ("checkpoints/000004/config.json", 30, "", False),  # the newest, which is read
        ("metrics.jsonl", 30, "", False),
        ("rollouts/000001.jsonl.gz", 0, "", True),  # a bit of the header, and the content is whole
    ],
)
def test_what_damage_may_leave(name, kept, said, allowed):
    whole = gzip.compress(b"a" * 50 + bytes(range(200)))
    left = whole[:kept] if kept else whole[:4] + bytes([whole[4] ^ 1]) + whole[5:]  # its time
    made = Trial("plain", "torn", "phase", damaged={(Path(name).name, left)})
    last = SimpleNamespace(said=said)
    assert is_left_damaged(name, left, whole, made, last, 4) is allowed
    assert not is_left_damaged(name, left + b"x", whole, made, last, 4)


@pytest.mark.parametrize(
    ("old", "new", "is_one"),
    [
        ('"keep_last":null', '"keep_last":3', True),
        ('"learning_rate":0.001', '"learning_rate":0.005', False),  # the maths: it is refused
        ('"keep_last"', '"keep_lasu"', False),
        ("}", "", False),
    ],
)
def test_a_damaged_recipe_may_read_as_an_edited_one(old, new, is_one):
    content = recipe_named("plain").model_dump_json().replace(old, new, 1).encode()
    assert is_an_edit(content, "plain") is is_one
