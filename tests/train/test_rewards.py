"""Rewards by hand, and what stays undecided."""

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.errors import InputError
from open_rs.grade import OUTCOMES, Grade
from open_rs.interrupt import Interrupted, stop_on_signals
from open_rs.problems import Problem
from open_rs.recipe import (
    AccuracyReward,
    CosineReward,
    CustomReward,
    FormatReward,
    GroupLengthReward,
    LanguageReward,
    OverlongReward,
    RepetitionReward,
    recipe_from_dict,
)
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.train.reward_functions import (
    accuracy_reward,
    cosine_reward,
    format_reward,
    soft_overlong_penalty,
)
from open_rs.train.rewards import Reward, build_rewards, score

PROBLEM = Problem("p", "1 + 1", "2")
UNDECIDED = ["bad_gold", "timeout", "error"]


def rollout_of(text="", *, tokens=4, outcome="correct", finish_reason="stop", sample=0):
    return Rollout(
        completion_ids=list(range(tokens)),
        engine_logprobs=[-1.0] * tokens,
        completion=text,
        finish_reason=finish_reason,
        sample=sample,
        grade=Grade(outcome, None, 0.0),
    )


# --- accuracy ---


def test_accuracy_is_decided_for_right_wrong_and_missing_answers_only():
    values = {o: accuracy_reward(rollout_of(outcome=o), PROBLEM) for o in OUTCOMES}
    assert values == {
        "correct": 1.0,
        "wrong": 0.0,
        "no_answer": 0.0,
        "bad_gold": None,
        "timeout": None,
        "error": None,
    }


# --- format ---

FORMAT_CASES = [  # completion after an opened <think>, value
    ("thought</think>answer", 1),
    ("\n two\nlines \n</think>\n\n \\boxed{2} \n", 1),
    ("思考</think>2", 1),
    ("thought</think><answer>2</answer>", 1),
    ("thought", 0),  # never closed
    ("thought</think>", 0),  # no answer
    ("thought</think> \n", 0),
    ("thought</think><answer></answer>", 0),
    ("thought</think><answer> </answer>\n", 0),
    ("</think>answer", 0),  # no thought
    (" \n</think>answer", 0),
    ("a</think>b</think>c", 0),  # closed twice
    ("a</think>b<think>c", 0),  # opened again
    ("a</think>b<think>c</think>d", 0),
    ("", 0),
    ("thought</Think>answer", 0),
    ("thought</think answer", 0),
]


@pytest.mark.parametrize(("text", "value"), FORMAT_CASES)
def test_format_by_hand(text, value):
    opened = {"template_opens_think": True}
    unopened = {"template_opens_think": False}
    assert format_reward(rollout_of(text), PROBLEM, **opened) == value
    assert format_reward(rollout_of(f"<think>{text}"), PROBLEM, **unopened) == value
    assert format_reward(rollout_of(f" \n<think>{text}"), PROBLEM, **unopened) == value
    # the other way round the tag is missing or doubled, and something before it is not anchored
    assert format_reward(rollout_of(text), PROBLEM, **unopened) == 0
    assert format_reward(rollout_of(f"<think>{text}"), PROBLEM, **opened) == 0
    assert format_reward(rollout_of(f"So <think>{text}"), PROBLEM, **unopened) == 0


@given(st.lists(st.sampled_from(["<think>", "</think>", "a", " ", "<answer>"]), max_size=8))
@settings(max_examples=150, deadline=None)
def test_format_is_0_or_1_and_needs_one_closing_tag(pieces):
    text = "".join(pieces)
    for opened in (True, False):
        value = format_reward(rollout_of(text), PROBLEM, template_opens_think=opened)
        assert value in (0.0, 1.0)
        assert value == 0 or text.count("</think>") == 1


# --- cosine ---

# tokens of 100, outcome -> reward with the defaults 1 -> 0.5 right, -0.5 -> 0 wrong
QUARTER = (1 + math.cos(math.pi / 4)) / 2
COSINE_CASES = [
    (0, "correct", 1.0),
    (25, "correct", 0.5 + 0.5 * QUARTER),
    (50, "correct", 0.75),
    (100, "correct", 0.5),
    (0, "wrong", -0.5),
    (25, "wrong", -0.5 * QUARTER),
    (50, "wrong", -0.25),
    (100, "wrong", 0.0),
    (50, "no_answer", -0.25),
    (200, "correct", 0.5),  # clamped: unclamped, the cosine would be back at its start
    (200, "wrong", 0.0),
]


