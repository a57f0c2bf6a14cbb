"""The grading policy on trees: when is an answer the gold? docs/grading.md tells it case by case.

Three-valued: True, False, or None where only algebra can tell (math-verify is asked then).
"""

from collections.abc import Callable, Iterable
from fractions import Fraction

from open_rs.grade.amounts import amount, multiplied, percent
from open_rs.grade.cost import log10_at_least, size
from open_rs.grade.equality import proportional, same_value
from open_rs.grade.names import (
    differently_named,
    has_symbol,
    in_order_of_names,
    is_curve,
    meanings_of_answer,
    meanings_of_gold,
    without_names,
)
from open_rs.grade.reader import Tree, one_quantity
from open_rs.grade.regions import ascending, is_inequality, region
from open_rs.grade.trees import holds
from open_rs.grade.units import known, ratio
from open_rs.grade.values import exact_value, floating_value
from open_rs.grade.words import plain_words

MAX_MEMBERS = 30  # of a list or set that is matched pair by pair

MAX_NODES_ASKED = 250  # of an expression that goes to the algebra system

Ask = Callable[[Tree, Tree], bool | None]


def unknown(gold: Tree, answer: Tree) -> None:
    """No algebra system at hand."""


def same(gold: Tree, answer: Tree, ask: Ask = unknown) -> bool | None:
    """Whether `answer` says what `gold` says; `ask` is asked about two expressions (no lists, no
    relations) whose equality takes algebra.
    """
    if gold == answer:
        return True
    if (orders := in_order_of_names(gold, answer)) is not None:
        return _any(same(*pair, ask) for pair in orders)
    if (values := _rounded(gold, answer, ask)) is not None:
        return _any(same(*pair, ask) for pair in values)
    gold, answer = without_names(gold, answer)
    if gold == answer:
        return True
    if gold[0] == "approx":
        return _rounds_to(gold[1], answer, ask)
    if answer[0] == "approx":
        answer = answer[1]
    if gold[0] == "chain" or answer[0] == "chain":
        return _same_relation(gold, answer, ask)
    if gold[0] in _COLLECTIONS or answer[0] in _COLLECTIONS:
        return _same_collection(gold, answer, ask)
    if gold[0] == "text" or answer[0] == "text":
        return _same_text(gold, answer)
    return _same_number(gold, answer, ask)


_COLLECTIONS = ("list", "set", "tuple", "union", "matrix", "ratio", "clock", "row")


def _rounded(gold: Tree, answer: Tree, ask: Ask) -> list[tuple[Tree, Tree]] | None:
    """The pairs of values of which one has to agree where a side gives a value in several ways, as
    in 2/3 \\approx 0.67; None where none does.
    """
    golds, answers = meanings_of_gold(gold), meanings_of_answer(answer)
    if (golds == [gold] and answers == [answer]) or differently_named(gold, answer):
        return None
    if len(answers) > 1:
        rounds = _rounds_to(answers[1][1], answers[0], ask) is True  # 2 \\approx 3 says 3
        decimal = _decimal_scale(exact_value(answers[1][1]) or Fraction(1)) > 1
        answers = answers if rounds and decimal else answers[:1] if rounds else answers[1:]
    return [(one, other) for one in golds for other in answers]


# ---- relations ----


def _same_relation(gold: Tree, answer: Tree, ask: Ask) -> bool | None:
    """Inequalities side by side; an interval is not the inequality that a question may state."""
    if gold[0] != "chain":
        return False if is_inequality(answer) and gold[0] not in ("text", "list") else None
    if answer[0] != "chain":
        if is_curve(gold):
            return False
        region_of_gold = region(gold) if answer[0] in ("tuple", "union") else None
        return None if region_of_gold is None else same(region_of_gold, answer, ask)
    if differently_named(gold, answer):
        return False
    gold, answer = ascending(gold), ascending(answer)
    if gold[2::2] == answer[2::2]:
        pairs = zip(gold[1::2], answer[1::2], strict=True)
        if all(same(*pair, ask) for pair in pairs):
            return True
        if (
            len(gold) == 4
            and gold[2] == "="
            and proportional(_difference(gold), _difference(answer))
        ):
            return True
    return None


def _difference(equation: Tree) -> Tree:
    """What an equation says is 0."""
    return ("+", equation[1], ("neg", equation[3]))


# ---- collections ----


