"""The faults of perf/collapse.py do what they say, sudden and slow."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from open_rs.recipe import recipe_from_dict
from open_rs.train import loop
from open_rs.train.rewards import ScoreReport

sys.path.append(str(Path(__file__).parents[2] / "perf"))

from faults import CAP, FAULTS, ONSET, grown, higher_rate, rewarded, setting


def training_at(step):
    recipe = recipe_from_dict(
        {"rollout": {"max_completion_tokens": 64}, "train": {"num_steps": 60}}
    )
    return SimpleNamespace(
        recipe=recipe, state=SimpleNamespace(step=step, changes=[]), decisions=[]
    )


def test_a_slow_fault_grows_in_equal_parts():
    assert [grown(ONSET + steps) for steps in (0, 5, 20, 30)] == [0.0, 0.25, 1.0, 1.0]


@pytest.mark.parametrize(("slow", "factors"), [(False, [30, 30]), (True, [30**0.5, 30])])
def test_a_higher_rate(slow, factors):
    training, plain = training_at(ONSET), loop.learning_rate
    train = training.recipe.train
    with higher_rate(30, slow=slow)(training):
        found = [loop.learning_rate(step, train) for step in (40, 50)]
    assert found == pytest.approx(
        [factor * plain(step, train) for factor, step in zip(factors, (40, 50), strict=True)]
    )


@pytest.mark.parametrize(
    ("centred", "slow", "rewards"),
    [
        (False, False, [1 + 3, 0 + 1]),
        (True, False, [1 + 3 - 2, 0 + 1 - 2]),  # less the mean of what is added
        (False, True, [1 + 1.5, 0 + 0.5]),  # step 40 is half way
        (True, True, [1 + 1.5 - 1, 0 + 0.5 - 1]),
    ],
)
def test_a_reward_that_pays_for_something_else(monkeypatch, centred, slow, rewards):
    rows = [SimpleNamespace(reward=1.0, tokens=3), SimpleNamespace(reward=0.0, tokens=1)]
    rows.append(SimpleNamespace(reward=None, tokens=9))
    monkeypatch.setattr(loop, "score", lambda groups: ScoreReport())
    with rewarded(lambda one: one.tokens, centred=centred, slow=slow)(training_at(39)):
        loop.score([SimpleNamespace(rollouts=rows)])
    assert [one.reward for one in rows] == [*rewards, None]


@pytest.mark.parametrize(("slow_from", "caps"), [(None, [24, 24]), (64, [44, 24])])
def test_a_setting_goes_wrong(slow_from, caps):
    training = training_at(ONSET)
    with setting(CAP, 24, slow_from=slow_from)(training):
        now = [loop.settings_of(training, step) for step in (40, 50)]
    assert [one.rollout.max_completion_tokens for one in now] == caps


def test_a_change_puts_a_setting_right():
    training = training_at(ONSET)
    training.state.changes.append({"step": 30, "key": CAP, "value": 64})
    with setting(CAP, 24)(training):
        assert loop.settings_of(training, 40).rollout.max_completion_tokens == 64


def test_slow_faults_are_watched_for_longer_than_they_grow():
    assert sum(fault.watched > 20 for fault in FAULTS.values()) == 5
