"""Several values in one expression: 1 \\pm a is the list of 1 + a and 1 - a."""

from collections.abc import Iterator
from itertools import product

from open_rs.grade.trees import Tree, holds

MAX_SIGNS = 4


def without_plus_minus(tree: Tree) -> Tree:
    """The tree with each \\pm written out; signs are independent of each other, unless \\mp ties
    them all. More than `MAX_SIGNS` in one value are left.
    """
    if tree[0] in ("list", "set"):
        members: list[Tree] = []
        for part in tree[1:]:
            members += _values(part)
        return (tree[0], *members)
    values = _values(tree)
    return tree if len(values) == 1 else ("list", *values)


def _values(tree: Tree) -> list[Tree]:
    tied, count = holds(tree, "mp"), _count(tree)
    if not 0 < count <= MAX_SIGNS:
        return [tree]
    signs = [(1,) * count, (-1,) * count] if tied else product((1, -1), repeat=count)
    return [_with_signs(tree, iter(one)) for one in signs]


def _with_signs(tree: Tree, signs: Iterator[int]) -> Tree:
    parts = tuple(_with_signs(part, signs) if isinstance(part, tuple) else part for part in tree)
    if tree[0] not in ("pm", "mp"):
        return parts
    plus = (next(signs) > 0) == (tree[0] == "pm")
    _, before, term = parts
    return ("+", before, term if plus else ("neg", term))


def _count(tree: Tree) -> int:
    return (tree[0] in ("pm", "mp")) + sum(
        _count(part) for part in tree[1:] if isinstance(part, tuple)
    )
