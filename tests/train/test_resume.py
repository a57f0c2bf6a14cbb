"""A run that was stopped anywhere goes on to the same weights, metrics and rollouts exactly."""

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from open_rs.errors import InputError
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import RunFolder, open_run, read_metrics
from open_rs.train import loop, saver
from open_rs.train.checkpoint import checkpoint_steps

SETTINGS = {
    "name": "resume",
    "seed": 3,
    "data": {
        "train": {"task": "arithmetic", "count": 12, "levels": [1, 2]},
        "validation": {"task": "arithmetic", "split": "validation", "count": 4, "levels": [1]},
    },
    "rollout": {"group_size": 4, "prompts_per_step": 3, "max_completion_tokens": 48},
    "train": {"num_steps": 6, "save_every": 2, "learning_rate": 1e-3, "warmup_ratio": 0.3},
    "evaluate": {"every": 3, "validation_samples": 2},
}


TIMED = ("manifest.json", "metrics.jsonl")  # of a checkpoint: they hold times


class Killed(BaseException):
    """Stands for a kill: nothing in the package may catch it."""


def recipe_with(**sections: dict) -> Recipe:
    merged = {key: value | sections.get(key, {}) if isinstance(value, dict) else value
              for key, value in SETTINGS.items()}  # fmt: skip
    return recipe_from_dict(merged | {k: v for k, v in sections.items() if k not in merged})


def start(recipe: Recipe, path: Path) -> RunFolder:
    run = open_run(path, recipe)
    loop.train(recipe, run)
    return run


def trace(run: RunFolder, step: int) -> tuple[list, dict, dict]:
    """All that must be equal: metrics without times, rollouts, the last checkpoint's bytes."""
    metrics = [
        {key: value for key, value in row.items() if not key.startswith(("time/", "cost/"))}
        for row in read_metrics(run)
    ]
    folder = run.rollouts(0).parent
    rollouts = {path.name: path.read_bytes() for path in folder.glob("*.gz")}
    checkpoint = run.checkpoint(step)
    weights = {
        str(path.relative_to(checkpoint)): path.read_bytes()
        for path in checkpoint.rglob("*")
        if path.is_file() and path.name not in TIMED
    }
    return metrics, rollouts, weights


def kill_at(
    monkeypatch: pytest.MonkeyPatch, name: str, call: int, *, after: bool, owner: Any = loop
) -> None:
    """Make the loop die at the `call`-th call of its function `name`, before or after it works."""
    real, calls = getattr(owner, name), [0]

    def dying(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call and not after:
            raise Killed
        result = real(*args, **kwargs)
        if calls[0] == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, dying)


def start_and_die(
    monkeypatch: pytest.MonkeyPatch,
    recipe: Recipe,
    path: Path,
    name: str,
    call: int,
    *,
    after: bool,
) -> None:
    """A run that `kill_at` ends."""
    with monkeypatch.context() as patch:
        kill_at(patch, name, call, after=after)
        with pytest.raises(Killed):
            start(recipe, path)


