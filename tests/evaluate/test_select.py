"""The choice of the checkpoint: by validation alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open_rs.errors import InputError
from open_rs.evaluate.paired import paired_differences
from open_rs.evaluate.select import RULE, best_candidate, select_checkpoint
from open_rs.runs import RunFolder, write_json


def scored_run(path: Path, scores: dict[str, float], checkpoints: list[int]) -> RunFolder:
    run = RunFolder(path)
    for name, value in scores.items():
        write_summary(run, name, value)
    for step in checkpoints:
        run.checkpoint(step).mkdir(parents=True)
    return run


def write_summary(run: RunFolder, name: str, value: float, **fingerprint: Any) -> None:
    summary = {
        "name": name,
        "step": int(name[-6:]),
        "num_problems": 10,
        "num_samples": 4,
        "scores": {"pass@1": {"value": value, "low": value - 0.1, "high": value + 0.1}},
        "fingerprint": {"prompt": "aa"} | fingerprint,
    }
    write_json(run.evaluation(name) / "summary.json", summary)


def test_the_highest_mean_wins_and_the_earliest_of_equals(tmp_path: Path) -> None:
    scores = {
        "validation-000010": 0.4,
        "validation-000020": 0.6,
        "validation-000030": 0.6,
        "validation-000040": 0.5,
    }
    run = scored_run(tmp_path, scores, [10, 20, 30, 40])
    assert select_checkpoint(run) == {
        "step": 20,
        "pass@1": 0.6,
        "rule": RULE,
        "candidates": [
            {"step": 10, "pass@1": 0.4},
            {"step": 20, "pass@1": 0.6},
            {"step": 30, "pass@1": 0.6},
            {"step": 40, "pass@1": 0.5},
        ],
    }


def test_test_scores_cannot_change_the_choice(tmp_path: Path) -> None:
    scores = {"validation-000010": 0.4, "validation-000020": 0.5}
    run = scored_run(tmp_path, scores, [10, 20])
    chosen = select_checkpoint(run)
    write_summary(run, "test-000010", 0.99)
    write_summary(run, "test-000020", 0.0)
    assert select_checkpoint(run) == chosen


def test_the_start_and_steps_without_a_checkpoint_are_no_candidates(tmp_path: Path) -> None:
    scores = {"validation-000000": 0.9, "validation-000010": 0.8, "validation-000020": 0.3}
    run = scored_run(tmp_path, scores, [0, 20])
    assert select_checkpoint(run)["step"] == 20


def test_nothing_to_choose_from(tmp_path: Path) -> None:
    run = scored_run(tmp_path, {"validation-000000": 0.9, "test-000010": 0.8}, [10])
    with pytest.raises(InputError, match="no checkpoint with a validation score"):
        select_checkpoint(run)


def test_scores_of_different_harnesses_are_not_ranked(tmp_path: Path) -> None:
    run = scored_run(tmp_path, {"validation-000010": 0.4}, [10, 20])
    write_summary(run, "validation-000020", 0.5, prompt="bb")
    with pytest.raises(InputError, match="not measured alike: prompt"):
        select_checkpoint(run)


def test_a_choice_on_validation_leaves_the_test_set_fair() -> None:
    # Eight checkpoints that are the base itself, 40 problems x 4 samples, 3,000 runs: the one with
    # the best validation score is improved on the test set no more often than any (2.1 %, one
    # standard error 0.26); the one with the best test score is (10 %).
    rng = np.random.default_rng(0)
    rates = rng.beta(0.5, 0.3, size=(3000, 40))
    base, checkpoints = rng.binomial(4, rates), rng.binomial(4, rates, size=(8, 3000, 40))
    validation = rng.normal(size=(3000, 8)).round(1)
    runs = np.arange(3000)
    chosen = [
        best_candidate([{"step": step, "pass@1": scores[step]} for step in range(8)])["step"]
        for scores in validation
    ]
    best = checkpoints.sum(axis=-1).argmax(axis=0)
    fair, cursed = (
        (paired_differences((checkpoints[picked, runs] - base) / 4, 4, 0.95).low > 0).mean()
        for picked in (np.array(chosen), best)
    )
    assert 0.01 < fair < 0.03 and cursed > 0.06
