"""Shares of letters outside the expected scripts, by hand, and what holds for any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.recipe import SCRIPTS
from open_rs.scripts import outside_share, prose

LATIN = ("latin",)

CASES = [  # text, scripts, letters outside, letters
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
    # money is no formula: white space inside, or a digit after the closing sign
    ("a $5 你好 and $6 fee", LATIN, 2, 8),  # and, fee: 6 letters; a is a variable
    ("$5 你好 or $6", LATIN, 2, 4),
    ("5$ 你好 or 6$", LATIN, 2, 4),
    ("US$5你好-$6", LATIN, 2, 4),
    ("\\$5你好\\$ or", LATIN, 2, 4),
    ("costs $5\n答案 $6", LATIN, 2, 7),
    ("from $你\n好$ on", LATIN, 2, 8),  # one line each: money on two lines is no formula
    ("so $你好$, $x = 你 + 好$ and $\\text{总 \\$5}$.", LATIN, 0, 5),
    ("$$ 你好 $$ is $ 你好 $", LATIN, 2, 4),  # display mathematics may have white space
    # an open delimiter opens nothing
    ("the \\( 答案 ", LATIN, 2, 5),
    ("``` 答案", LATIN, 2, 2),
    ("\ud800 是", LATIN, 1, 1),  # a lone surrogate, as broken bytes decode to
    ("ｆｕｌｌ 是", LATIN, 1, 5),
    ("ⴰⵎⴰⵣ", SCRIPTS, 4, 4),  # Tifinagh, which is not in the list
]


@pytest.mark.parametrize(("text", "scripts", "outside", "letters"), CASES)
def test_share_by_hand(text, scripts, outside, letters):
    share = outside_share(text, scripts)
    assert type(share) is float  # it goes into JSON
    assert share == pytest.approx(outside / (letters or 1), abs=1e-12)


def test_prose_is_what_is_left():
    text = "Let $x$ be\n```\ncode\n```\\[y\\] and \\textbf{bold} <think>done"
    assert prose(text).split() == ["Let", "be", "and", "{bold}", "done"]


WORDS = st.lists(st.sampled_from(["word", "да", "答案", "x", "$x$", "λ", "12", "`", "\\(", "一"]))


@given(WORDS.map(" ".join), st.sets(st.sampled_from(["latin", "han", "cyrillic"]), min_size=1))
@settings(max_examples=150, deadline=None)
def test_share_is_in_0_to_1_and_falls_with_each_script_allowed(text, scripts):
    share = outside_share(text, tuple(sorted(scripts)))
    assert 0 <= share <= 1
    assert outside_share(text, (*sorted(scripts), "greek")) <= share
    assert outside_share(text, SCRIPTS) == 0


@given(WORDS.map(" ".join))
@settings(max_examples=80, deadline=None)
def test_a_foreign_word_more_never_lowers_the_share_and_an_expected_one_never_raises_it(text):
    text = text.replace("`", "").replace("\\(", "").replace("$x$", "")
    plain = outside_share(text, LATIN)
    assert outside_share(text + " 答案", LATIN) >= plain
    assert outside_share(text + " word", LATIN) <= plain


@pytest.mark.parametrize(
    "piece",
    [
        "\\(",
        "\\[",
        "$",
        "$$x",
        "`",
        "```",
        "```a`b",
        "<a",
        "\\",
        "$x\n",
        "$x ",
        "$x\\$",
        "α",
        "x 是",
    ],
)
def test_it_takes_linear_time(piece):
    # 10^6 characters that open and never close: quadratic would be hours
    assert 0 <= outside_share(piece * (10**6 // len(piece)) + "的", LATIN) <= 1