VARIANTS = {
    "grpo": {},
    "kl_two_updates": {
        "loss": {"kl_coef": 0.04},
        "train": {"updates_per_batch": 2, "num_steps": 8, "save_every": 4},
        "evaluate": {"every": 4, "validation_samples": 2},
    },
    "lora": {"model": {"lora": {"rank": 4, "dropout": 0.1}}},
    "lora_kl_checkpointing": {
        "model": {"lora": {"rank": 4}},
        "loss": {"kl_coef": 0.04},
        "train": {
            "updates_per_batch": 2,
            "num_steps": 4,
            "save_every": 2,
            "gradient_checkpointing": True,
        },
        "evaluate": {"every": 4, "validation_samples": 2},
    },
    "dapo": {
        "loss": {"clip_high": 0.28, "loss_norm": "token", "dynamic_sampling": True},
        "rewards": [{"type": "accuracy"}, {"type": "overlong"}],
    },
    "selected": {
        "data": {"select": "history", "explore": 0.4},
        "rollout": {"screen_size": 2},
        "loss": {"dynamic_sampling": True, "oversample": True},
    },
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """The trace of each variant's run that nothing stopped, made when it is first asked for."""
    made: dict = {}

    def of(variant: str) -> tuple:
        if variant not in made:
            recipe = recipe_with(**VARIANTS[variant])
            run = start(recipe, tmp_path_factory.mktemp(variant) / "run")
            made[variant] = trace(run, recipe.train.num_steps)
        return made[variant]

    return of


@pytest.mark.parametrize(
    ("variant", "name", "call", "after"),
    [
        ("grpo", "roll_out", 1, False),  # before the first checkpoint
        ("grpo", "roll_out", 4, True),
        ("grpo", "write_rollouts", 4, True),
        ("grpo", "update", 5, True),  # weights moved, metrics not yet written
        ("grpo", "take_snapshot", 2, False),
        ("grpo", "save", 2, True),  # being written, its validation score not yet there
        ("grpo", "evaluate_model", 2, False),
        ("grpo", "evaluate_model", 2, True),
        ("kl_two_updates", "update", 6, True),
        ("lora", "update", 5, True),
        ("lora_kl_checkpointing", "update", 3, True),
        ("dapo", "roll_out", 5, True),
        ("selected", "update", 4, True),
        ("selected", "drawn_groups", 9, True),  # a screen passed, the rest of its groups not drawn
    ],
)
def test_resumed_run_equals_the_uninterrupted_one(
    variant, name, call, after, whole, monkeypatch, tmp_path
):
    recipe = recipe_with(**VARIANTS[variant])
    start_and_die(monkeypatch, recipe, tmp_path / "run", name, call, after=after)
    run = start(recipe, tmp_path / "run")
    metrics, rollouts, weights = trace(run, recipe.train.num_steps)
    expected_metrics, expected_rollouts, expected_weights = whole(variant)
    assert metrics == expected_metrics
    assert rollouts == expected_rollouts
    assert weights == expected_weights


def test_a_damaged_checkpoint_is_skipped_and_said(whole, tmp_path, monkeypatch, capsys):
    recipe = recipe_with()
    start_and_die(monkeypatch, recipe, tmp_path / "run", "roll_out", 6, after=False)
    run = RunFolder(tmp_path / "run")
    weights = run.checkpoint(4) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    start(recipe, run.path)
    assert trace(run, 6) == whole("grpo")
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    resumes = [event for event in events if event["event"] == "resume"]
    assert [event["step"] for event in resumes] == [3]
    assert "checkpoint 000004 skipped: model.safetensors was changed" in resumes[0]["skipped"][0]
    assert (run.checkpoints / "damaged-000004").is_dir()  # set aside, and made anew


def test_a_save_before_a_damaged_checkpoint_is_not_let_go(tmp_path, monkeypatch):
    train = {"save_every": 2, "num_steps": 4, "keep_last": 1}
    recipe = recipe_with(train=train, data={"validation": None})
    run = start(recipe, tmp_path / "run")
    assert checkpoint_steps(run) == [4]
    weights = run.checkpoint(4) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    kill_at(monkeypatch, "roll_out", 3, after=False)
    with pytest.raises(Killed):
        loop.train(recipe, run, accept_changes=True)
    assert checkpoint_steps(run) == [2]  # the damaged one is not the newest, which stays


@pytest.mark.parametrize("call", [2, 3])  # with steps to follow, and in the last save
def test_a_kill_before_old_checkpoints_are_let_go_leaves_none_for_good(tmp_path, monkeypatch, call):
    train = {"save_every": 1, "num_steps": 3, "keep_last": 1}
    recipe = recipe_with(train=train, data={"validation": None})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "retire", call, after=False, owner=saver)
        start(recipe, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert checkpoint_steps(run) == [call, call - 1]
    loop.train(recipe, run)
    assert checkpoint_steps(run) == [3]
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert [one["steps"] for one in events if one["event"] == "retire"] == [[1], [2]]


def test_without_an_intact_checkpoint_a_run_is_not_started_afresh(tmp_path, monkeypatch):
    recipe = recipe_with(train={"num_steps": 2})
    run = start(recipe, tmp_path / "run")
    (run.checkpoint(2) / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"no intact checkpoint.*no usable manifest"):
        loop.train(recipe, run)


def test_a_checkpoint_of_a_later_version_is_refused_before_anything_is_removed(tmp_path):
    recipe = recipe_with(train={"num_steps": 4, "save_every": 2}, data={"validation": None})
    run = start(recipe, tmp_path / "run")
    shutil.rmtree(run.checkpoint(4))
    folder = run.checkpoint(2)
    state = folder / "trainer" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"format": 99}))
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["files"]["trainer/state.json"]
    entry["bytes"] = state.stat().st_size
    entry["sha256"] = hashlib.sha256(state.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    held = sorted(path.name for path in run.rollouts(0).parent.iterdir())
    with pytest.raises(InputError, match="a later version of open-rs wrote this checkpoint"):
        loop.train(recipe, run, accept_changes=True)
    assert sorted(path.name for path in run.rollouts(0).parent.iterdir()) == held


def test_a_run_of_which_only_its_events_are_left_is_not_started_afresh(tmp_path):
    recipe = recipe_with(train={"num_steps": 2, "save_every": 2}, data={"validation": None})
    run = start(recipe, tmp_path / "run")
    shutil.rmtree(run.checkpoints)
    shutil.rmtree(run.rollouts(0).parent)
    run.metrics.unlink()
    with pytest.raises(InputError, match=r"events.jsonl tells of saved steps.*put them back"):
        loop.train(recipe, run)
    loop.train(recipe, run, accept_changes=True)
    assert read_metrics(run)[-1]["step"] == 2


def test_a_finished_run_stays_as_it_is(whole, tmp_path):
    recipe = recipe_with()
    run = start(recipe, tmp_path / "run")
    before = trace(run, 6)
    loop.train(recipe, run)
    assert trace(run, 6) == before == whole("grpo")


def test_rollouts_hold_what_was_sampled(tmp_path):
    recipe = recipe_with(train={"num_steps": 2})
    run = start(recipe, tmp_path / "run")
    with gzip.open(run.rollouts(1), "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 3 * 4
    for row in rows:
        assert len(row["completion_ids"]) == len(row["engine_logprobs"])
        assert row["prompt"].endswith("<think>\n")
        assert row["outcome"] in ("correct", "wrong", "no_answer")
        assert row["reward_breakdown"]["accuracy"] == float(row["outcome"] == "correct")


@pytest.mark.slow
@pytest.mark.parametrize("lines", [2, 4, 5])
def test_a_process_killed_without_warning_resumes_exactly(lines, whole, tmp_path):
    """SIGKILL as soon as metrics.jsonl has so many lines; no handler and no `finally` runs."""
    recipe = recipe_with()
    run = open_run(tmp_path / "run", recipe)
    code = (
        "import sys; from pathlib import Path; from open_rs.recipe import load_recipe\n"
        "from open_rs.runs import RunFolder; from open_rs.train.loop import train\n"
        "run = RunFolder(Path(sys.argv[1])); train(load_recipe(run.recipe), run)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    while process.poll() is None:
        if run.metrics.exists() and run.metrics.read_bytes().count(b"\n") >= lines:
            process.kill()
    assert process.wait() == -signal.SIGKILL
    loop.train(recipe, run)
    assert trace(run, 6) == whole("grpo")