@pytest.mark.parametrize(("tokens", "outcome", "value"), COSINE_CASES)
def test_cosine_by_hand(tokens, outcome, value):
    rollout = rollout_of(tokens=tokens, outcome=outcome)
    got = cosine_reward(rollout, PROBLEM, max_completion_tokens=100)
    assert got == pytest.approx(value, abs=1e-12)


def test_cosine_counts_tokens_not_characters():
    short, long = (rollout_of("x" * size, tokens=50) for size in (1, 7168))
    values = {cosine_reward(r, PROBLEM, max_completion_tokens=100) for r in (short, long)}
    assert values == {0.75}


@given(
    first=st.integers(0, 300),
    second=st.integers(0, 300),
    values=st.lists(st.floats(-10, 10), min_size=4, max_size=4).map(sorted),
)
@settings(max_examples=150, deadline=None)
def test_cosine_is_monotone_in_its_range_with_the_right_signs(first, second, values):
    min_wrong, max_wrong, min_correct, max_correct = values
    shorter, longer = sorted((first, second))

    def at(tokens, outcome):
        return cosine_reward(
            rollout_of(tokens=tokens, outcome=outcome),
            PROBLEM,
            max_completion_tokens=200,
            min_wrong=min_wrong,
            max_wrong=max_wrong,
            min_correct=min_correct,
            max_correct=max_correct,
        )

    slack = 1e-9
    assert at(shorter, "correct") >= at(longer, "correct") - slack  # shorter right ones earn more
    assert at(shorter, "wrong") <= at(longer, "wrong") + slack  # longer wrong ones lose less
    assert min_correct - slack <= at(first, "correct") <= max_correct + slack
    assert min_wrong - slack <= at(first, "wrong") <= max_wrong + slack


def test_cosine_of_a_truncated_completion():
    cut = rollout_of(tokens=100, outcome="wrong", finish_reason="length")
    right = rollout_of(tokens=100, outcome="correct", finish_reason="length")
    whole = rollout_of(tokens=100, outcome="wrong")
    assert cosine_reward(cut, PROBLEM, max_completion_tokens=100) == pytest.approx(0)
    for rollout, value in ((cut, -10), (right, -10), (whole, 0)):
        got = cosine_reward(rollout, PROBLEM, max_completion_tokens=100, truncated=-10)
        assert got == pytest.approx(value)


@pytest.mark.parametrize("outcome", UNDECIDED)
def test_cosine_of_an_undecided_rollout_is_undecided_even_when_truncated(outcome):
    rollout = rollout_of(outcome=outcome, finish_reason="length")
    assert cosine_reward(rollout, PROBLEM, max_completion_tokens=9, truncated=-1) is None


# --- overlong ---


@pytest.mark.parametrize(
    ("length", "value"),
    # cap 100, buffer 20: 0 up to 80, then a twentieth per token
    [(0, 0), (80, 0), (81, -0.05), (90, -0.5), (100, -1), (150, -1)],
)
def test_overlong_by_hand(length, value):
    got = soft_overlong_penalty(length, max_completion_tokens=100, overlong_buffer=20)
    assert got == pytest.approx(value)


@given(st.integers(0, 300), st.integers(1, 200))
@settings(max_examples=80, deadline=None)
def test_overlong_stays_in_minus_1_to_0_and_never_rises(length, buffer):
    at, next_ = (
        soft_overlong_penalty(n, max_completion_tokens=200, overlong_buffer=buffer)
        for n in (length, length + 1)
    )
    assert -1 <= next_ <= at <= 0


def test_overlong_buffer_is_a_fifth_of_the_cap_and_at_most_the_cap():
    (reward,) = build([OverlongReward()], cap=100)
    assert reward.function(rollout_of(tokens=90), PROBLEM) == pytest.approx(-0.5)
    (tiny,) = build([OverlongReward()], cap=3)  # 3 // 5 = 0, and a buffer is at least 1
    assert tiny.function(rollout_of(tokens=3), PROBLEM) == -1
    with pytest.raises(InputError, match=r"overlong_buffer is 101, above .* 100"):
        build([OverlongReward(overlong_buffer=101)], cap=100)


