"""Metrics of a step's rollouts by hand."""

import pytest

from open_rs.grade import Grade
from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.train.metrics import rollout_metrics, score_metrics
from open_rs.train.rewards import ScoreReport


def rollout_of(tokens, reward, advantage, finish_reason="stop", **parts):
    return Rollout(
        completion_ids=[0] * tokens,
        engine_logprobs=[0.0] * tokens,
        completion="",
        finish_reason=finish_reason,
        reward=reward,
        reward_breakdown=parts,
        advantage=advantage,
    )


def group_of(*rollouts):
    return RolloutGroup(Problem("p", "?", "!"), [1], list(rollouts))


def test_every_figure_by_hand():
    groups = [
        group_of(
            rollout_of(10, 1.5, 0.7, accuracy=1.0, format=0.5),
            rollout_of(20, 0.5, -0.7, accuracy=0.0, format=0.5),
        ),
        group_of(
            rollout_of(30, None, 0.0, "length", accuracy=None, format=0.0),
            rollout_of(40, 1.0, 0.0, "length", accuracy=1.0, format=0.0),
        ),
        group_of(
            rollout_of(50, 0.0, 0.0, accuracy=0.0, format=0.0),
            rollout_of(60, 0.0, 0.0, accuracy=0.0, format=None),
        ),
    ]
    # decided rewards 1.5 0.5 1 0 0: mean 0.6, squares 2.25 + 0.25 + 1 = 3.5, 0.7 - 0.36 = 0.34
    assert rollout_metrics(groups) == pytest.approx(
        {
            "reward/undecided_frac": 1 / 6,
            "reward/mean": 0.6,
            "reward/std": 0.34**0.5,
            "reward/accuracy": 2 / 5,
            "reward/format": 1.0 / 5,
            "completion/mean_tokens": 35,
            "completion/p10_tokens": 15,  # position 0.1 x 5 = 0.5, between 10 and 20
            "completion/p50_tokens": 35,
            "completion/p90_tokens": 55,
            "completion/max_tokens": 60,
            "completion/truncated_frac": 2 / 6,
            # all tokens are the same one: of 30, 40, 50, 60 tokens 11, 21, 31, 41 20-grams are one
            "completion/repetition_frac": (10 / 11 + 20 / 21 + 30 / 31 + 40 / 41) / 6,
            "completion/other_script_frac": 0,
            "groups/dead_frac": 2 / 3,
            "groups/unsolved_dead_frac": 2 / 3,
            "groups/effective": 1,
        }
    )


def test_a_dead_group_that_is_solved_and_letters_of_other_scripts():
    solved = group_of(rollout_of(3, 1.0, 0.0), rollout_of(3, 1.0, 0.0))
    for rollout in solved.rollouts:
        rollout.grade = Grade("correct", "1", 0.0)
    failed = group_of(rollout_of(3, 0.0, 0.0), rollout_of(3, 0.0, 0.0))
    for rollout, outcome in zip(failed.rollouts, ("correct", "wrong"), strict=True):
        rollout.grade = Grade(outcome, "1", 0.0)
    alive = group_of(rollout_of(3, 0.0, -1.0), rollout_of(3, 1.0, 1.0))
    alive.rollouts[0].completion = "word 你好你好"  # 4 of 8 letters
    found = rollout_metrics([solved, failed, alive])
    assert found["groups/dead_frac"] == pytest.approx(2 / 3)
    assert found["groups/unsolved_dead_frac"] == pytest.approx(1 / 3)
    assert found["completion/other_script_frac"] == pytest.approx(0.5 / 6)


def test_where_nothing_is_decided_there_is_no_mean_and_no_zero():
    found = rollout_metrics([group_of(rollout_of(3, None, 0.0, accuracy=None))])
    assert found["reward/undecided_frac"] == 1
    assert not {"reward/mean", "reward/std", "reward/accuracy"} & found.keys()
    assert found["groups/effective"] == 0


def test_seconds_add_up_over_the_refills_of_a_step_and_scheduled_weights_are_said():
    reports = [
        ScoreReport(seconds={"accuracy": 0.25, "mine": 2.0}, weights={"mine": 0.5}),
        ScoreReport(seconds={"accuracy": 0.5, "mine": 1.0}, weights={"mine": 0.5}),
    ]
    assert score_metrics(reports) == {
        "time/reward_accuracy_s": 0.75,
        "time/reward_mine_s": 3.0,
        "reward/mine_weight": 0.5,
    }


def test_the_order_of_groups_and_rollouts_does_not_matter():
    rollouts = [rollout_of(n, n / 10, n - 2.0, accuracy=float(n % 2)) for n in range(1, 5)]
    first = rollout_metrics([group_of(*rollouts[:2]), group_of(*rollouts[2:])])
    second = rollout_metrics([group_of(*rollouts[:1:-1]), group_of(*rollouts[1::-1])])
    assert first == pytest.approx(second, rel=1e-15)


def test_figures_are_plain_floats_for_json():
    found = rollout_metrics([group_of(rollout_of(3, 1.0, 0.5, accuracy=1.0))])
    assert {type(value) for value in found.values()} == {float}
