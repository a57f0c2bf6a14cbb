"""The trees of a gold and an answer. A letter that can be read in two ways (m a symbol or metres,
i an index or the imaginary unit) is read as the other side has it.
"""

import re
from functools import lru_cache

from open_rs.grade.normalise import normalise
from open_rs.grade.reader import Tree, Unreadable, read
from open_rs.grade.trees import contains
from open_rs.grade.units import known, quantity, unit_name

Reading = tuple[str, Tree | None]  # normalised text; None where the reader does not know it

_TAIL = 60  # characters in which a unit has to fit
_WORD = r"[A-Za-z]+(?:\^\{?-?\d\}?)?"
_WORDS = rf"{_WORD}(?:(?: ?/ ?| ?\\cdot ?| ){_WORD})*"
_LETTERS = re.compile(
    rf"(?<=[\d}})])(\s*)(?:({_WORDS})|\\frac\s*\{{\s*({_WORDS})\s*\}}\s*\{{\s*({_WORDS})\s*\}})$"
)
_IMAGINARY = ("const", "i")


def read_pair(gold: str, answer: str) -> tuple[Reading, Reading]:
    """What the gold and the answer say, each read in the light of the other."""
    of_gold, of_answer = readable(gold), reading(normalise(answer))
    if of_gold[1] is not None and of_gold[1][0] == "sym":
        of_answer = _choice(of_answer)
    of_gold, of_answer = _with_units(of_gold, of_answer)
    trees = [tree for _, tree in (of_gold, of_answer) if tree is not None]
    holds_i = any(contains(tree, _IMAGINARY) for tree in trees)
    if holds_i and any(_has_index(tree) for tree in trees):
        return _as_index(of_gold), _as_index(of_answer)
    return of_gold, of_answer


@lru_cache(maxsize=20_000)
def readable(gold: str) -> Reading:
    """The reading of a gold by itself, kept, since a gold is asked for again and again."""
    return reading(normalise(gold))


def reading(text: str) -> Reading:
    """A normalised text with its tree."""
    try:
        return text, read(text)
    except Unreadable:
        return text, None


# ---- (A) 12 ----

_CHOICE = re.compile(
    r"(?:\\text\s*\{\s*)?(?:\(([A-Z])\)|([A-Z])[).:])(?:\s*\}\s*|\s+)(?=\S)(?!.*(?<![A-Za-z\\])[A-Z](?![A-Za-z]))"
    r"(?!.*\b(?:or|and|not|wrong|incorrect|false)\b)"
)


def _choice(answer: Reading) -> Reading:
    """The letter of an answer that gives the option's text too: "(A) 12", where the gold is a
    letter.
    """
    match = _CHOICE.match(answer[0])
    if match is None:
        return answer
    letter = match[1] or match[2]
    return letter, ("sym", letter)


# ---- 5 m ----


def _with_units(gold: Reading, answer: Reading) -> tuple[Reading, Reading]:
    """Letters behind a number are a unit where the other side states a unit of that dimension, and
    behind an answer, parted from its number by a space, where the gold is a mere number.
    """
    if lettered := _lettered_unit(answer[0]):
        text, name, apart = lettered
        if _states(gold[1], name) or (apart and _is_number(gold[1])):
            return gold, reading(text)
    if lettered := _lettered_unit(gold[0]):
        text, name, _ = lettered
        if _states(answer[1], name):
            return reading(text), answer
    return gold, answer


def _lettered_unit(text: str) -> tuple[str, str, bool] | None:
    """(the text with its last letters in \\text{}, the unit that they spell, whether a space stands
    before them); None where they spell none.
    """
    head = max(0, len(text) - _TAIL)
    match = _LETTERS.search(text[head:])
    if match is None:
        return None
    space, plain, above, below = match.groups()
    words = (plain or f"{above}/{below}").replace(r"\cdot", " ")
    name = unit_name(words)
    if not known(name):
        return None
    words = words.replace("{", "").replace("}", "")
    return rf"{text[: head + match.start()]}\text{{{words}}}", name, bool(space)


def _states(tree: Tree | None, name: str) -> bool:
    """Whether a side states a unit of the dimension of `name`."""
    stated = quantity(tree[2]) if tree is not None and tree[0] == "unit" else None
    spelled = quantity(name)
    return stated is not None and spelled is not None and stated[1] == spelled[1]


def _is_number(tree: Tree | None) -> bool:
    """Whether a gold is a number without a unit, whatever its form."""
    if tree is None or tree[0] in ("sym", "text", "unit", "pct", "chain", "list", "set", "tuple"):
        return False
    return all(_is_number(part) for part in tree[1:] if isinstance(part, tuple))


# ---- i ----


def _has_index(tree: Tree | None) -> bool:
    """Whether `i` is an index: x_i, or a name such as i = 3 or f(i) = 2i."""
    if tree is None:
        return False
    if tree[0] == "sym":
        return str(tree[1]).endswith("_i")
    if tree[0] == "chain" and tree[2] in ("=", "in"):
        named = tree[1][2:] if tree[1][0] == "apply" else tree[1:2]
        if named == (_IMAGINARY,):
            return True
    return any(_has_index(part) for part in tree[1:] if isinstance(part, tuple))


def _as_index(side: Reading) -> Reading:
    text, tree = side
    return text, None if tree is None else _replaced(tree)


def _replaced(tree: Tree) -> Tree:
    if tree == _IMAGINARY:
        return ("sym", "i")
    return tuple(_replaced(part) if isinstance(part, tuple) else part for part in tree)
