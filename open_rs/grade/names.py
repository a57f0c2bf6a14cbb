"""Names before values: x = 5, f(x) = 2x, x in S, (x, y) = (1, 2), x = 1 and y = 2."""

from open_rs.grade.trees import Tree, contains

Values = dict[Tree, Tree]  # name -> value, in the order stated

_COORDINATES = {("sym", name) for name in "xyz"}


def is_name(tree: Tree) -> bool:
    """x, x_1, f(x), AB, dy/dx, P(X = 1) and the like: symbols and nothing else. (xy is no name.)"""
    if tree[0] in ("*", "/"):
        return len(_COORDINATES.intersection(tree)) < 2 and all(is_name(part) for part in tree[1:])
    if tree[0] == "tuple":
        return all(is_name(part) for part in tree[3:])
    return tree[0] in ("sym", "text", "const", "apply", "list") and tree != ("const", "pi")


def is_equation(tree: Tree) -> bool:
    return tree[0] == "chain" and all(sign in ("=", "in", "~") for sign in tree[2::2])


def differently_named(gold: Tree, answer: Tree) -> bool:
    """x = 5 and y = 5."""
    if not (is_equation(gold) and is_equation(answer)):
        return False
    if gold[1] in answer[1:-1:2] or answer[1] in gold[1:-1:2]:
        return False
    values = gold[-1], answer[-1]
    return gold[1][0] == answer[1][0] == "sym" and not any(has_symbol(value) for value in values)


def is_curve(tree: Tree) -> bool:
    """Whether an equation in two or more of x, y, z states a curve or a surface."""
    return is_equation(tree) and not is_name(tree[1]) and len(_coordinates(tree)) > 1


def _coordinates(tree: Tree) -> set[Tree]:
    if tree in _COORDINATES:
        return {tree}
    return {one for part in tree[1:] if isinstance(part, tuple) for one in _coordinates(part)}


def has_symbol(tree: Tree) -> bool:
    """Whether the value of the tree depends on a symbol."""
    return tree[0] in ("sym", "apply") or any(
        has_symbol(part) for part in tree[1:] if isinstance(part, tuple)
    )


def without_names(gold: Tree, answer: Tree) -> tuple[Tree, Tree]:
    """x = 5 against 5, and x \\in S against S: the name is left out. Of a chain a = b = c the last
    member counts. Where both have one, the names have to agree (x = 5 is not y = 5); the variable
    of a function has none (f(t) = 2t is f(x) = 2x).
    """
    gold_is, answer_is = is_equation(gold), is_equation(answer)
    if gold_is and answer_is:
        answer = _with_variables_of(gold[1], answer)
        same_name = len(gold) == len(answer) == 4 and gold[1] == answer[1]
        return (gold[3], answer[3]) if same_name and is_name(gold[1]) else (gold, answer)
    if answer_is and gold[0] != "chain":
        return gold, answer[-1]
    if gold[0] == "tuple" and _is_point(answer):
        return gold, answer[2]
    if answer[0] == "tuple" and _is_point(gold):
        return gold[2], answer
    if gold_is and answer[0] != "chain" and is_name(gold[1]):
        return gold[-1], answer
    return gold, answer


def _is_point(tree: Tree) -> bool:
    """P(1, 2): a capital letter before the coordinates."""
    return tree[0] == "*" and len(tree) == 3 and tree[1][0] == "sym" and tree[2][0] == "tuple"


def _with_variables_of(gold: Tree, answer: Tree) -> Tree:
    """The answer f(t) = 2t with the variables of the gold's f(x)."""
    stated = answer[1]
    if not (gold[0] == stated[0] == "apply" and gold[1] == stated[1] and len(gold) == len(stated)):
        return answer
    if any(part[0] != "sym" for part in (*gold[2:], *stated[2:])) or gold == stated:
        return answer
    if any(part not in stated[2:] and contains(answer[3], part) for part in gold[2:]):
        return answer  # f(y) = x^2 is not f(x) = x^2
    return _renamed(answer, dict(zip(stated[2:], gold[2:], strict=True)))


