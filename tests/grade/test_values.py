import math
import subprocess
import sys
from fractions import Fraction

import mpmath
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.grade.equality import same_value
from open_rs.grade.latex import latex
from open_rs.grade.normalise import normalise
from open_rs.grade.reader import read
from open_rs.grade.residues import PRIME, is_prime, modular_value
from open_rs.grade.values import exact_value, floating_value

numbers = st.fractions(min_value=-50, max_value=50, max_denominator=30).map(lambda x: ("num", x))
symbols = st.sampled_from("xyz").map(lambda name: ("sym", name))


def grown(children):
    pair = st.tuples(children, children)
    return st.one_of(
        pair.map(lambda two: ("+", *two)),
        pair.map(lambda two: ("*", *two)),
        pair.map(lambda two: ("/", *two)),
        children.map(lambda one: ("neg", one)),
        st.tuples(children, st.integers(-3, 4)).map(
            lambda two: ("^", two[0], ("num", Fraction(two[1])))
        ),
    )


constants = st.recursive(numbers, grown, max_leaves=8)
expressions = st.recursive(numbers | symbols, grown, max_leaves=6)


def value_by_hand(tree):
    """An independent evaluation with Python's own arithmetic."""
    kind, parts = tree[0], tree[1:]
    if kind == "num":
        return parts[0]
    values = [value_by_hand(part) for part in parts]
    if kind == "^":
        return values[0] ** int(values[1])
    return {
        "+": lambda a, b: a + b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
        "neg": lambda a: -a,
    }[kind](*values)


def as_sympy(tree):
    kind, parts = tree[0], tree[1:]
    if kind == "num":
        return sympy.Rational(parts[0].numerator, parts[0].denominator)
    if kind == "sym":
        return sympy.Symbol(parts[0])
    a, *b = (as_sympy(part) for part in parts)
    return {
        "+": lambda: a + b[0],
        "*": lambda: a * b[0],
        "/": lambda: a / b[0],
        "neg": lambda: -a,
        "^": lambda: a ** b[0],
    }[kind]()


@given(constants)
def test_exact_values_are_pythons(tree):
    try:
        expected = value_by_hand(tree)
    except ZeroDivisionError:
        expected = None
    assert exact_value(tree) == expected


@settings(max_examples=60, deadline=None)
@given(expressions, expressions)
def test_same_value_agrees_with_sympy(one, other):
    verdict = same_value(one, other)
    first, second = as_sympy(one), as_sympy(other)
    if first.has(sympy.zoo, sympy.nan) or second.has(sympy.zoo, sympy.nan):
        return  # undefined somewhere: whatever we say, sympy has no opinion
    if verdict is not None:
        assert verdict == (sympy.cancel(first - second) == 0)


@settings(max_examples=60, deadline=None)
@given(expressions)
def test_an_expression_equals_its_expansion(tree):
    expanded = sympy.expand(as_sympy(tree))
    if expanded.has(sympy.zoo, sympy.nan):
        return
    residue = modular_value(tree)
    text = sympy.latex(expanded)
    if residue is not None and len(text) < 1500:
        assert modular_value(read(normalise(text))) == residue


@given(expressions)
def test_writing_and_reading_gives_an_equal_tree(tree):
    residue = modular_value(tree)
    if residue is not None:
        assert modular_value(read(normalise(latex(tree)))) == residue


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\sqrt{10^{10}+1} - 10^5", lambda m: m.sqrt(m.mpf(10) ** 10 + 1) - 10**5),
        (r"\sin(100) / (1 - \cos(0.001))", lambda m: m.sin(100) / (1 - m.cos(m.mpf("0.001")))),
        (r"\ln(2)/\ln(3) - 2^{1/3}", lambda m: m.log(2) / m.log(3) - m.cbrt(2)),
        (r"\log_{2}(10)", lambda m: m.log(10, 2)),
        (r"e^{\pi} - \pi", lambda m: m.exp(m.pi) - m.pi),
        (r"\frac{1}{\sqrt{3}-\sqrt{2}}", lambda m: 1 / (m.sqrt(3) - m.sqrt(2))),
        (r"\sqrt[3]{-8.5}", lambda m: -m.cbrt(m.mpf("8.5"))),
        (r"\arctan(2) + \tan 1.5", lambda m: m.atan(2) + m.tan(m.mpf("1.5"))),
    ],
)
def test_floating_values_lie_within_their_error(text, expected):
    value, error = floating_value(read(normalise(text)), 1)
    with mpmath.workdps(50):
        gap = abs(expected(mpmath) - mpmath.mpc(value))
    assert gap <= error
    assert error <= 1e-6 * max(abs(value), 1)


@pytest.mark.parametrize(
    "text", [r"\sqrt{2}^2 - 2 + 0\sqrt{3}", r"\binom{n}{2}", r"(-1)^n", r"\log 2", r"1/(\pi-\pi)"]
)
def test_no_floating_value_where_there_is_no_bound(text):
    tree = read(normalise(text))
    value = floating_value(tree, 1)
    assert value is None or value[1] >= abs(value[0]) - 1e-12


def test_points_are_fixed_and_positive():
    first, second = (floating_value(("sym", "x"), point)[0].real for point in (1, 2))
    assert first != second
    assert min(first, second) > 0
    assert floating_value(("sym", "x"), 1)[0].real == first
    assert math.isfinite(first)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x", "2^{61}x"),
        (r"2^{64}\pi", r"8\pi"),
        ("5", "5+2305843009213693951x"),  # 2^61 - 1
        ("5", f"5+{PRIME}x"),  # were it known: floating point sees the difference
        (r"\pi", rf"{PRIME + 1}\pi"),
    ],
    ids=["symbol", "pi", "mersenne", "drawn", "drawn_pi"],  # the prime differs between processes
)
def test_no_multiple_of_a_prime_is_zero(one, other):
    assert same_value(read(normalise(one)), read(normalise(other))) is False


def test_primes():
    small = [number for number in range(60) if is_prime(number)]
    assert small == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59]
    assert all(is_prime(number) == sympy.isprime(number) for number in range(2**61, 2**61 + 3000))
    assert sympy.isprime(PRIME)
    code = "from open_rs.grade.residues import PRIME; print(PRIME)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(again.stdout) != PRIME
