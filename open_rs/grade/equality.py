"""Whether two expressions are equal, by the values of their trees (values.py, residues.py)."""

from open_rs.grade.cost import MAX_NODES, size
from open_rs.grade.reader import Tree
from open_rs.grade.residues import PRIME, is_rational_function, modular_value
from open_rs.grade.values import exact_value, floating_value


def same_value(gold: Tree, answer: Tree) -> bool | None:
    """Whether two expressions are equal; None where that takes algebra."""
    if gold == answer:
        return True
    sizes = size(gold), size(answer)
    if not (sizes[0].affordable and sizes[1].affordable):
        small = sizes[0].nodes <= MAX_NODES and sizes[1].nodes <= MAX_NODES
        return _same_residue(gold, answer) if small else None
    exact_gold, exact_answer = exact_value(gold), exact_value(answer)
    if exact_gold is not None and exact_answer is not None:
        return exact_gold == exact_answer
    residue_gold, residue_answer = modular_value(gold), modular_value(answer)
    if residue_gold is not None and residue_answer is not None:
        if residue_gold == residue_answer:
            return not _proven_different(gold, answer)
        if is_rational_function(gold) and is_rational_function(answer):
            return False
    return False if _proven_different(gold, answer) else None


def proportional(one: Tree, other: Tree) -> bool:
    """Whether two expressions with symbols are multiples of each other, as what equations say to be
    0: f(p) g(q) = g(p) f(q) at two random points.
    """
    if not (size(one).affordable and size(other).affordable):
        return False
    f, g = modular_value(one), modular_value(other)
    f_there, g_there = modular_value(_elsewhere(one)), modular_value(_elsewhere(other))
    if not (f and g and f_there and g_there) or f == f_there:  # 0, no value or a constant
        return False
    return (f * g_there - g * f_there) % PRIME == 0


def _elsewhere(tree: Tree) -> Tree:
    """The tree with symbols of other names, so at another point."""
    if tree[0] == "sym":
        return ("sym", f"{tree[1]}#")
    return tuple(_elsewhere(part) if isinstance(part, tuple) else part for part in tree)


def _same_residue(gold: Tree, answer: Tree) -> bool | None:
    """Whether two rational functions of any size are equal: a power modulo a prime is cheap."""
    if not (is_rational_function(gold) and is_rational_function(answer)):
        return None
    residues = modular_value(gold), modular_value(answer)
    return None if None in residues else residues[0] == residues[1]


def _proven_different(gold: Tree, answer: Tree) -> bool:
    """Whether the values at one of two points lie further apart than rounding explains."""
    for point in (1, 2):
        one, other = floating_value(gold, point), floating_value(answer, point)
        if one is None or other is None:
            return False
        gap = abs(one[0] - other[0])
        if gap > 16 * (one[1] + other[1]) + 1e-300:
            return True
    return False
