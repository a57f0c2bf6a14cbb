"""Groups that end at their screen, in a run: what is drawn, what is not, and what it weighs."""

import pytest

from open_rs.errors import InputError
from open_rs.recipe import recipe_from_dict
from open_rs.runs import open_run, read_log
from open_rs.train import loop
from open_rs.train.metrics import is_dead
from open_rs.train.selection import kept_probability
from open_rs.train.setup import open_training

BASE = {
    "name": "screen",
    "data": {"train": {"task": "arithmetic", "count": 8, "levels": [0, 2, 6]}},
    "rollout": {"group_size": 6, "prompts_per_step": 8, "max_completion_tokens": 40},
    "rewards": [{"type": "accuracy"}],
    "train": {"num_steps": 1},
}


def rolled_out(path, **rollout):
    recipe = recipe_from_dict(BASE | {"rollout": BASE["rollout"] | rollout})
    run = open_run(path, recipe)
    with open_training(recipe, run) as training:
        groups, metrics = loop.roll_out(training, 1)
    [row] = [row for row in read_log(run.ledger) if row["phase"] == "rollout"]
    return groups, metrics, row["tokens"]


def test_a_screened_step_is_the_whole_one_less_what_a_screen_saves(tmp_path):
    whole, _, _ = rolled_out(tmp_path / "whole")
    screened, metrics, tokens = rolled_out(tmp_path / "screened", screen_size=3)
    passed = 0
    for full, group in zip(whole, screened, strict=True):
        assert group.problem == full.problem
        differs = len({rollout.reward for rollout in full.rollouts[:3]}) > 1
        kept = full.rollouts if differs else full.rollouts[:3]
        assert [one.completion_ids for one in group.rollouts] == [o.completion_ids for o in kept]
        weight = 1 / kept_probability([one.reward for one in kept], 3) if differs else 0.0
        expected = [weight * one.advantage for one in kept]
        assert [one.advantage for one in group.rollouts] == pytest.approx(expected)
        assert is_dead(group) != differs
        passed += differs
    assert 0 < passed < 8  # both kinds occur
    assert metrics["groups/effective"] == passed
    assert (
        tokens
        == metrics["tokens/completion"]
        == sum(len(one.completion_ids) for group in screened for one in group.rollouts)
    )


def test_a_reward_that_sees_the_group_is_refused(tmp_path):
    rewards = [{"type": "accuracy"}, {"type": "group_length"}]
    rollout = BASE["rollout"] | {"screen_size": 3}
    recipe = recipe_from_dict(BASE | {"rewards": rewards, "rollout": rollout})
    with (
        pytest.raises(InputError, match=r"screen_size: the reward 'group_length' sees the whole"),
        open_training(recipe, open_run(tmp_path / "run", recipe)),
    ):
        pass


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"rollout": {"screen_size": 8}}, "screen_size = 8 must be below group_size = 8"),
        ({"loss": {"oversample": True}}, "oversample is a way of dynamic_sampling"),
        ({"data": {"select": "histry"}}, "select"),
    ],
)
def test_keys_that_do_not_go_together(section, sentence):
    with pytest.raises(InputError, match=sentence):
        recipe_from_dict(section)