# --- weights ---


def test_a_scheduled_weight_counts_and_is_reported():
    rewards = build([AccuracyReward(), FormatReward()])
    found = {}
    for weight in (0.0, 0.5):
        group = RolloutGroup(PROBLEM, [1], [rollout_of("a</think>2")])
        report = score([group], rewards, scheduled={"format": weight})
        found[weight] = (group.rollouts[0].reward, report.weights)
    assert found == {0.0: (1.0, {"format": 0.0}), 0.5: (1.5, {"format": 0.5})}
    assert score([group], rewards).weights == {}


def test_a_scheduled_cap_reaches_the_rewards_that_measure_against_it():
    rewards = build([OverlongReward(), AccuracyReward()], cap=100)
    group = RolloutGroup(PROBLEM, [1], [rollout_of(tokens=90)])
    found = []
    for cap in (None, 100, 200, 90):
        score([group], rewards, max_completion_tokens=cap)
        found.append(group.rollouts[0].reward_breakdown["overlong"])
    # buffers of a fifth: (90 - 80) / 20, nothing below 160, and the cap itself
    assert found == pytest.approx([-0.5, -0.5, 0.0, -1.0])


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        ("much", "weight = 'much': input should be a valid number"),
        ([[1, 0.0], [50, 1.0]], "input should be a valid number"),
        (math.nan, "input should be a finite number"),
        (0, "every weight is 0"),
        (True, "should not be true or false"),
    ],
)
def test_a_weight_that_is_none_is_refused(weight, sentence):
    with pytest.raises(InputError, match=sentence):
        recipe_from_dict({"rewards": [{"type": "format", "weight": weight}]})


# --- building and scoring ---


def build(specs, *, cap=100, opened=True):
    return build_rewards(specs, max_completion_tokens=cap, template_opens_think=opened)


def test_rewards_are_built_from_the_recipe_with_its_numbers():
    specs = [
        AccuracyReward(weight=2.0),
        FormatReward(weight=0.5),
        CosineReward(max_correct=4.0, min_correct=2.0),
        OverlongReward(overlong_buffer=10),
    ]
    rewards = build(specs)
    assert [reward.name for reward in rewards] == ["accuracy", "format", "cosine", "overlong"]
    assert [reward.weight for reward in rewards] == [2.0, 0.5, 1.0, 1.0]
    rollout = rollout_of("thought</think>2", tokens=95)
    values = [reward.function(rollout, PROBLEM) for reward in rewards]
    cosine = 2 + 2 * (1 + math.cos(0.95 * math.pi)) / 2
    assert values == pytest.approx([1, 1, cosine, -0.5])
    (unopened,) = build([FormatReward()], opened=False)
    assert unopened.function(rollout, PROBLEM) == 0


