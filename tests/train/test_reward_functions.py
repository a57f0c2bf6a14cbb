"""Repetition, language and group-relative length by hand, and what holds for any completion."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.grade import Grade
from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.train.reward_functions import (
    cosine_reward,
    group_length_reward,
    language_reward,
    overlong_reward,
    repetition_reward,
)

PROBLEM = Problem("p", "1 + 1", "2")
LATIN = ("latin",)


def rollout_of(text="", *, ids=(), outcome="correct"):
    return Rollout(list(ids), [0.0] * len(ids), text, "stop", grade=Grade(outcome, None, 0.0))


# --- repetition ---


@pytest.mark.parametrize(
    ("ids", "ngram_size", "value"),
    [
        ([], 3, 0),
        ([7, 7], 3, 0),  # no trigram at all
        ([1, 2, 3], 3, 0),
        ([1, 2, 3, 4, 5], 2, 0),
        ([1, 2, 1, 2, 1], 2, -1 / 2),  # 12 21 12 21: 2 distinct of 4
        ([1, 2, 3, 1, 2, 3, 4], 3, -1 / 5),  # 123 231 312 123 234: 4 of 5
        ([5] * 100, 20, -80 / 81),  # 1 of 81
        ([1, 1, 2], 1, -1 / 3),
    ],
)
def test_repetition_by_hand(ids, ngram_size, value):
    got = repetition_reward(rollout_of(ids=ids), PROBLEM, ngram_size=ngram_size)
    assert got == pytest.approx(value)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_repetition_counts_the_positions_that_repeat_an_earlier_ngram(ids, ngram_size):
    starts = range(len(ids) - ngram_size + 1)
    repeated = [
        place
        for place in starts
        if any(
            ids[place : place + ngram_size] == ids[earlier : earlier + ngram_size]
            for earlier in range(place)
        )
    ]
    value = repetition_reward(rollout_of(ids=ids), PROBLEM, ngram_size=ngram_size)
    assert value == pytest.approx(-len(repeated) / len(starts) if len(starts) else 0)
    assert -1 < value <= 0


@given(st.lists(st.integers(0, 5), min_size=4, max_size=30), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_saying_it_all_again_never_earns_more(ids, ngram_size):
    once, twice = (
        repetition_reward(rollout_of(ids=said), PROBLEM, ngram_size=ngram_size)
        for said in (ids, ids * 2)
    )
    assert twice <= once


# --- language ---


@pytest.mark.parametrize(
    ("text", "scripts", "value"),
    [
        ("", LATIN, 1),
        ("the 答案 is", LATIN, 5 / 7),  # the, is: 5 letters of 7
        ("思考再回答", LATIN, 0),
        ("<think>想</think>是 $abc$", ("han",), 1),  # thought and answer, no mathematics
    ],
)
def test_language_by_hand(text, scripts, value):
    got = language_reward(rollout_of(text), PROBLEM, scripts=scripts)
    assert type(got) is float and got == pytest.approx(value)  # a float: it goes into JSON


# --- length within the group ---


def group_of(*members):
    rollouts = [rollout_of(ids=range(length), outcome=outcome) for length, outcome in members]
    return RolloutGroup(PROBLEM, [1], rollouts)


def values_of(group):
    return [group_length_reward(one, PROBLEM, group=group) for one in group.rollouts]


def test_group_length_by_hand():
    # lengths 100 to 300: 1/2 - (L - 100) / 200 = 1/2, 1/4, 0, -1/2; wrong ones at most 0
    right = group_of((100, "correct"), (150, "correct"), (200, "correct"), (300, "correct"))
    assert values_of(right) == pytest.approx([0.5, 0.25, 0, -0.5])
    mixed = group_of((100, "wrong"), (150, "no_answer"), (200, "correct"), (300, "wrong"))
    assert values_of(mixed) == pytest.approx([0, 0, 0, -0.5])
    assert values_of(group_of((7, "correct"), (7, "wrong"), (7, "correct"))) == [0, 0, 0]
    assert values_of(group_of((7, "correct"))) == [0]


def test_lengths_are_what_the_engine_counted():
    group = group_of((0, "correct"), (0, "correct"))  # an endpoint that tells no ids
    group.rollouts[0].counted_tokens, group.rollouts[1].counted_tokens = 10, 30
    assert values_of(group) == [0.5, -0.5]
    cap = {"max_completion_tokens": 40}
    assert overlong_reward(group.rollouts[1], PROBLEM, overlong_buffer=20, **cap) == -0.5
    # 0.5 + 0.5 (1 + cos(pi / 4)) / 2
    value = cosine_reward(group.rollouts[0], PROBLEM, **cap)
    assert value == pytest.approx(0.5 + 0.25 * (1 + 2**0.5 / 2))


@pytest.mark.parametrize("outcome", ["bad_gold", "timeout", "error"])
def test_group_length_leaves_undecided_rollouts_out(outcome):
    group = group_of((1, outcome), (100, "correct"), (200, "correct"), (900, outcome))
    assert values_of(group) == [None, 0.5, -0.5, None]


LENGTHS = st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["correct", "wrong"])))


@given(LENGTHS.filter(bool), st.integers(0, 100), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_group_length_is_clamped_monotone_and_free_of_shift_and_scale(members, shift, scale):
    values = values_of(group_of(*members))
    assert all(-0.5 <= value <= 0.5 for value in values)
    assert all(value <= 0 for value, (_, outcome) in zip(values, members, strict=True)
               if outcome == "wrong")  # fmt: skip
    for outcome in ("correct", "wrong"):
        by_length = sorted(
            (length, -value)
            for value, (length, own) in zip(values, members, strict=True)
            if own == outcome
        )
        falls = [-negated for _, negated in by_length]
        assert falls == sorted(falls, reverse=True)
    moved = [(length * scale + shift, outcome) for length, outcome in members]
    assert values_of(group_of(*moved)) == pytest.approx(values, abs=1e-12)
