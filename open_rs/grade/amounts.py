"""Amounts: an expression without its units and percent signs, and what these say of it."""

from fractions import Fraction

from open_rs.grade.trees import Tree, holds
from open_rs.grade.units import product, ratio
from open_rs.grade.values import integer_exponent

Amount = tuple[str, Tree]  # the unit ("" is none), the expression without it


def amount(tree: Tree) -> Amount | None:
    """2 km + 3 m is 2003 in m, 6 m / 2 s is 6 / 2 in m per s. Terms without a unit take that of
    the others. None where units do not go together, or stand where a number has to (2^{3 m}).
    """
    if not holds(tree, "unit"):
        return "", tree
    if tree[0] == "call" and tree[1] == "abs":
        inside = amount(tree[2])
        return None if inside is None else (inside[0], ("call", "abs", inside[1]))
    if tree[0] == "^" and not holds(tree[2], "unit"):
        return _power(tree)
    if tree[0] not in ("unit", "neg", "+", "*", "/"):
        return None
    parts: list[Amount] = []
    for part in tree[1:]:
        if isinstance(part, tuple):
            inside = amount(part)
            if inside is None:
                return None
            parts.append(inside)
    if tree[0] == "unit":
        return product([(parts[0][0], 1), (tree[2], 1)]), parts[0][1]
    if tree[0] == "+":
        return _sum(parts)
    powers = [1, -1] if tree[0] == "/" else [1] * len(parts)
    unit = product((one, power) for (one, _), power in zip(parts, powers, strict=True))
    return unit, (tree[0], *(part for _, part in parts))


def _power(tree: Tree) -> Amount | None:
    inside, exponent = amount(tree[1]), integer_exponent(tree[2])
    if inside is None or exponent is None:
        return None
    return product([(inside[0], exponent)]), ("^", inside[1], tree[2])


def _sum(parts: list[Amount]) -> Amount | None:
    """In the unit of the last term that has one."""
    last = [unit for unit, _ in parts if unit][-1]
    terms: list[Tree] = []
    for unit, term in parts:
        times = ratio(last, unit) if unit else Fraction(1)
        if times is None:
            return None
        terms.append(multiplied(term, times))
    return last, ("+", *terms)


def multiplied(tree: Tree, times: Fraction) -> Tree:
    return tree if times == 1 else ("*", tree, ("num", times))


def percent(tree: Tree) -> tuple[bool, Tree]:
    """(whether an expression is a number of percent, the number): 10% + 5% is 15 of them. Within
    another expression a percent is a hundredth.
    """
    if tree[0] == "pct":
        return True, in_hundredths(tree[1])
    if tree[0] in ("neg", "+"):
        parts = [percent(part) for part in tree[1:]]
        if all(is_percent for is_percent, _ in parts):
            return True, (tree[0], *(part for _, part in parts))
    return False, in_hundredths(tree)


def in_hundredths(tree: Tree) -> Tree:
    """The expression with x / 100 for x%."""
    if not holds(tree, "pct"):
        return tree
    if tree[0] == "pct":
        return ("/", in_hundredths(tree[1]), ("num", Fraction(100)))
    return tuple(in_hundredths(part) if isinstance(part, tuple) else part for part in tree)