def _renamed(tree: Tree, names: dict[Tree, Tree]) -> Tree:
    return names.get(tree) or tuple(
        _renamed(part, names) if isinstance(part, tuple) else part for part in tree
    )


# ---- 2/3 = 0.6666 \approx 0.67 ----


def meanings_of_gold(tree: Tree) -> list[Tree]:
    """What an answer to a chain of values may say: to 2/3 \\approx 0.67 the fraction, or what
    rounds to 0.67; to 0.56 = 56% either.
    """
    if not is_equation(tree) or "in" in tree[2::2]:
        return [tree]
    values = list(tree[1::2])
    if is_name(values[0]):
        values = values[1:] if "~" in tree[2::2] else [tree]
    elif any(has_symbol(value) for value in values):
        return [tree]
    if tree[-2] == "~":
        values[-1] = ("approx", values[-1])
    return values


def meanings_of_answer(tree: Tree) -> list[Tree]:
    """Of 2/3 \\approx 0.67 both values; "approx" marks the one that has to be a rounding of the
    other.
    """
    if not is_equation(tree) or tree[-2] != "~" or len(tree) < 4 or is_name(tree[-3]):
        return [tree]
    return [tree[-3], ("approx", tree[-1])]


# ---- x = 1 and y = 2 ----


def in_order_of_names(gold: Tree, answer: Tree) -> list[tuple[Tree, Tree]] | None:
    """The pairs of tuples of which one has to agree where one side names several values: names fix
    the order, x = 1, y = 2 is (1, 2). None where they do not matter.

    The order is the alphabetical one, or, of names other than x, y, z, the one stated.
    """
    named_gold, named_answer = _named(gold), _named(answer)
    if named_gold and named_answer:
        if set(named_gold[0]) != set(named_answer[0]):
            return None
        names = sorted(named_gold[0], key=repr)
        return [(_tuples(named_gold, names), _tuples(named_answer, names))]
    if named_gold:
        if answer[0] == "list" and len(named_gold) == 1:
            answer = ("tuple", "(", ")", *answer[1:])
        return [(_tuples(named_gold, names), answer) for names in _orders(named_gold[0])]
    if named_answer and (gold[0] == "tuple" or len(named_answer) > 1):
        return [(gold, _tuples(named_answer, names)) for names in _orders(named_answer[0])]
    return None


def _named(tree: Tree) -> list[Values]:
    """The solutions in x = 1, y = 2 or (x, y) = (1, 2): one; in x = 1, y = 2, x = 3, y = 4: two.
    None without two different names.
    """
    if tree[0] == "chain" and len(tree) == 4 and tree[1][0] == tree[3][0] == "tuple":
        pairs = list(zip(tree[1][3:], tree[3][3:], strict=False))
        if len(tree[1]) != len(tree[3]):
            return []
    elif tree[0] in ("list", "set") and all(_is_assignment(part) for part in tree[1:]):
        pairs = [(part[1], part[3]) for part in tree[1:]]
    else:
        return []
    names = [name for name, _ in pairs]
    period = len(dict.fromkeys(names))
    if period < 2 or len(names) % period or names != names[:period] * (len(names) // period):
        return []
    if any(name[0] not in ("sym", "apply", "const") for name in names):
        return []
    return [dict(pairs[first : first + period]) for first in range(0, len(pairs), period)]


def _is_assignment(tree: Tree) -> bool:
    return tree[0] == "chain" and len(tree) == 4 and tree[2] == "="


def _orders(values: Values) -> list[list[Tree]]:
    alphabetical = sorted(values, key=repr)
    coordinates = _COORDINATES.issuperset(values)
    return [alphabetical] if coordinates else [alphabetical, list(values)]


def _tuples(solutions: list[Values], names: list[Tree]) -> Tree:
    tuples = [("tuple", "(", ")", *(one[name] for name in names)) for one in solutions]
    return tuples[0] if len(tuples) == 1 else ("list", *tuples)
