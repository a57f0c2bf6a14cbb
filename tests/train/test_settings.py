"""What changes during a run: schedules by step, triggers, changes, and keys that may not."""

import json

import pytest

from open_rs.errors import InputError
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.train.settings import (
    changed_value,
    fired,
    jumps,
    largest_cap,
    outside_band,
    scheduled_weights,
    settings_at,
    uses_band,
    uses_kl,
)


def recipe(**settings) -> Recipe:
    return recipe_from_dict(settings)


def test_points_between_and_beyond():
    cap = {"key": "rollout.max_completion_tokens", "points": [[10, 100], [20, 200]]}
    made = recipe(schedules=[cap])
    caps = [
        settings_at(made, step).rollout.max_completion_tokens for step in (1, 10, 13, 19, 20, 500)
    ]
    assert caps == [100, 100, 130, 190, 200, 200]  # 100 + 100 x 3 / 10 = 130
    held = recipe(schedules=[cap | {"between": "hold"}])
    caps = [settings_at(held, step).rollout.max_completion_tokens for step in (1, 10, 19, 20)]
    assert caps == [100, 100, 100, 200]


def test_a_recipe_without_schedules_is_itself():
    plain = recipe()
    assert settings_at(plain, 7) is plain


def test_changes_count_from_the_step_after_their_own():
    made = recipe(train={"learning_rate": 1e-5})
    rows = [{"step": 5, "key": "train.learning_rate", "value": 3e-6}]
    assert settings_at(made, 5, rows).train.learning_rate == 1e-5
    assert settings_at(made, 6, rows).train.learning_rate == 3e-6
    later = [*rows, {"step": 9, "key": "train.learning_rate", "value": 1e-6}]
    assert settings_at(made, 10, later).train.learning_rate == 1e-6


def test_a_reward_is_found_by_its_name():
    made = recipe(
        rewards=[{"type": "accuracy"}, {"type": "custom", "function": "my_rewards:brevity"}],
        schedules=[
            {"key": "rewards.brevity.weight", "points": [[1, 0.0], [3, 1.0]]},
            {"key": "rewards.accuracy.weight", "points": [[1, 2.0]]},
        ],
    )
    assert [one.weight for one in settings_at(made, 2).rewards] == [2.0, 0.5]


def test_a_trigger_fires_on_the_mean_and_only_so_often():
    made = recipe(
        rollout={"max_completion_tokens": 100},
        schedules=[
            {
                "key": "rollout.max_completion_tokens",
                "when": {
                    "metric": "completion/truncated_frac", "above": 0.3, "steps": 2, "max_times": 2,
                },
                "times": 1.5,
            }
        ],
    )  # fmt: skip
    rows = [
        {"step": step, "completion/truncated_frac": share}
        for step, share in enumerate((0.1, 0.5, 0.2, 0.5), 1)
    ]
    assert fired(made, rows[:1], []) == []  # one step, two are averaged
    assert fired(made, rows[:2], []) == []  # (0.1 + 0.5) / 2 = 0.3, not above
    assert [index for index, _ in fired(made, rows[:3], [])] == [0]  # (0.5 + 0.2) / 2 = 0.35
    change = {"step": 3, "key": "rollout.max_completion_tokens", "value": 150, "schedule": 0}
    assert changed_value(made, made.schedules[0]) == 150
    assert fired(made, rows, [change]) == []  # one step since it fired
    more = [*rows, {"step": 5, "completion/truncated_frac": 0.9}]
    assert [index for index, _ in fired(made, more, [change])] == [0]
    assert fired(made, more, [change, change | {"step": 4}]) == []  # twice is enough


def test_the_largest_cap_that_can_come():
    key = "rollout.max_completion_tokens"
    assert largest_cap(recipe(rollout={"max_completion_tokens": 64})) == 64
    points = {"key": key, "points": [[1, 100], [9, 900]]}
    assert largest_cap(recipe(schedules=[points], rollout={"max_completion_tokens": 64})) == 900
    when = {"metric": "completion/truncated_frac", "above": 0.3, "max_times": 3}
    grown = {"key": key, "when": when, "times": 2.0}
    assert largest_cap(recipe(schedules=[grown], rollout={"max_completion_tokens": 64})) == 512
    high = points | {"points": [[1, 64], [9, 200]]}
    both = [high, grown], [grown, high]  # 200 doubled three times, in either order
    assert [largest_cap(recipe(schedules=list(one))) for one in both] == [8192, 8192]
    small = {"max_completion_tokens": 64}
    assert [largest_cap(recipe(schedules=list(one), rollout=small)) for one in both] == [1600] * 2
    change = {"changes": [{"key": key, "to": 300}]}
    assert largest_cap(recipe(sentinel=change, rollout={"max_completion_tokens": 64})) == 300


def test_a_step_of_a_schedule_is_a_jump_and_a_ramp_is_not():
    cap, rate = "rollout.max_completion_tokens", "train.learning_rate"
    step = {"key": cap, "points": [[5, 32], [6, 64]], "between": "hold"}
    ramp = {"key": "rollout.temperature", "points": [[10, 1.0], [30, 0.5]]}  # 2.5 % a step at most
    rates = {"key": rate, "points": [[15, 1e-6], [16, 1e-4]], "between": "hold"}
    made = recipe(schedules=[step, ramp, rates])
    assert [number for number in range(1, 41) if jumps(made, number)] == [6]
    several = recipe(schedules=[step], train={"updates_per_batch": 2, "save_every": 50})
    assert [number for number in range(1, 41) if jumps(several, number)] == [7]  # batch 7, 8


