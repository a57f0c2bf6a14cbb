"""The cost gate: how large would what is evaluated become? Told from the tree, before anything is.

Every kind of node has an estimate, built from those of its parts, so nesting hides nothing: a tower
of powers asks for the exact value of its exponent, which the same gate has to allow first.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from open_rs.grade.reader import Tree

MAX_BITS = 8_000  # of an exact number: 2^8000 has 2,400 digits
MAX_TERMS = 2_000  # of an expanded sum
MAX_NODES = 1_500
MAX_RADICALS = 40
MAX_RADICAL_DEPTH = 5
MAX_EXPONENT = 10**6
MAX_FACTORIAL = 800


@dataclass(frozen=True)
class Size:
    """What evaluating a tree may need: bits of the largest number, terms after expansion, nodes,
    function calls and how deep they stand in one another.
    """

    bits: float = 1
    terms: float = 1
    nodes: int = 1
    radicals: int = 0
    radical_depth: int = 0

    @property
    def affordable(self) -> bool:
        return (
            self.bits <= MAX_BITS
            and self.terms <= MAX_TERMS
            and self.nodes <= MAX_NODES
            and self.radicals <= MAX_RADICALS
            and self.radical_depth <= MAX_RADICAL_DEPTH
        )


TOO_MUCH = Size(math.inf, math.inf)


def size(tree: Tree) -> Size:
    """The estimate for one tree."""
    kind = tree[0]
    if kind == "num":
        return Size(max(_bits(tree[1]), 1))
    parts = [size(part) for part in tree[1:] if isinstance(part, tuple)]
    joined = Size(
        bits=max((part.bits for part in parts), default=1),
        terms=max((part.terms for part in parts), default=1),
        nodes=1 + sum(part.nodes for part in parts),
        radicals=sum(part.radicals for part in parts),
        radical_depth=max((part.radical_depth for part in parts), default=0),
    )
    if kind == "+":
        bits = sum(part.bits for part in parts)  # denominators multiply
        return _with(joined, bits=bits, terms=sum(part.terms for part in parts))
    if kind in ("*", "/"):
        product = math.prod((part.terms for part in parts), start=1.0)
        return _with(joined, bits=sum(part.bits for part in parts), terms=product)
    if kind == "^":
        return _power(tree, parts, joined)
    if kind == "!":
        return _factorial(tree[1], joined)
    if kind == "call":
        return _call(tree, joined)
    if kind == "base":
        return Size(len(tree[1]) * 4)
    return joined


def _with(joined: Size, *, bits: float, terms: float, radicals: int = 0) -> Size:
    return Size(
        bits,
        terms,
        joined.nodes,
        joined.radicals + radicals,
        joined.radical_depth + (1 if radicals else 0),
    )


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _power(tree: Tree, parts: list[Size], joined: Size) -> Size:
    """bits * |exponent|; the expansion of a sum of t terms to the n-th has C(n + t - 1, n)."""
    exponent = small_value(tree[2], parts[1])
    if exponent is None:
        # A symbol in the exponent stays symbolic; a number too large to know is too much.
        return joined if _is_symbolic(tree[2]) else TOO_MUCH
    times = float(abs(exponent))
    if times > MAX_EXPONENT:
        return TOO_MUCH
    bits = parts[0].bits * max(times, 1.0)
    terms = _expanded(parts[0].terms, math.ceil(times))
    if _is_symbolic(tree[1]):
        terms = max(terms, times)  # the degree counts too
    return _with(joined, bits=bits, terms=terms, radicals=0 if exponent.denominator == 1 else 1)


def _expanded(terms: float, times: int) -> float:
    if terms <= 1 or times <= 1:
        return terms
    if terms > MAX_TERMS or times > MAX_TERMS:
        return math.inf
    return float(math.comb(times + math.ceil(terms) - 1, min(times, math.ceil(terms) - 1, 8)))


def _factorial(argument: Tree, joined: Size) -> Size:
    value = small_value(argument, joined)
    if value is None:
        return joined if _is_symbolic(argument) else TOO_MUCH
    if abs(value) > MAX_FACTORIAL:
        return TOO_MUCH
    return _with(joined, bits=float(abs(value) * 10 + 1), terms=1)


def _call(tree: Tree, joined: Size) -> Size:
    name, arguments = tree[1], tree[2:]
    if name == "binom":
        above = small_value(arguments[0], joined)
        if above is None:
            return joined if _is_symbolic(arguments[0]) else TOO_MUCH
        if abs(above) > MAX_BITS:
            return TOO_MUCH
        return _with(joined, bits=float(abs(above) + 1), terms=1)
    if name == "root":
        degree = small_value(arguments[1], joined)
        if degree is None and not _is_symbolic(arguments[1]):
            return TOO_MUCH
        if degree is not None and abs(degree) > 1000:
            return TOO_MUCH
    if name in ("exp", "sinh", "cosh", "tanh"):
        inside = small_value(arguments[0], joined)
        if inside is not None and abs(inside) > 5000:
            return TOO_MUCH
    return _with(joined, bits=joined.bits, terms=1, radicals=1)


def small_value(tree: Tree, estimate: Size) -> Fraction | None:
    """The exact value of a rational constant of at most 128 bits, None for anything else. It is
    evaluated only when its own estimate is small.
    """
    from open_rs.grade.values import exact_value  # values asks this gate in its turn

    value = exact_value(tree) if estimate.bits <= 4096 else None
    return value if value is not None and _bits(value) <= 128 else None


def _is_symbolic(tree: Tree) -> bool:
    """Whether the tree is no number that an algebra system would work out exactly: it holds a
    symbol, or a root or pi.
    """
    if tree[0] in ("sym", "const", "inf", "apply"):
        return True
    if tree[0] == "call" and tree[1] not in ("binom", "abs", "floor", "ceil"):
        return True
    return any(_is_symbolic(part) for part in tree[1:] if isinstance(part, tuple))


def log10_at_least(tree: Tree) -> float | None:
    """A proven lower bound of log10 of a positive number built from +, *, ^ and !; None where
    there is no proof. Tells a tower of powers from every number of ordinary size without
    evaluating it.
    """
    kind = tree[0]
    if kind == "num":
        value: Fraction = tree[1]
        if value <= 0:
            return None
        return math.log10(value.numerator) - math.log10(value.denominator) - 1e-9
    if kind in ("+", "*"):
        bounds = [log10_at_least(part) for part in tree[1:]]
        known = [bound for bound in bounds if bound is not None]
        if len(known) < len(bounds):
            return None
        return max(known) if kind == "+" else sum(known)
    if kind == "^":
        base, exponent = log10_at_least(tree[1]), log10_at_least(tree[2])
        if base is None or exponent is None or base <= 0:
            return None
        return base * 10.0 ** min(exponent, 300.0)
    if kind == "!":
        inside = log10_at_least(tree[1])
        if inside is None or inside < 0.47:  # log10 of 3
            return None
        number = 10.0 ** min(inside, 300.0)  # n! >= (n / e)^n
        return number * (math.log10(number) - 0.4343)
    return None
