"""Repetition, language and group-relative length by hand, and what holds for any completion."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.grade import Grade
from open_rs.problems import Problem
from open_rs.recipe import SCRIPTS
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.train.language import outside_share, prose
from open_rs.train.reward_functions import (
    group_length_reward,
    language_reward,
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

LANGUAGE_CASES = [  # text, scripts, letters outside, letters
    ("", LATIN, 0, 0),
    ("", ("han",), 0, 0),
    ("12 + 3 = 15.", ("han",), 0, 0),
    ("So the answer is 4.", LATIN, 0, 14),
    ("Größe à la façon", LATIN, 0, 13),
    ("the 答案 is", LATIN, 2, 7),  # the, is: 5 letters
    ("思考再回答", LATIN, 5, 5),
    ("思考再回答", ("han",), 0, 5),
    ("ответ: нет", LATIN, 8, 8),
    ("Ответ да, the answer", ("cyrillic",), 9, 16),
    ("答えは「はい」です", ("han", "hiragana", "katakana"), 0, 7),
    ("カタカナー 답", ("katakana",), 1, 6),  # the long-vowel mark is a letter of katakana
    # mathematics and code are no prose, whoever's letters they have
    ("则 $abc + \\text{so}$ 因此", ("han",), 0, 3),
    ("则 $$abc$$ \\(def\\) \\[ghi \\frac{jk}{lm}\\] 因此", ("han",), 0, 3),
    ("`code` 则\n```python\nprint(abc)\n```", ("han",), 0, 1),
    ("the sum \\( \\text{总和} \\) is", LATIN, 0, 8),
    ("设 x 为 \\alpha", ("han",), 0, 2),
    ("设 an 为", ("han",), 2, 4),  # not a variable but a word
    ("<think>想</think>是 <answer>对</answer>", ("han",), 0, 3),
    # Greek: up to three in a row are variables, more a word
    ("so α + βγ = αβγ, Δx", LATIN, 0, 2),
    ("so λόγος", LATIN, 5, 7),
    ("λόγος", ("greek",), 0, 5),
    ("in ℝ, 𝐱 and µ", LATIN, 0, 5),  # made for mathematics
    # an open delimiter opens nothing, and money is no formula across lines
    ("costs $5\n答案 $6", LATIN, 2, 7),
    ("the \\( 答案 ", LATIN, 2, 5),
    ("``` 答案", LATIN, 2, 2),
    ("\ud800 是", LATIN, 1, 1),  # a lone surrogate, as broken bytes decode to
    ("ｆｕｌｌ 是", LATIN, 1, 5),
    ("ⴰⵎⴰⵣ", SCRIPTS, 4, 4),  # Tifinagh, which is not in the list
]


@pytest.mark.parametrize(("text", "scripts", "outside", "letters"), LANGUAGE_CASES)
def test_language_by_hand(text, scripts, outside, letters):
    value = language_reward(rollout_of(text), PROBLEM, scripts=scripts)
    assert type(value) is float  # it goes into JSON
    assert value == pytest.approx(float(1 - Fraction(outside, letters or 1)), abs=1e-12)


def test_prose_is_what_is_left():
    text = "Let $x$ be\n```\ncode\n```\\[y\\] and \\textbf{bold} <think>done"
    assert prose(text).split() == ["Let", "be", "and", "{bold}", "done"]


WORDS = st.lists(st.sampled_from(["word", "да", "答案", "x", "$x$", "λ", "12", "`", "\\(", "一"]))


@given(WORDS.map(" ".join), st.sets(st.sampled_from(["latin", "han", "cyrillic"]), min_size=1))
@settings(max_examples=150, deadline=None)
def test_language_is_in_0_to_1_and_rises_with_each_script_allowed(text, scripts):
    value = language_reward(rollout_of(text), PROBLEM, scripts=tuple(sorted(scripts)))
    assert 0 <= value <= 1
    more = language_reward(rollout_of(text), PROBLEM, scripts=(*sorted(scripts), "greek"))
    assert more >= value
    assert language_reward(rollout_of(text), PROBLEM, scripts=SCRIPTS) == 1


@given(WORDS.map(" ".join))
@settings(max_examples=80, deadline=None)
def test_a_foreign_word_more_never_earns_more_and_an_expected_one_never_less(text):
    text = text.replace("`", "").replace("\\(", "").replace("$x$", "")
    plain = language_reward(rollout_of(text), PROBLEM, scripts=LATIN)
    assert language_reward(rollout_of(text + " 答案"), PROBLEM, scripts=LATIN) <= plain
    assert language_reward(rollout_of(text + " word"), PROBLEM, scripts=LATIN) >= plain


@pytest.mark.parametrize(
    "piece", ["\\(", "\\[", "$", "$$x", "`", "```", "```a`b", "<a", "\\", "$x\n", "α", "x 是"]
)
def test_language_takes_linear_time(piece):
    # 10^6 characters that open and never close: quadratic would be hours
    assert 0 <= outside_share(piece * (10**6 // len(piece)) + "的", LATIN) <= 1


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
