"""Inequalities as the intervals that they stand for."""

from open_rs.grade.tokens import Tree

_ORDERS = ("<", "<=", ">", ">=", "!=")
_INFINITE: Tree = ("inf",)


def is_inequality(tree: Tree) -> bool:
    return tree[0] == "chain" and any(sign in _ORDERS for sign in tree[2::2])


def ascending(chain: Tree) -> Tree:
    """a > b as b < a."""
    if all(sign in (">", ">=") for sign in chain[2::2]):
        turned = [
            part.replace(">", "<") if isinstance(part, str) else part for part in chain[:0:-1]
        ]
        return ("chain", *turned)
    return chain


def region(tree: Tree) -> Tree | None:
    """x > 3 as (3, \\infty), 1 < x <= 3 as (1, 3], x < 1 or x > 2 as a union; None for what is no
    inequality in one symbol.
    """
    if tree[0] == "list":
        parts = [region(part) if is_inequality(part) else None for part in tree[1:]]
        variables = {_variable(part) for part in tree[1:] if part[0] == "chain"}
        known = [part for part in parts if part is not None]
        return ("union", *known) if len(known) == len(parts) and len(variables) == 1 else None
    if not is_inequality(tree) or _variable(tree) is None:
        return None
    if len(tree) == 4 and tree[2] == "!=":
        value = tree[3] if _is_variable(tree[1]) else tree[1]
        return ("union", _interval(None, False, value, False), _interval(value, False, None, False))
    chain = ascending(tree)
    signs = chain[2::2]
    if not all(sign in ("<", "<=") for sign in signs):
        return None
    if len(chain) == 6 and _is_variable(chain[3]):
        return _interval(chain[1], signs[0] == "<=", chain[5], signs[1] == "<=")
    if len(chain) == 4 and _is_variable(chain[1]):
        return _interval(None, False, chain[3], signs[0] == "<=")
    return _interval(chain[1], signs[0] == "<=", None, False) if len(chain) == 4 else None


def _is_variable(tree: Tree) -> bool:
    return tree[0] in ("sym", "apply")


def _variable(chain: Tree) -> Tree | None:
    """The one side of a chain that is a symbol by itself."""
    found = [part for part in chain[1::2] if _is_variable(part)]
    return found[0] if len(found) == 1 else None


def _interval(low: Tree | None, low_in: bool, high: Tree | None, high_in: bool) -> Tree:
    brackets = "[" if low_in else "(", "]" if high_in else ")"
    return ("tuple", *brackets, low or ("neg", _INFINITE), high or _INFINITE)
