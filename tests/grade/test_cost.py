import math
import time

import pytest

from open_rs.grade.cost import log10_at_least, size
from open_rs.grade.exact import looks_cheap
from open_rs.grade.normalise import normalise
from open_rs.grade.reader import read


def tree(text):
    return read(normalise(text))


@pytest.mark.parametrize(
    "text",
    [
        "42", r"\frac{14}{3}", r"3\sqrt{13}", "2^{1009}", "100!", r"\binom{20}{10}", "x^2 - 2x + 2",
        "(x+1)^{10}", r"2^{N-2}+1", r"\frac{8}{16575}", r"\log_2 10", "4.5e33", r"\sqrt[3]{2}",
        "x^{100}", r"\frac{n(n+1)(2n+1)}{6}", "10^{100}",
    ],
)  # fmt: skip
def test_ordinary_answers_are_affordable(text):
    assert size(tree(text)).affordable


@pytest.mark.parametrize("wrap", [
    "@", r"\frac{1}{@}", r"\sqrt{@}", r"\{1, @\}", "(@, 3)", "x = @", "|@|", r"\sin(@)", "x^{@}",
    "(@)!", "@ - @", r"\binom{@}{2}", r"\log_{2}(@)", r"@ \text{ cm}", r"@\%", "2(@)", "(@)^{0}",
    r"\begin{pmatrix} @ \\ 1 \end{pmatrix}", r"\sqrt[@]{2}", "(x+1)^{@}", r"1^{@}",
])  # fmt: skip
@pytest.mark.parametrize(
    "bomb", ["9^{9^{9}}", "(9!)!", "2^{10^6}", "100000!", "((9^9)^9)^{9^9}", r"\binom{10^9}{7}"]
)
def test_no_wrapping_gets_a_bomb_past_the_gate(bomb, wrap):
    assert not size(tree(wrap.replace("@", bomb))).affordable


@pytest.mark.parametrize(
    "text", ["(a+b+c+d+x+y)^{99}", "(x+y)(x+z)(a+b)(c+d)(p+q)(r+s)(u+v)(w+x)(a+c)(b+d)(x+1)"]
)
def test_expansions_are_counted(text):
    assert not size(tree(text)).affordable


def test_a_power_multiplies_the_bits():
    # 9 has 4 bits and a denominator of 1: (4 + 1) * 100 = 500
    assert size(tree("9^{100}")).bits == 500


@pytest.mark.parametrize(
    ("text", "at_most"),
    [("10^{500}", 500), ("1000!", math.lgamma(1001) / math.log(10)), ("2^{100} 3^{100}", 78)],
)
def test_lower_bounds_are_below_the_truth(text, at_most):
    bound = log10_at_least(tree(text))
    assert 0.4 * at_most <= bound <= at_most


@pytest.mark.parametrize("text", ["x", "-5", "3-2", r"\sin 1", "(1/2)^{99}"])
def test_no_lower_bound_without_proof(text):
    bound = log10_at_least(tree(text))
    assert bound is None or bound < 1


@pytest.mark.parametrize(
    ("text", "cheap"),
    [
        (r"\int_0^1 x^2 dx", True),
        (r"y^{\prime}+r y-r x(t)=0", True),
        (r"\int 9^{9^{9}} dx", False),
        (r"\int (9^{(9^9)}) dx", False),
        (r"\int 9**{9**9} dx", False),
        (r"\int 99! dx", False),
        (r"\sum_{k=1}^{1000000} k", False),
        (r"\int x^2 y^3 z^{4} dx", True),
        (r"\int " + "(" * 9 + "x" + ")" * 9, False),
        (r"\int 1e99999", False),
        ("x" * 301, False),
    ],
)
def test_texts_without_a_tree_are_judged_by_their_signs(text, cheap):
    assert looks_cheap(text) is cheap


def test_the_estimate_itself_is_cheap():
    tower = tree("2^{" * 15 + "3" + "}" * 15)
    started = time.process_time()
    assert not size(tower).affordable
    assert time.process_time() - started < 0.5