PLUG_IN = """
import os
import signal

def brevity(rollout, problem):
    return 1 / len(rollout.completion_ids)

def abstains(rollout, problem):
    return None

def breaks(rollout, problem):
    raise KeyError(problem.id)

def not_a_number(rollout, problem):
    return float("nan")

def endless(rollout, problem):
    return float("inf")

def a_word(rollout, problem):
    return "good"

def agrees(rollout, problem):
    return rollout.grade.correct

def mean(rollout, problem):
    return 0.0

def huge(rollout, problem):
    return 1e308

def asks_to_stop(rollout, problem):
    os.kill(os.getpid(), signal.SIGTERM)
    return 0.0

def leaves(rollout, problem):
    raise SystemExit("enough")

def rank(rollout, problem, group):
    return sum(len(one.completion_ids) < len(rollout.completion_ids) for one in group.rollouts)

def format_weight(rollout, problem):
    return 0.0

accuracy = brevity
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """The name of a module of rewards in the working directory."""
    (tmp_path / "rewards_of_a_user.py").write_text(PLUG_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "rewards_of_a_user"
    sys.modules.pop("rewards_of_a_user", None)


def custom(plug_in, *names, **settings):
    return build([CustomReward(function=f"{plug_in}:{name}", **settings) for name in names])


def test_a_custom_reward_is_called_and_named_by_its_function(plug_in):
    rewards = [*build([AccuracyReward()]), *custom(plug_in, "brevity", weight=2.0)]
    group = RolloutGroup(PROBLEM, [1], [rollout_of(tokens=4)])
    assert score([group], rewards).undecided == 0
    assert group.rollouts[0].reward_breakdown == {"accuracy": 1.0, "brevity": 0.25}
    assert group.rollouts[0].reward == 1.5  # 1 + 2 / 4


def test_a_boolean_counts_as_a_number(plug_in):
    group = RolloutGroup(PROBLEM, [1], [rollout_of(outcome=o) for o in ("correct", "wrong")])
    score([group], custom(plug_in, "agrees"))
    assert [rollout.reward for rollout in group.rollouts] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("breaks", "reward 'breaks' on problem p, sample 3 raised KeyError: 'p'"),
        ("not_a_number", "reward 'not_a_number' on problem p, sample 3 returned nan"),
        ("endless", "reward 'endless' on problem p, sample 3 returned inf"),
        ("a_word", "reward 'a_word' on problem p, sample 3 raised ValueError"),
        ("leaves", "reward 'leaves' on problem p, sample 3 raised SystemExit: enough"),
        ("abstains", None),
    ],
)
def test_a_reward_that_fails_leaves_the_rollout_undecided_and_is_counted(plug_in, name, error):
    rewards = [*build([AccuracyReward()]), *custom(plug_in, name)]
    group = RolloutGroup(PROBLEM, [1], [rollout_of(sample=3), rollout_of(sample=4)])
    report = score([group], rewards)
    assert report.undecided == 2
    assert [rollout.reward for rollout in group.rollouts] == [None, None]
    assert group.rollouts[0].reward_breakdown == {"accuracy": 1.0, name: None}
    if error is None:
        assert report.first_error is None
    else:
        assert report.first_error.startswith(error)


def test_a_failing_reward_of_weight_0_is_measured_and_decides_nothing(plug_in):
    rewards = [*build([AccuracyReward()]), *custom(plug_in, "breaks", weight=0.0)]
    group = RolloutGroup(PROBLEM, [1], [rollout_of()])
    report = score([group], rewards)
    assert (group.rollouts[0].reward, report.undecided) == (1.0, 0)
    assert "KeyError" in report.first_error


@pytest.mark.parametrize("outcome", UNDECIDED)
def test_an_undecided_grade_is_never_0(outcome):
    group = RolloutGroup(
        PROBLEM, [1], [rollout_of("a</think>2", outcome=o) for o in (outcome, "wrong")]
    )
    report = score([group], build([AccuracyReward(), FormatReward()]))
    assert [rollout.reward for rollout in group.rollouts] == [None, 1.0]
    assert group.rollouts[0].reward_breakdown == {"accuracy": None, "format": 1.0}
    assert report.undecided == 1 and report.first_error is None


def test_a_sum_that_overflows_is_undecided_not_infinite(plug_in):
    group = RolloutGroup(PROBLEM, [1], [rollout_of()])
    report = score([group], custom(plug_in, "huge", weight=100.0))
    assert group.rollouts[0].reward is None
    assert report.undecided == 1
    assert report.first_error == "the weighted sum of rewards is inf on problem p, sample 0"


def test_a_signal_is_heard_between_two_rollouts(plug_in):
    group = RolloutGroup(PROBLEM, [1], [rollout_of(sample=n) for n in range(3)])
    with stop_on_signals(), pytest.raises(Interrupted, match="SIGTERM"):
        score([group], custom(plug_in, "asks_to_stop"))
    assert [bool(one.reward_breakdown) for one in group.rollouts] == [True, False, False]


def test_scoring_again_forgets_the_first_time():
    group = RolloutGroup(PROBLEM, [1], [rollout_of()])
    score([group], build([AccuracyReward(), FormatReward()]))
    score([group], build([AccuracyReward(weight=3.0)]))
    assert group.rollouts[0].reward_breakdown == {"accuracy": 1.0}
    assert group.rollouts[0].reward == 3.0


def test_a_rollout_without_a_grade_is_reported_and_not_wrong():
    rollout = rollout_of()
    rollout.grade = None
    report = score([RolloutGroup(PROBLEM, [1], [rollout])], build([AccuracyReward()]))
    assert rollout.reward is None and "no grade" in report.first_error


def test_a_reward_that_asks_for_its_group_sees_it(plug_in):
    lengths = ([3, 9, 5], [2, 2])
    groups = [RolloutGroup(PROBLEM, [1], [rollout_of(tokens=n) for n in one]) for one in lengths]
    rewards = [*custom(plug_in, "rank"), *build([GroupLengthReward()])]
    assert score(groups, rewards).undecided == 0
    parts = [[r.reward_breakdown for r in group.rollouts] for group in groups]
    assert [[part["rank"] for part in group] for group in parts] == [[0, 2, 1], [0, 0]]
    # 1/2 - (L - 3) / 6, and 0 where all lengths are equal
    assert [part["group_length"] for part in parts[0]] == pytest.approx([1 / 2, -1 / 2, 1 / 6])
    assert [part["group_length"] for part in parts[1]] == [0, 0]


def test_the_settings_of_repetition_and_language_arrive():
    specs = [RepetitionReward(ngram_size=2), LanguageReward(scripts=("han", "latin"))]
    repetition, language = build(specs)
    again = rollout_of("the 答案 да", tokens=0)
    again.completion_ids = [1, 2, 1, 2]  # 12 21 12
    assert repetition.function(again, PROBLEM) == pytest.approx(-1 / 3)
    assert language.function(again, PROBLEM) == pytest.approx(5 / 7)


def test_the_report_names_each_undecided_row_and_times_each_reward(plug_in):
    outcomes = ["timeout", "correct", "bad_gold"]
    rollouts = [rollout_of(outcome=one, sample=n) for n, one in enumerate(outcomes)]
    report = score(
        [RolloutGroup(PROBLEM, [1], rollouts)],
        [*build([AccuracyReward()]), *custom(plug_in, "huge")],
    )
    assert report.undecided_rows == [
        {"problem_id": "p", "sample": 0, "outcome": "timeout"},
        {"problem_id": "p", "sample": 2, "outcome": "bad_gold"},
    ]
    assert report.seconds.keys() == {"accuracy", "huge"} and min(report.seconds.values()) > 0
    many = [RolloutGroup(PROBLEM, [1], [rollout_of(outcome="error") for _ in range(50)])]
    report = score(many, build([AccuracyReward()]))
    assert (report.undecided, len(report.undecided_rows)) == (50, 20)


def test_a_time_limit_needs_a_process():
    with pytest.raises(InputError, match="timeout_s needs isolated = true"):
        recipe_from_dict({"rewards": [{"type": "custom", "function": "a:b", "timeout_s": 1}]})


def test_a_reward_named_as_the_weight_of_another_is_refused(plug_in):
    specs = [FormatReward(), CustomReward(function=f"{plug_in}:format_weight")]
    with pytest.raises(InputError, match="reward/format_weight is another metric"):
        build(specs)


def test_two_rewards_of_one_name_are_refused(plug_in):
    with pytest.raises(InputError, match="two rewards are named 'format'"):
        build([FormatReward(), AccuracyReward(), FormatReward()])
    function = f"{plug_in}:accuracy"
    with pytest.raises(InputError, match="two rewards are named 'accuracy'"):
        build([AccuracyReward(), CustomReward(function=function)])


def test_a_reward_named_as_another_metric_is_refused(plug_in):
    # reward/mean is the mean of the sum; a part of that name would overwrite it
    with pytest.raises(InputError, match=r"reward/mean is another metric; rename"):
        custom(plug_in, "mean")


def test_a_plug_in_that_is_not_there_is_named(plug_in):
    with pytest.raises(InputError, match="did you mean rewards_of_a_user:brevity"):
        custom(plug_in, "brevty")


@given(
    parts=st.lists(st.tuples(st.floats(-5, 5), st.floats(-3, 3) | st.none()), max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_the_sum_is_weighted_and_undecided_only_by_parts_that_weigh(parts):
    rewards = [
        Reward(str(place), weight, lambda rollout, problem, value=value: value)
        for place, (weight, value) in enumerate(parts)
    ]
    rollout = rollout_of()
    score([RolloutGroup(PROBLEM, [1], [rollout])], rewards)
    if any(value is None and weight != 0 for weight, value in parts):
        assert rollout.reward is None
    else:
        expected = math.fsum(weight * (value or 0) for weight, value in parts)
        assert rollout.reward == pytest.approx(expected, abs=1e-9)


def test_rewards_and_metrics_import_no_torch():
    code = (
        "import sys, open_rs.train.rewards, open_rs.train.metrics, open_rs.train.schedule; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
