"""What changes during a run: schedules by step, triggers, changes, and keys that may not."""

import json
import random

import pytest

from open_rs.errors import InputError
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.recipe.metrics import metric_names
from open_rs.recipe.moving import largest_cap, values_at
from open_rs.recipe.schedules import Schedule
from open_rs.train.sentinel import DETECTORS, UPDATE_SIZE
from open_rs.train.settings import (
    changed_value,
    fired,
    jumps,
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
    assert [largest_cap(recipe(schedules=list(one))) for one in both] == [1600, 1600]
    anew = [{"key": key, "when": when, "to": 300}, grown]  # set, and then doubled three times
    assert largest_cap(recipe(schedules=anew, rollout={"max_completion_tokens": 64})) == 2400
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


# --- settings together ---

TWO = [{"type": "accuracy"}, {"type": "format"}]
LOW, HIGH = "data.min_pass_rate", "data.max_pass_rate"


def points(key, *pairs, **more):
    return {"key": key, "points": [list(pair) for pair in pairs], **more}


def trigger(key, metric="reward/mean", **change):
    return {"key": key, "when": {"metric": metric, "above": 0.5}, **change}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"data": {"min_pass_rate": 0.6, "max_pass_rate": 0.4}},
            "data.min_pass_rate can be 0.6 with a data.max_pass_rate of 0.4, which leaves no",
        ),
        (  # each alone is fine beside the recipe's 0 and 1; they cross at step 8
            {"schedules": [points(LOW, (1, 0.0), (11, 1.0)), points(HIGH, (1, 0.9), (11, 0.5))]},
            "data.min_pass_rate can be 1 with a data.max_pass_rate of 0.5 at step 11",
        ),
        (  # only the last held step before the second value crosses
            {"schedules": [points(LOW, (1, 0.3), (20, 0.0), between="hold"),
                           points(HIGH, (1, 0.4), (10, 0.2), between="hold")]},
            "data.min_pass_rate can be 0.3 with a data.max_pass_rate of 0.2 at step 10",
        ),
        (
            {"schedules": [trigger(LOW, to=0.5), points(HIGH, (1, 1.0), (40, 0.4))]},
            "data.min_pass_rate can be 0.5 with a data.max_pass_rate of 0.4 at step 40",
        ),
        (  # 0.9 x 0.6 x 0.6 = 0.324, if the trigger and then a roll-back make it smaller
            {"data": {"min_pass_rate": 0.4, "max_pass_rate": 0.9},
             "schedules": [trigger(HIGH, times=0.6)],
             "sentinel": {"changes": [{"key": HIGH, "times": 0.6}], "max_roll_backs": 1}},
            "data.min_pass_rate can be 0.4 with a data.max_pass_rate of 0.324",
        ),
        (
            {"rewards": TWO, "schedules": [points("rewards.accuracy.weight", (1, 1.0), (30, 0.0)),
                                           points("rewards.format.weight", (1, 0.0), (60, 1.0))]},
            None,  # format is half-way up when accuracy is gone
        ),
        ({"rewards": TWO, "schedules": [
            points("rewards.accuracy.weight", (1, 0.0), (30, 1.0)),
            points("rewards.format.weight", (1, 0.0), (60, 1.0))]}, None),  # only step 1 has none
        (
            {"rewards": TWO, "schedules": [
                points("rewards.accuracy.weight", (1, 1.0), (30, 0.0)),
                points("rewards.format.weight", (1, 0.0), (60, 1.0), between="hold")]},
            "rewards: every weight is 0, or can be at step 30",
        ),
        (
            {"rewards": TWO, "schedules": [trigger("rewards.accuracy.weight", to=0)],
             "sentinel": {"changes": [{"key": "rewards.format.weight", "to": 0}]}},
            "rewards: every weight is 0, or can be at step 1",
        ),
        (
            {"rewards": [{"type": "accuracy"}, {"type": "overlong", "overlong_buffer": 64}],
             "schedules": [points(CAP, (1, 128), (9, 32))]},
            f"overlong_buffer is 64 and {CAP} can be 32 at step 9",
        ),
    ],
)  # fmt: skip
def test_what_is_possible_singly_and_not_together_is_refused(settings, sentence):
    if sentence is None:
        recipe(**settings)
        return
    with pytest.raises(InputError) as caught:
        recipe(**settings)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_two_courses_are_refused_exactly_where_they_cross():
    draw, refused = random.Random(4), 0
    for _ in range(60):
        courses = [
            points(
                key,
                *((step, draw.random()) for step in sorted(draw.sample(range(1, 31), 3))),
                between=draw.choice(["linear", "hold"]),
            )
            for key in (LOW, HIGH)
        ]
        schedules = [Schedule.model_validate(one) for one in courses]
        values = [values_at(schedules, step) for step in range(1, 40)]
        crossing = max(one[LOW] - one[HIGH] for one in values) > 0
        refused += crossing
        if crossing:
            with pytest.raises(InputError, match="which leaves no problem"):
                recipe(schedules=courses)
        else:
            recipe(schedules=courses)
    assert 0 < refused < 60


# --- the metrics of triggers ---


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("completion/truncated", "did you mean 'completion/truncated_frac'? name one of reward/me"),
        ("reward/lenght", "never fire; "),
        ("policy/kl", "schedules.0.when.metric = 'policy/kl': a run of this recipe measures no"),
        ("validation/pass@1", "the trigger would never fire"),
        ("reward/cosine", "the trigger would never fire"),
    ],
)
def test_a_trigger_on_what_is_not_measured_is_refused(metric, sentence):
    with pytest.raises(InputError) as caught:
        recipe(schedules=[trigger(CAP, metric, to=9)])
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_recipe_measures_can_be_watched():
    measured = recipe(
        rewards=[{"type": "cosine"}, {"type": "custom", "function": "mine:brevity"}],
        loss={"kl_coef": 0.1},
        data={"validation": {"task": "arithmetic", "count": 4}},
        schedules=[
            trigger(CAP, metric, to=9)
            for metric in ("reward/brevity", "reward/cosine", "policy/kl", "validation/pass@1")
        ],
    )
    series = {one.series for one in DETECTORS} - {UPDATE_SIZE} | {"optim/update_norm"}
    assert series <= set(metric_names(measured))