def _same_collection(gold: Tree, answer: Tree, ask: Ask) -> bool | None:
    """Lists and sets in any order; tuples, intervals and matrices place by place."""
    gold, answer = _one_member(gold), _one_member(answer)
    kinds = gold[0], answer[0]
    if kinds[0] not in _COLLECTIONS and kinds[1] not in _COLLECTIONS:
        return same(gold, answer, ask)
    if kinds[0] in ("list", "set") and kinds[1] in ("list", "set"):
        if _holds_sets(gold) != _holds_sets(answer):
            return False
        return _same_members(gold[1:], answer[1:], ask)
    if kinds == ("tuple", "list") and gold[1:3] == ("(", ")"):
        return _in_order(gold[3:], answer[1:], ask)
    if kinds == ("tuple", "tuple"):
        return _in_order(gold[3:], answer[3:], ask) if gold[1:3] == answer[1:3] else False
    if kinds[0] == "union" and (kinds[1] == "union" or _is_region(answer)):
        return _same_members(gold[1:], answer[1:], ask) or None
    if kinds == ("list", "union"):
        return None if (found := region(gold)) is None else same(found, answer, ask)
    if {"ratio", "clock"}.issuperset(kinds) and kinds != ("clock", "clock"):
        return _same_ratio(gold[1:], answer[1:], ask)
    if kinds[0] == kinds[1]:  # matrix, row, clock
        return _in_order(gold[1:], answer[1:], ask)
    if set(kinds) == {"matrix", "tuple"}:
        one, other = _vector(gold), _vector(answer)
        return None if one is None or other is None else _in_order(one, other, ask)
    if "text" in kinds:
        return None if _has_words(answer if kinds[0] == "text" else gold) else False
    return None if {"matrix", "ratio", "clock", "union"} & set(kinds) else False


def _holds_sets(tree: Tree) -> bool:
    return any(part[0] == "set" for part in tree[1:])


def _is_region(tree: Tree) -> bool:
    """Whether a list holds intervals and sets alone: those of a union."""
    return tree[0] == "list" and all(part[0] in ("tuple", "set", "union") for part in tree[1:])


def _vector(tree: Tree) -> Tree | None:
    """The entries of a tuple in round brackets, of a column or of a row."""
    if tree[0] == "tuple":
        return tree[3:] if tree[1:3] == ("(", ")") else None
    if len(tree) == 2:
        return tree[1][1:]
    return tuple(row[1] for row in tree[1:]) if all(len(row) == 2 for row in tree[1:]) else None


def _same_ratio(gold: Tree, answer: Tree, ask: Ask) -> bool | None:
    """3:4 is 6:8. (Two times of a day are compared place by place.)"""
    if len(gold) != len(answer):
        return False
    return _all(
        same(("*", one, answer[0]), ("*", other, gold[0]), ask)
        for one, other in zip(gold[1:], answer[1:], strict=True)
    )


def _has_words(tree: Tree) -> bool:
    return any(part[0] in ("text", "sym", "*") for part in tree[1:] if isinstance(part, tuple))


def _one_member(tree: Tree) -> Tree:
    """A list or set of one, or of one value repeated, as that; 5 dollars, 25 cents as the sum."""
    if tree[0] not in ("list", "set") or len(tree) < 2 or tree[1][0] == "set":
        return tree
    if all(part == tree[1] for part in tree[2:]):
        return tree[1]
    return (tree[0] == "list" and one_quantity(tree[1:])) or tree


def _in_order(gold: Tree, answer: Tree, ask: Ask) -> bool | None:
    if len(gold) != len(answer):
        return False
    return _all(same(*pair, ask) for pair in zip(gold, answer, strict=True))


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    unsure = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unsure |= verdict is None
    return None if unsure else True


def _same_members(gold: Tree, answer: Tree, ask: Ask) -> bool | None:
    """Whether each member of one is a member of the other: members of equal value are paired off
    first, what is left is compared pair by pair.
    """
    gold_keys = {_key(member): member for member in gold}
    answer_keys = {_key(member): member for member in answer}
    gold_left = [member for key, member in gold_keys.items() if key not in answer_keys]
    answer_left = [member for key, member in answer_keys.items() if key not in gold_keys]
    if not gold_left and not answer_left:
        return True
    if all(isinstance(key, Fraction) for key in (*gold_keys, *answer_keys)):
        return False
    if len(gold_left) > MAX_MEMBERS or len(answer_left) > MAX_MEMBERS:
        return None
    return _all(
        _any(same(*_gold_first(member, other, side), ask) for other in others)
        for side, members, others in (
            (0, gold_left, list(answer_keys.values())),
            (1, answer_left, list(gold_keys.values())),
        )
        for member in members
    )


def _gold_first(member: Tree, other: Tree, side: int) -> tuple[Tree, Tree]:
    return (member, other) if side == 0 else (other, member)


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    unsure = False
    for verdict in verdicts:
        if verdict:
            return True
        unsure |= verdict is None
    return None if unsure else False


def _key(tree: Tree) -> Fraction | Tree:
    """The exact value where there is one, else the tree."""
    plain = tree[0] != "base" and not holds(tree, "unit") and size(tree).affordable
    value = exact_value(tree) if plain else None
    return tree if value is None else value


# ---- words ----


def _same_text(gold: Tree, answer: Tree) -> bool:
    """Words without regard to case; a letter in \\text{} is that letter; words are no formula."""
    words = [_words(tree) for tree in (gold, answer)]
    if words[0] is None or words[1] is None:
        return False
    return words[0] == words[1] or sorted(words[0].split(" and ")) == sorted(
        words[1].split(" and ")
    )


def _words(tree: Tree) -> str | None:
    if tree[0] in ("text", "sym", "const"):
        return plain_words(str(tree[1]))
    if tree[0] == "*" and all(part[0] in ("sym", "const") for part in tree[1:]):
        return "".join(str(part[1]) for part in tree[1:]).lower()
    return None


