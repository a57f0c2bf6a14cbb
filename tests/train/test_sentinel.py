"""The sentinel's statistics by hand, its false alarms and its delay by simulation."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from open_rs.recipe.schedules import DETECTOR_NAMES, SentinelRecipe
from open_rs.train.sentinel import (
    CLIP,
    DETECTORS,
    LIMIT,
    QUIET,
    SLACK,
    WARM_UP,
    Detector,
    Sentinel,
    Watch,
    detector_names,
)

UP = Detector("up", "x", "up", 0.5, "it grows", "shrink it")


def watch_all(watch: Watch, values: list[float], start: int = 1) -> list[int]:
    """The steps that raised an alarm."""
    rows = [{"step": float(step), "x": value} for step, value in enumerate(values, start)]
    return [int(row["step"]) for row in rows if watch.observe(int(row["step"]), row)]


def test_a_change_of_course_by_hand():
    # Ten zeros: mean 0, std 0, so the floor 0.5 is one standard deviation. Then x = 1.5 is z = 3 at
    # first; the mean follows by 1/11 of what is off, and the variance, of the tenth difference, is
    # 1.15 x 1.5^2 / 2 / 10 = 0.129.
    watch = Watch(UP)
    assert watch_all(watch, [0.0] * WARM_UP) == []
    watch.observe(11, {"x": 1.5})
    assert watch.total == pytest.approx(3 - SLACK)
    assert watch.mean == pytest.approx(1.5 / 11)
    assert watch.variance == pytest.approx(1.15 * 1.125 / 10)
    watch.observe(12, {"x": 1.5})  # sqrt(0.129) is below the floor
    assert watch.total == pytest.approx(2 + (1.5 - 1.5 / 11) / 0.5 - 1)
    quick = Watch(replace(UP, span=6))  # whose drift counts as spread
    watch_all(quick, [0.0] * WARM_UP + [1.5])
    assert quick.variance == pytest.approx((1 - 1 / 11) / 11 * 1.5**2)


def test_no_alarm_before_the_third_step_however_far_off():
    assert 2 * (CLIP - SLACK) < LIMIT < 3 * (CLIP - SLACK)
    assert watch_all(Watch(UP), [0.0] * 20 + [1e9] * 2 + [0.0] * 20) == []
    assert watch_all(Watch(UP), [0.0] * 20 + [1e9] * 3) == [23]


def test_only_the_named_direction_and_a_quiet_time_after_an_alarm():
    down = Detector("down", "x", "down", 0.5, "it shrinks", "grow it")
    values = [0.0] * 20 + [-5.0] * 5
    assert watch_all(Watch(UP), values) == []
    assert watch_all(Watch(down), values) == [23]
    # growing for ever: alarms are at least QUIET steps apart
    steps = watch_all(Watch(UP), [0.0] * 20 + [3.0**n for n in range(60)])
    assert steps[0] == 24 and all(b - a >= QUIET for a, b in pairwise(steps))


def test_a_short_span_follows_quick_learning_and_sees_a_jump():
    # 0.1 standard deviations a step: a mean of 30 steps lags by 3 of them, one of 6 steps by 0.6
    learning = [0.1 * 0.5 * step for step in range(60)]
    quick = Detector("jump", "x", "up", 0.5, "it jumps", "look", span=6)
    assert watch_all(Watch(UP), learning) != []
    assert watch_all(Watch(quick), learning) == []
    jumped = learning[:40] + [value + 5 for value in learning[40:]]
    assert watch_all(Watch(quick), jumped) == [43]


def test_a_detector_learns_nothing_from_missing_and_non_finite_values():
    watch = Watch(UP)
    for step in range(1, 30):
        assert watch.observe(step, {}) is None
        assert watch.observe(step, {"x": float("nan")}) is None
    assert watch.seen == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_an_alarm_that_names_its_series(value):
    (alarm,) = Sentinel().observe({"step": 3, "policy/engine_kl": value})
    assert (alarm.detector.name, alarm.step) == ("nonfinite", 3)
    assert "policy/engine_kl" in alarm.sentence()


def test_the_best_held_out_score_outlives_a_new_course():
    sentinel = Sentinel()
    scored = {"validation/pass@1_low": 0.79, "validation/pass@1_high": 0.81}
    assert sentinel.observe({"step": 0, "validation/pass@1": 0.8, **scored}) == []
    sentinel.learn_anew()
    fallen = {"validation/pass@1_low": 0.49, "validation/pass@1_high": 0.51}
    (alarm,) = sentinel.observe({"step": 5, "validation/pass@1": 0.5, **fallen})
    assert alarm.detector.name == "held_out_drop"


def test_increments_follow_steady_growth_and_see_a_blow_up():
    growing = Detector("kl", "x", "up", 0.002, "it grows faster", "stop", increments=True)
    steady = [0.001 * step for step in range(60)]
    assert watch_all(Watch(growing), steady) == []
    blown = steady[:40] + [steady[39] * 1.5**n for n in range(1, 8)]
    assert watch_all(Watch(growing), blown)[0] <= 45


def test_a_slow_drift_is_followed():
    # 0.03 standard deviations a step: the mean lags by 0.9 of one, under the slack
    drift = [0.03 * 0.5 * step for step in range(2000)]
    assert watch_all(Watch(UP), drift) == []


SLOW = {  # detector: series, its noise, what is still to be learnt at first, drift, found within
    "reward_drop": (lambda x: 1.4 + x, 0.08, -0.5, -0.01, 40),
    "length_up": (lambda x: 60 * math.exp(x), 0.1, 0.5, 0.03, 20),  # 3 % a step
    "length_down": (lambda x: 60 * math.exp(x), 0.1, -0.5, -0.03, 20),
    "language": (lambda x: 0.1 + x, 0.04, 0.2, 0.01, 30),
    "repetition": (lambda x: 0.01 + x, 0.01, 0.05, 0.005, 30),
    "truncation": (lambda x: 0.05 + x, 0.015, 0.1, 0.01, 20),
    "dead_groups": (lambda x: 0.1 + x, 0.03, 0.2, 0.01, 25),
    "entropy_up": (lambda x: 0.5 * math.exp(x), 0.2, 1.5, 0.05, 40),  # 5 % a step
    "gradient_norm": (lambda x: math.exp(x), 0.3, 1.5, 0.1, 30),
    "undecided": (lambda x: 0.01 + x, 0.01, 0.0, 0.01, 20),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_onset_is_found_after_a_course_that_was_learnt(name):
    # 60 steps of learning, exp(-step / 15) of it still to come, and noise as the bench has it; the
    # spread of that course is not to hide the drift that follows.
    series, noise, learnt, drift, limit = SLOW[name]
    (detector,) = (one for one in DETECTORS if one.name == name)
    found, early = 0, 0
    for seed in range(40):
        draw, watch, alarms = random.Random(seed), Watch(detector), []
        for step in range(1, 61 + limit):
            gone = drift * max(0, step - 60)
            value = series(draw.gauss(gone + learnt * math.exp(-step / 15), noise))
            if watch.observe(step, {detector.series: value}):
                alarms.append(step)
        early += any(step <= 60 for step in alarms)
        found += any(step > 60 for step in alarms)
    assert early == 0 and found >= 38  # 95 %


@pytest.mark.parametrize("shift", [3.0, 4.0, 6.0])
def test_false_alarms_and_delay_on_noise(shift):
    draw = random.Random(5)
    quiet = Watch(UP)
    alarms = watch_all(quiet, [draw.gauss(0, 1) for _ in range(20_000)])
    assert len(alarms) <= 1  # of 20,000 steps: 13 detectors together stay under 1 in 1,000
    found = 0
    for seed in range(200):
        draw = random.Random(seed)
        values = [draw.gauss(0, 1) for _ in range(40)] + [draw.gauss(shift, 1) for _ in range(10)]
        found += any(step > 40 for step in watch_all(Watch(UP), values))
    assert found >= 190  # 95 % within ten steps


def test_state_is_a_function_of_the_rows():
    draw = random.Random(1)
    rows = [
        {"step": float(step)} | {one.series: draw.random() for one in DETECTORS}
        for step in range(1, 80)
    ]
    whole = Sentinel()
    for row in rows:
        whole.observe(row)
    again = Sentinel()
    for row in rows[:37]:
        again.observe(row)
    for row in rows[37:]:
        again.observe(row)
    assert again == whole


def test_one_step_that_is_not_finite_is_an_alarm_at_once():
    (alarm,) = Sentinel().observe({"step": 3, "optim/skipped": 1.0})
    assert alarm.detector.name == "nonfinite"
    assert "lower train.learning_rate" in alarm.sentence()
    assert Sentinel().observe({"step": 3, "optim/skipped": 0.0}) == []


def held_out(step: int, value: float, half: float) -> dict[str, float]:
    key = "validation/pass@1"
    return {"step": step, key: value, f"{key}_low": value - half, f"{key}_high": value + half}


def test_a_held_out_score_below_the_best_one():
    # half-widths of 0.098 are standard errors of 0.05; two of them make 0.0707, 2.5 times 0.177
    sentinel = Sentinel()
    assert sentinel.observe(held_out(0, 0.50, 0.098)) == []
    assert sentinel.observe(held_out(10, 0.60, 0.098)) == []
    assert sentinel.observe(held_out(20, 0.43, 0.098)) == []  # 0.17 below
    (alarm,) = sentinel.observe(held_out(30, 0.42, 0.098))  # 0.18 below
    assert (alarm.detector.name, alarm.value, alarm.expected) == ("held_out_drop", 0.42, 0.60)


def test_the_recipe_knows_every_detector_by_its_name():
    assert list(detector_names()) == sorted(detector_names(), key=DETECTOR_NAMES.index)
    assert set(detector_names()) == set(DETECTOR_NAMES) and len(DETECTOR_NAMES) == 17


def test_the_default_change_lowers_the_rate_where_steps_were_too_large():
    (change,) = SentinelRecipe().changes
    assert (change.key, change.times) == ("train.learning_rate", 0.3)
    assert {"kl", "update_size", "nonfinite"} <= set(change.after)
    assert not {"engine_kl", "undecided", "language", "truncation"} & set(change.after)
