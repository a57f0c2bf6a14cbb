"""What counts as the same text and the same gold."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.normalise import normalised, normalised_answer

SAME = [
    ("Compute 7 + 5.", "  COMPUTE   7+5 \n"),
    ("Find $x$ if $x + 1 = 2$.", "Find \\(x\\) if \\( x+1=2 \\)"),
    ("Find \\[\\dfrac{1}{2}\\]", "Find $\\frac{1}{2}$"),
    ("$\\left( a, b \\right)$", "$(a,b)$"),
    ("$x = 0\\,$", "$x=0$"),
    ("Janet’s ducks", "Janet's ducks"),
    ("7 − 5", "7 - 5"),
    ("a \\\\ b", "a\\\\b"),
    ("It costs \\$20", "It costs $20"),
    ("2² + 1", "2^2 + 1"),
    ("$\\dfrac12 x^{2}y \\leq 5$", "\\(\\frac{1}{2}x^2y ≤ 5\\)"),
    ("$\\frac{1}2$", "$\\tfrac{1}{2}$"),
    ("$60^{\\circ}$", "60°"),
    ("$5\\text{ cm}$", "5 cm"),
    ("$10{,}000$ at $50\\%$", "10,000 at 50%"),
    ("$\\sqrt2$", "$√2$"),
    ("$A_{}^{}$ and $m_{}$", "$A$ and $m$"),
    ("\\(2^10\\)", "$2^10$"),
    ("\\(\\log_264\\)", "$\\log_{2}64$"),
    ("$1, \\ldots, n_{k}$", "$1,\\dots,n_k$"),
]
DIFFERENT = [
    ("Compute 7 + 5.", "Compute 7 - 5."),
    ("Compute 7 + 5.", "Compute 75."),
    ("Take 1 12 times", "Take 11 2 times"),
    ("2² + 1", "22 + 1"),
    (".5 + 1", "5 + 1"),
    ("\\leftarrow", "arrow"),
    ("a \\\\ b", "a \\ b"),
    ("a \\\\, b", "a \\, b"),
    ("(1 + 2) * 3", "1 + 2 * 3"),
    ("x^{2}3", "x^{23}"),
    ("\\frac{12}{3}", "\\frac{1}{23}"),
    ("x^{\\circ}a", "x^{\\circa}"),
    ("x^{ab}", "x^ab"),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_spellings_of_one_problem(left, right):
    assert normalised(left) == normalised(right)


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_problems(left, right):
    assert normalised(left) != normalised(right)


def test_a_text_of_delimiters_alone_is_kept_so_that_two_such_texts_differ():
    assert normalised("$$") != normalised("$ .")


@settings(deadline=None)
@given(st.text(alphabet=" abAB01.,+-*/(){}[]$\\^_²’−\n\t", max_size=40))
def test_case_and_outer_space_never_matter(text):
    if normalised(text) != text:  # else nothing but delimiters may be left of it
        assert normalised(f" {text}\n") == normalised(text)
        assert normalised(text.upper()) == normalised(text.lower().upper())


SAME_GOLD = [("8.0", "8"), ("1,000", "1000"), ("+3", "3"), ("$5$", "5"), ("007", "7"), ("X", "x")]
DIFFERENT_GOLD = [
    ("8.01", "8"),
    ("-3", "3"),
    ("1,00", "100"),  # no thousands separator stands there: a pair
    ("0.5", "5"),
    ("100", "10"),
    ("1" * 39 + "1", "1" * 39 + "2"),  # beyond the digits of a double
    ("", "0"),
]


@pytest.mark.parametrize(("left", "right"), SAME_GOLD)
def test_one_gold_in_two_spellings(left, right):
    assert normalised_answer(left) == normalised_answer(right)


@pytest.mark.parametrize(("left", "right"), DIFFERENT_GOLD)
def test_different_golds(left, right):
    assert normalised_answer(left) != normalised_answer(right)


@pytest.mark.parametrize(
    "part", ["^{", "\\text{", "\\frac {a} ", "\\frac1", "{", "$", "^{ ^_", "1,000"]
)
def test_time_is_linear_in_the_text(part):
    started = time.process_time()
    normalised(part * 50_000)
    assert time.process_time() - started < 3  # a quadratic rule takes longer by far