def test_the_reference_is_loaded_where_kl_can_be_switched_on():
    assert not uses_kl(recipe())
    assert uses_kl(recipe(loss={"kl_coef": 0.01}))
    assert uses_kl(recipe(sentinel={"changes": [{"key": "loss.kl_coef", "to": 0.01}]}))
    assert uses_kl(recipe(schedules=[{"key": "loss.kl_coef", "points": [[5, 0.1]]}]))


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ({"key": "train.num_steps", "points": [[1, 5]]}, "cannot change during a run"),
        ({"key": "loss.kl_coef"}, "exactly one of points, when"),
        ({"key": "loss.kl_coef", "points": [[5, 0], [5, 1]]}, "should rise from 1 or more"),
        ({"key": "loss.kl_coef", "points": [[0, 0]]}, "should rise from 1 or more"),
        ({"key": "loss.kl_coef", "points": [[1, 0]], "to": 1}, "points need neither"),
        (
            {"key": "loss.kl_coef", "when": {"metric": "policy/kl", "above": 1}},
            "exactly one of to, times",
        ),
        (
            {"key": "loss.kl_coef", "when": {"metric": "policy/kl"}, "to": 1},
            "exactly one of above, below",
        ),
    ],
)
def test_a_bad_schedule_is_one_sentence(schedule, sentence):
    with pytest.raises(InputError) as caught:
        recipe(schedules=[schedule])
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


CAP, TEMPERATURE = "rollout.max_completion_tokens", "rollout.temperature"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"schedules": [{"key": "rewards.cosine.weight", "points": [[1, 1]]}]},
            "rewards.cosine.weight: no reward is named 'cosine'; those there: accuracy, format",
        ),
        (
            {"schedules": [{"key": TEMPERATURE, "points": [[1, 1.0], [5, 0.0]]}]},
            "recipe: schedules.0, point [5, 0]: rollout.temperature = 0.0: input should be greater "
            "than 0",
        ),
        (  # 64, 32, 16, 8, 4, 2, 1 and then 0.5, which is rounded to 0
            {
                "rollout": {"max_completion_tokens": 64},
                "sentinel": {"changes": [{"key": CAP, "times": 0.5}], "max_roll_backs": 7},
            },
            "sentinel.changes.0, times = 0.5 made 7 times: rollout.max_completion_tokens = 0: ",
        ),
        (
            {
                "schedules": [
                    {"key": CAP, "points": [[1, 64]]},
                    {
                        "key": "data.max_pass_rate",
                        "when": {"metric": "reward/mean", "above": 1},
                        "to": 2,
                    },
                ]
            },
            "schedules.1, to = 2: data.max_pass_rate = 2",
        ),
        (
            {"rewards": [{"type": "accuracy"}],
             "sentinel": {"changes": [{"key": "rewards.accuracy.weight", "to": 0}]}},
            "sentinel.changes.0, to = 0: rewards: every weight is 0",
        ),
        (
            {"schedules": [{"key": CAP, "points": [[1, 64], [9, 32]]},
                           {"key": CAP, "points": [[9, 16]]}]},
            f"two of {CAP} overlap, one up to step 9 and one from step 9 on",
        ),
        (
            {"sentinel": {"actions": {"lenght_up": "pause"}}},
            "sentinel.actions: no detector is named 'lenght_up'; did you mean 'length_up'?",
        ),
        (
            {"sentinel": {"changes": [{"key": CAP, "to": 9, "after": ["collapse"]}]}},
            "sentinel.changes.0.after: no detector is named 'collapse'; known: reward_drop, ",
        ),
    ],
)  # fmt: skip
def test_what_could_not_be_is_refused_before_the_run(settings, sentence):
    with pytest.raises(InputError) as caught:
        recipe(**settings)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_pieces_of_one_course_with_a_gap():
    made = recipe(
        schedules=[
            {"key": CAP, "points": [[20, 200], [30, 300]]},
            {"key": CAP, "points": [[5, 50], [9, 90]]},
        ]
    )
    steps = (1, 5, 7, 9, 19, 20, 25, 99)
    caps = [settings_at(made, step).rollout.max_completion_tokens for step in steps]
    assert caps == [50, 50, 70, 90, 90, 200, 250, 300]


def test_weights_that_only_a_schedule_lifts_are_accepted_and_survive_the_resolved_recipe():
    schedule = {"key": "rewards.format.weight", "points": [[1, 0.0], [50, 2.0]]}
    made = recipe(rewards=[{"type": "format", "weight": 0}], schedules=[schedule])
    assert recipe_from_dict(json.loads(made.model_dump_json())) == made
    assert scheduled_weights(made, settings_at(made, 50)) == {"format": 2.0}
    with pytest.raises(InputError, match="every weight is 0"):
        recipe(rewards=[{"type": "format", "weight": 0}])


def test_the_band_of_pass_rates_of_a_step():
    easy_first = {"key": "data.min_pass_rate", "points": [[1, 0.5], [11, 0.0]]}
    made, rates = recipe(schedules=[easy_first]), {"a": 0.2, "b": 0.5, "c": 0.9}
    assert uses_band(made) and not uses_band(recipe())
    assert outside_band(settings_at(made, 1), rates) == {"a"}
    assert outside_band(settings_at(made, 11), rates) == set()
    assert outside_band(recipe(data={"max_pass_rate": 0.5}), rates) == {"c"}
