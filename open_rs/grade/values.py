"""Two ways to value a tree, each bounded in cost; residues.py is the third, equality.py uses them.

exact      a rational constant as a Fraction: decides both ways
floating   a complex number with a bound of its rounding error: values that lie further apart
           than the bound prove that two expressions differ
"""

import cmath
import hashlib
import math
from fractions import Fraction

from open_rs.grade.cost import MAX_FACTORIAL
from open_rs.grade.reader import Tree

_EPS = 2.0**-50
_MAX_BITS = 20_000


class NoValue(Exception):
    """This way of valuing does not apply to the tree."""


# ---- exact ----


def exact_value(tree: Tree) -> Fraction | None:
    """The value of a rational constant, None for anything else or too large."""
    try:
        return _exact(tree)
    except (NoValue, ZeroDivisionError):
        return None


def _exact(tree: Tree) -> Fraction:
    kind = tree[0]
    if kind == "num":
        value: Fraction = tree[1]
        return value
    if kind == "neg":
        return -_exact(tree[1])
    if kind == "unit":
        return _exact(tree[1])
    if kind not in ("+", "*", "/", "^", "!", "call"):
        raise NoValue
    if kind == "call":
        return _exact_call(tree)
    parts = [_exact(part) for part in tree[1:]]
    if kind == "+":
        return _small(sum(parts, Fraction(0)))
    if kind == "*":
        return _small(math.prod(parts, start=Fraction(1)))
    if kind == "/":
        return _small(parts[0] / parts[1])
    if kind == "^":
        return _exact_power(*parts)
    return _exact_factorial(parts[0])


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        root = _exact_root(base, exponent.denominator)
        return _exact_power(root, Fraction(exponent.numerator))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits > 1 and bits * abs(exponent) > _MAX_BITS:
        raise NoValue
    if bits <= 1:  # 0, 1 or -1
        exponent = exponent if exponent <= 0 else Fraction(2 - exponent.numerator % 2)
        exponent = exponent if exponent >= 0 else Fraction(-2 + exponent.numerator % 2)
    return base ** int(exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction:
    """The real root where it is rational."""
    if (
        degree > 64
        or value < 0
        or max(value.numerator.bit_length(), value.denominator.bit_length()) > 2000
    ):
        raise NoValue
    above, below = _integer_root(value.numerator, degree), _integer_root(value.denominator, degree)
    if above is None or below is None:
        raise NoValue
    return Fraction(above, below)


def _integer_root(value: int, degree: int) -> int | None:
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        if middle**degree < value:
            low = middle + 1
        else:
            high = middle
    return low if low**degree == value else None


def _exact_factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
        raise NoValue
    return Fraction(math.factorial(int(value)))


def _exact_call(tree: Tree) -> Fraction:
    name, parts = tree[1], [_exact(part) for part in tree[2:]]
    if name == "abs":
        return abs(parts[0])
    if name == "floor":
        return Fraction(math.floor(parts[0]))
    if name == "ceil":
        return Fraction(math.ceil(parts[0]))
    if name == "binom":
        above, below = parts
        if above.denominator != 1 or below.denominator != 1 or not 0 <= below <= above <= 4000:
            raise NoValue
        return Fraction(math.comb(int(above), int(below)))
    if name == "root" and parts[1].denominator == 1 and parts[1] >= 2:
        return _exact_root(parts[0], int(parts[1]))
    raise NoValue


def _small(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > 2 * _MAX_BITS:
        raise NoValue
    return value


def integer_exponent(tree: Tree) -> int | None:
    """The value of an exponent that is an integer of ordinary size."""
    value = exact_value(tree)
    return (
        int(value) if value is not None and value.denominator == 1 and abs(value) < 10**9 else None
    )


# ---- floating ----


def floating_value(tree: Tree, point: int) -> tuple[complex, float] | None:
    """(value, bound of its absolute error) with symbols at positive random values number `point`;
    None where floating point gives no bound.
    """
    try:
        value, error = _floating(tree, point)
    except (NoValue, ZeroDivisionError, OverflowError, ValueError):
        return None
    finite = cmath.isfinite(value) and math.isfinite(error)
    return (value, error) if finite else None


def _at(point: int, symbol: str) -> float:
    """The value of a symbol at point number `point`, fixed, between 0.4 and 2.6."""
    digest = hashlib.blake2b(f"{point}{symbol}".encode(), digest_size=8).digest()
    return 0.4 + 2.2 * int.from_bytes(digest) / 2**64


def _floating(tree: Tree, point: int) -> tuple[complex, float]:
    kind = tree[0]
    if kind == "num":
        value = complex(float(tree[1]))
        return value, abs(value) * _EPS
    if kind == "sym":
        return complex(_at(point, tree[1])), 0.0
    if kind == "const":
        value = {"pi": complex(math.pi), "e": complex(math.e), "i": 1j}[tree[1]]
        return value, abs(value) * _EPS
    if kind == "unit":
        return _floating(tree[1], point)
    if kind == "neg":
        value, error = _floating(tree[1], point)
        return -value, error
    if kind == "call":
        return _floating_call(tree, point)
    if kind not in ("+", "*", "/", "^", "!"):
        raise NoValue
    if kind == "!":
        whole = exact_value(tree)
        if whole is None:
            raise NoValue  # defined at integers alone
        return complex(float(whole)), float(whole) * _EPS
    parts = [_floating(part, point) for part in tree[1:]]
    if kind == "+":
        value = sum((part for part, _ in parts), 0j)
        error = sum(error + abs(part) * _EPS for part, error in parts)
        return value, error
    if kind == "^":
        return _floating_power(tree, parts[0], parts[1])
    value, error = parts[0]
    for other, other_error in parts[1:]:
        if kind == "*":
            error = abs(value) * other_error + abs(other) * error + error * other_error
            value *= other
        else:
            if abs(other) <= 4 * other_error:
                raise NoValue
            error = (error + abs(value / other) * other_error) / (abs(other) - other_error)
            value /= other
        error += abs(value) * _EPS
    return value, error


def _floating_power(
    tree: Tree, base: tuple[complex, float], exponent: tuple[complex, float]
) -> tuple[complex, float]:
    """base^exponent; with an exponent that is no integer, of a base off the negative axis alone."""
    (value, error), (power, power_error) = base, exponent
    whole = integer_exponent(tree[2])
    if whole is None and (abs(value) <= 4 * error or (value.real < 0 and abs(value.imag) <= error)):
        raise NoValue
    if whole is not None and abs(whole) > 10**4:
        raise NoValue
    result = value**whole if whole is not None else value**power
    relative = abs(power) * error / abs(value) if value else 0.0
    if whole is None:
        relative += abs(cmath.log(value)) * power_error
    return result, abs(result) * (relative * 2 + _EPS * (8 + abs(power)))


def _floating_call(tree: Tree, point: int) -> tuple[complex, float]:
    name = tree[1]
    whole = exact_value(tree)
    if whole is not None:
        return complex(float(whole)), abs(float(whole)) * _EPS
    if name in ("floor", "ceil", "binom", "abs"):
        raise NoValue  # steps, and identities that hold at integers alone
    value, error = _floating(tree[2], point)
    if name == "root":
        degree = exact_value(tree[3])
        if degree is None or degree.denominator != 1 or not 2 <= degree <= 64:
            raise NoValue
        return _floating_root(value, error, int(degree))
    if name in ("ln", "log"):
        base = _floating(tree[3], point) if len(tree) > 3 else None
        return _floating_log(name, value, error, base)
    function, slope = _FUNCTIONS[name]
    if abs(value) > 700:
        raise NoValue
    result = function(value)
    return result, 2 * abs(slope(value)) * error + 8 * _EPS * (
        abs(result) + abs(value * slope(value))
    )


def _floating_root(value: complex, error: float, degree: int) -> tuple[complex, float]:
    if abs(value) <= 4 * error:
        raise NoValue
    real = abs(value.imag) <= error
    if real and value.real < 0 and degree % 2 == 1:
        root = complex(-((-value.real) ** (1 / degree)))
    elif value.real < 0 and real and degree != 2:
        raise NoValue
    else:
        root = complex(value.real) ** (1 / degree) if real else value ** (1 / degree)
    return root, abs(root) * (2 * error / (degree * abs(value)) + 8 * _EPS)


def _floating_log(
    name: str, value: complex, error: float, base: tuple[complex, float] | None
) -> tuple[complex, float]:
    if name == "log" and base is None:
        raise NoValue  # base 10 or e: not said
    if abs(value.imag) > error or value.real <= 4 * error:
        raise NoValue
    result, result_error = cmath.log(value.real), 2 * error / abs(value) + 4 * _EPS
    result_error += abs(result) * _EPS
    if base is None:
        return result, result_error
    below, below_error = _floating_log("ln", *base, None)
    if abs(below) <= 4 * below_error:
        raise NoValue
    quotient = result / below
    return quotient, (result_error + abs(quotient) * below_error) / (abs(below) - below_error) + (
        abs(quotient) * _EPS
    )


_FUNCTIONS = {
    "sin": (cmath.sin, cmath.cos),
    "cos": (cmath.cos, cmath.sin),
    "tan": (cmath.tan, lambda x: 1 / cmath.cos(x) ** 2),
    "cot": (lambda x: 1 / cmath.tan(x), lambda x: 1 / cmath.sin(x) ** 2),
    "sec": (lambda x: 1 / cmath.cos(x), lambda x: cmath.tan(x) / cmath.cos(x)),
    "csc": (lambda x: 1 / cmath.sin(x), lambda x: 1 / (cmath.tan(x) * cmath.sin(x))),
    "arcsin": (cmath.asin, lambda x: 1 / cmath.sqrt(1 - x * x)),
    "arccos": (cmath.acos, lambda x: 1 / cmath.sqrt(1 - x * x)),
    "arctan": (cmath.atan, lambda x: 1 / (1 + x * x)),
    "sinh": (cmath.sinh, cmath.cosh),
    "cosh": (cmath.cosh, cmath.sinh),
    "tanh": (cmath.tanh, lambda x: 1 / cmath.cosh(x) ** 2),
    "exp": (cmath.exp, cmath.exp),
}