# ---- numbers and expressions ----


def _same_number(gold: Tree, answer: Tree, ask: Ask) -> bool | None:
    if (pair := _in_one_unit(gold, answer)) is None:
        return False
    gold_percent, gold = percent(pair[0])
    answer_percent, answer = percent(pair[1])
    if gold[0] == "base" or answer[0] == "base":
        return _same_digits(gold, answer)
    if _infinity(gold) or _infinity(answer):
        return _same_infinity(gold, answer)
    verdict = _same_value(gold, answer, ask)
    if verdict is not True and gold_percent != answer_percent:
        hundredth: Tree = ("num", Fraction(1, 100))
        scaled = (
            _same_value(("*", gold, hundredth), answer, ask)
            if gold_percent
            else _same_value(gold, ("*", answer, hundredth), ask)
        )
        return True if scaled else _either(verdict, scaled)
    return verdict


def _same_value(gold: Tree, answer: Tree, ask: Ask) -> bool | None:
    verdict = same_value(gold, answer)
    if verdict is None and beyond_reach(gold, answer):
        return False
    if verdict is None and all(
        estimate.affordable and estimate.nodes <= MAX_NODES_ASKED
        for estimate in (size(gold), size(answer))
    ):
        return ask(gold, answer)
    return verdict


def _either(one: bool | None, other: bool | None) -> bool | None:
    return None if one is None or other is None else False


def beyond_reach(gold: Tree, answer: Tree) -> bool:
    """Whether one side is proven to be larger than 10^400 and the other an ordinary number."""
    for huge, ordinary in ((gold, answer), (answer, gold)):
        bound = log10_at_least(huge)
        if bound is not None and bound > 400 and size(ordinary).affordable:
            value = floating_value(ordinary, 1)
            if value is not None and abs(value[0]) < 1e300 and not has_symbol(ordinary):
                return True
    return False


def _in_one_unit(gold: Tree, answer: Tree) -> tuple[Tree, Tree] | None:
    """Both sides without their units, the answer in the gold's; None where they do not convert."""
    one, other = amount(gold), amount(answer)
    times = None if one is None or other is None else ratio(one[0], other[0])
    if one is None or other is None or times is None:
        return None
    if any(
        known(unit) and tree[0] == "pct" for unit, tree in ((one[0], other[1]), (other[0], one[1]))
    ):
        return None  # $5 is not 5%
    return one[1], multiplied(other[1], times)


def _same_digits(gold: Tree, answer: Tree) -> bool | None:
    """Numbers in a stated base: digits as written; the base may be left out."""
    if gold[0] == answer[0] == "base":
        return gold[1:] == answer[1:]
    based, plain = (gold, answer) if gold[0] == "base" else (answer, gold)
    value = exact_value(plain)
    if value is not None and based[1].replace(".", "", 1).isdigit():
        return value == Fraction(based[1])
    return None if (written := _written(plain)) is None else written == based[1]


def _written(tree: Tree) -> str | None:
    """Digits of a number in a base above ten, A5, which are read as a product."""
    if tree[0] in ("sym", "const", "text"):
        return str(tree[1]).upper()
    if tree[0] == "num":
        return str(tree[1])
    parts = [_written(part) for part in tree[1:]] if tree[0] == "*" else [None]
    return None if None in parts else "".join(part or "" for part in parts)


def _infinity(tree: Tree) -> int:
    """1 or -1 for an infinity of that sign, with a finite number added or not; else 0."""
    if tree[0] == "inf":
        return 1
    if tree[0] == "neg":
        return -_infinity(tree[1])
    if tree[0] != "+":
        return 0
    signs = [_infinity(part) for part in tree[1:]]
    finite = [_is_finite(part) for part in tree[1:]]
    return sum(signs) if signs.count(0) == len(signs) - 1 == finite.count(True) else 0


def _is_finite(tree: Tree) -> bool:
    return floating_value(tree, 1) is not None and not has_symbol(tree)


def _same_infinity(gold: Tree, answer: Tree) -> bool | None:
    signs = _infinity(gold), _infinity(answer)
    if all(signs):
        return signs[0] == signs[1]
    return False if floating_value(answer if signs[0] else gold, 1) is not None else None


def _rounds_to(stated: Tree, answer: Tree, ask: Ask) -> bool | None:
    """A gold that says "approximately" allows half a unit of its last digit."""
    answer = answer[1] if answer[0] == "approx" else answer
    if (pair := _in_one_unit(stated, answer)) is None:
        return False
    stated, answer = pair
    gold, value = exact_value(stated), floating_value(answer, 1)
    if gold is None or value is None or has_symbol(answer):
        return same(stated, answer, ask)
    half = Fraction(1, 2 * _decimal_scale(gold)) * (1 + Fraction(1, 10**9))
    real, imaginary = Fraction(value[0].real), Fraction(value[0].imag)
    return (real - gold) ** 2 + imaginary**2 <= half**2


def _decimal_scale(value: Fraction) -> int:
    """10^d for a value with d decimals."""
    scale = 1
    while (value * scale).denominator != 1 and scale < 10**15:
        scale *= 10
    return scale
