"""What a sweep may conclude: of few seeds, coarse scores, runs that ended early or are open."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import append_jsonl, log_event, open_run, read_metrics, write_json
from open_rs.sweep.cells import Cell, cells_of, early_end, is_finished, is_open
from open_rs.sweep.summary import (
    FEW_SEEDS,
    difference,
    judge_family,
    mean_difference,
    run_row,
    summarise,
    summary_text,
)
from open_rs.sweep.worker import make_run
from open_rs.train.decisions import write_decisions

SMALL = {
    "name": "sw",
    "data": {
        "train": {"task": "arithmetic", "count": 8},
        "validation": {"task": "arithmetic", "split": "validation", "count": 2},
    },
    "rollout": {"group_size": 2, "prompts_per_step": 2, "max_completion_tokens": 8},
    "train": {"num_steps": 40, "save_every": 40},
    "evaluate": {"every": 40, "validation_samples": 5},
    "sentinel": {"action": "stop"},
}


def recipe(seeds: int) -> Recipe:
    return recipe_from_dict(
        {**SMALL, "sweep": {"seeds": seeds, "arms": [{"name": "a"}, {"name": "b"}]}}
    )


def cells_by_arm(made: Recipe, folder: Path) -> dict[str, list[Cell]]:
    cells = cells_of(made, folder)
    return {arm: [cell for cell in cells if cell.arm == arm] for arm in ("a", "b")}


def make_files(cell: Cell, score: float, *, step: int = 40) -> None:
    """What a training up to `step` leaves, with a score of 10 samples there."""
    append_jsonl(cell.run.metrics, {"step": step, "completion/mean_tokens": 5.0})
    append_jsonl(cell.run.metrics, {"step": step, "validation/pass@1": score})
    cell.run.checkpoint(step).mkdir(parents=True)
    summary = dict.fromkeys(("name", "scores", "fingerprint", "step"), 0)
    summary |= {"num_problems": 2, "num_samples": 5}
    write_json(cell.run.evaluation(f"validation-{step:06d}") / "summary.json", summary)
    log_event(cell.run, "finish", step)


def stop_by_sentinel(cell: Cell, step: int) -> None:
    stop = {"action": "stop", "from_step": step, "to_step": step, "detector": "reward_drop"}
    write_decisions(cell.run, [stop | {"cause": "reward_drop"}])
    log_event(cell.run, "stop", step, reason="alarm")


def verdicts(made: Recipe, folder: Path) -> list[str | None]:
    found = summarise(made, cells_of(made, folder))
    return [one["verdict"] for one in found["comparisons"]]


# --- few seeds and coarse scores ---


def test_two_seeds_that_agree_are_no_verdict() -> None:
    base, other = ({seed: row(score) for seed, score in enumerate(scores)} for scores in TWO)
    found = difference("b", base, other, 0.95) | {"against": "a"}
    judge_family([found], 0.95)
    assert (found["n"], found["p_value"], found["verdict"]) == (2, None, None)
    # s is that of one sample of ten: 0.0625 -+ 12.7062 x 0.1 / sqrt(2), cut at 1 only if beyond
    assert found["high"] == pytest.approx(0.0625 + 12.70620 * 0.1 / math.sqrt(2), abs=1e-5)


TWO = ((0.5, 0.75), (0.5625, 0.8125))


def row(score: float, grain: float = 0.1) -> dict[str, float]:
    return {"score": score, "grain": grain}


def test_a_spread_is_that_of_one_sample_at_least() -> None:
    # three times +0.1 in steps of 0.1: t = 0.1 sqrt(3) / 0.1 with 2 degrees of freedom, for which
    # p = 1 - t / sqrt(2 + t^2) = 1 - sqrt(3 / 5) = 0.2254
    found = mean_difference([0.1, 0.1, 0.1], 0.95, grain=0.1)
    assert found["p_value"] == pytest.approx(1 - math.sqrt(3 / 5))
    # +0.1, +0.2, +0.3 have s = 0.1 themselves, and a finer grain changes nothing
    same = [mean_difference([0.1, 0.2, 0.3], 0.95, grain=one)["p_value"] for one in (0.0, 0.05)]
    assert same[0] == same[1] == pytest.approx(1 - math.sqrt(12) / math.sqrt(14))


def test_equal_values_of_unknown_grain_are_no_verdict() -> None:
    found = mean_difference([0.1, 0.2 - 0.1, 0.3 - 0.2], 0.95)  # equal but for rounding
    assert found["p_value"] is None and "all are equal" in found["withheld"]


@pytest.mark.parametrize(("samples", "seeds"), [(2, 3), (4, 3), (2, 4), (3, 4)])
def test_equal_arms_of_coarse_scores_seldom_get_a_verdict(samples: int, seeds: int) -> None:
    """Exactly: every outcome of two arms, each of whose samples is right with a chance of 1/2."""
    ways = [math.comb(2 * samples, right) for right in range(2 * samples + 1)]
    chances = {(right - samples) / samples: way / 4**samples for right, way in enumerate(ways)}
    false = 0.0
    for values in itertools.product(chances, repeat=seeds):
        found = mean_difference(values, 0.95, grain=1 / samples)
        if found["p_value"] is not None and found["p_value"] < 0.05:
            false += math.prod(chances[value] for value in values)
    assert false <= 0.05


def test_intervals_stay_where_scores_and_their_differences_can_be(tmp_path: Path) -> None:
    made = recipe(2)
    for cell, score in zip(cells_of(made, tmp_path), (0.1, 0.7, 0.3, 1.0), strict=True):
        make_files(cell, score)
    found = summarise(made, cells_of(made, tmp_path))
    assert [(one["low"], one["high"]) for one in found["arms"]] == [(0, 1), (0, 1)]
    # +0.6, +0.7: t(0.975, 1) = 12.7; s is 0.0707 and counts as 0.1: 0.65 -+ 0.898
    (compared,) = found["comparisons"]
    assert compared["low"] == pytest.approx(0.65 - 12.70620 * 0.1 / math.sqrt(2), abs=1e-5)
    assert compared["high"] == 1
    assert "[-0.248, +1.000], 2 seeds, no verdict below 3" in summary_text(found)


def test_each_comparison_is_judged_by_its_own_seeds(tmp_path: Path) -> None:
    made = recipe(8)
    by_arm = cells_by_arm(made, tmp_path)
    for cell, score in zip(by_arm["a"], (0.5, 0.6, 0.5), strict=False):
        make_files(cell, score)
    make_files(by_arm["b"][0], 0.9)
    text = summary_text(summarise(made, cells_of(made, tmp_path)))
    assert "b - a: +0.400, 1 seed, no verdict below 3\n" in text
    assert "a: 5 of 8 runs are not finished\nb: 7 of 8 runs are not finished" in text
    assert text.endswith(FEW_SEEDS)


# --- runs that ended before their last step ---


def test_runs_that_the_sentinel_ended_are_results(tmp_path: Path) -> None:
    made = recipe(8)
    by_arm = cells_by_arm(made, tmp_path)
    for seed in range(8):
        make_files(by_arm["a"][seed], 0.5 + 0.01 * (seed % 3))
        if seed < 3:
            make_files(by_arm["b"][seed], 0.8 + 0.01 * seed)
        else:
            make_files(by_arm["b"][seed], 0.0, step=17)
            stop_by_sentinel(by_arm["b"][seed], 17)
    assert all(is_finished(cell) for cell in by_arm["b"])
    found = summarise(made, cells_of(made, tmp_path))
    # b has 0.80, 0.81, 0.82 and five times 0: a mean of 2.43 / 8
    arm, (compared,) = found["arms"][1], found["comparisons"]
    assert (arm["n"], arm["stopped"], arm["missing"]) == (8, 5, 0)
    assert arm["mean"] == pytest.approx(2.43 / 8)
    assert compared["n"] == 8 and compared["mean"] < 0
    assert "b: 5 of 8 runs ended for good before their last step" in summary_text(found)


def test_steps_that_came_to_nothing_end_a_run_for_good(tmp_path: Path) -> None:
    cell = cells_of(recipe(1), tmp_path)[0]
    make_files(cell, 0.4, step=10)
    append_jsonl(cell.run.metrics, {"step": 14, "completion/mean_tokens": 5.0})
    log_event(cell.run, "stop", 0, reason="nonfinite")
    assert (early_end(cell.recipe, cell.run), is_finished(cell)) == (14, True)
    made = run_row(cell)
    assert made is not None and (made["last_validation"], made["stopped"]) == (0.4, 14)
    log_event(cell.run, "resume", 10)  # somebody goes on with it
    assert early_end(cell.recipe, cell.run) is None and not is_finished(cell)


def test_an_arm_with_open_runs_is_not_judged(tmp_path: Path) -> None:
    made = recipe(6)
    by_arm = cells_by_arm(made, tmp_path)
    for seed in range(4):
        make_files(by_arm["a"][seed], 0.1 * (seed % 2))
        make_files(by_arm["b"][seed], 0.9)
    assert verdicts(made, tmp_path) == ["improved"]
    begun = by_arm["b"][4]
    append_jsonl(begun.run.metrics, {"step": 12, "completion/mean_tokens": 5.0})
    for reason in ("budget", "SIGTERM"):  # from outside: it says nothing of the arm
        log_event(begun.run, "stop", 12, reason=reason)
        assert not is_open(begun) and verdicts(made, tmp_path) == ["improved"]
    log_event(begun.run, "resume", 12)
    for event, details in (("stop", {"reason": "alarm"}), ("failed", {"error": "E"})):
        log_event(begun.run, event, 13, **details)
        assert is_open(begun) and verdicts(made, tmp_path) == [None]
    text = summary_text(summarise(made, cells_of(made, tmp_path)))
    assert "4 seeds, runs begun and not finished: 1 of b" in text
    assert "b: 2 of 6 runs are not finished" in text


def test_a_run_that_the_sentinel_ends_is_scored_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = ["calls = 0", "def late(rollout, problem):", "    global calls", "    calls += 1"]
    lines += ["    return 0.0 if calls <= 4 * 12 else 5.0"]
    (tmp_path / "late_rewards.py").write_text("\n".join(lines) + "\n")
    settings: dict[str, Any] = {**SMALL, "sweep": {"seeds": 2}}
    settings["rewards"] = [{"type": "custom", "function": "late_rewards:late"}]
    settings["sentinel"] = {"actions": {"reward_jump": "stop"}}
    cell = cells_of(recipe_from_dict(settings), tmp_path / "sw")[0]
    make_run(cell.recipe, open_run(cell.run.path, cell.recipe), [], cell.recipe.budget)
    end = early_end(cell.recipe, cell.run)
    assert end is not None and 13 <= end <= 20
    scored = [each for each in read_metrics(cell.run) if "validation/pass@1" in each]
    assert [each["step"] for each in scored] == [0, end] and is_finished(cell)
    made = run_row(cell)
    assert made is not None and (made["stopped"], made["grain"]) == (end, pytest.approx(0.1))
