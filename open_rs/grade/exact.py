"""Verdicts that need no algebra system: given at once in the calling process, in microseconds."""

import re
from typing import Literal

from open_rs.grade.compare import same
from open_rs.grade.cost import size
from open_rs.grade.reader import Tree
from open_rs.grade.readings import read_pair, readable
from open_rs.grade.tokens import MAX_WORDS, is_words
from open_rs.grade.types import Outcome
from open_rs.grade.values import exact_value

MAX_ANSWER_CHARACTERS = 2_000  # a longer one is no final answer, unless the gold is as long
Verdict = Outcome | Literal["unsafe", "unknown"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")


def integer(text: str) -> int | None:
    """The value of a plain integer of at most 40 digits, None for anything else."""
    text = text.strip()
    return int(text) if _INTEGER.fullmatch(text) else None


def exact_verdict(gold: str, answer: str) -> Verdict:
    """A verdict where none of the algebra system is needed; "unknown": ask a worker; "unsafe": what
    would have to be evaluated cannot be afforded.
    """
    gold_value, value = integer(gold), integer(answer)
    if gold_value is not None and value is not None:
        return "correct" if gold_value == value else "wrong"
    if len(gold) > MAX_ANSWER_CHARACTERS:
        return "correct" if gold == answer else "bad_gold"
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return "wrong"
    try:
        return _verdict_of_read(gold, answer)
    except RecursionError:  # of a caller whose own stack is nearly full
        return "unsafe"


def _verdict_of_read(gold: str, answer: str) -> Verdict:
    if says_nothing(*readable(gold)):
        return "bad_gold"
    (gold_text, gold_tree), (answer_text, answer_tree) = read_pair(gold, answer)
    if gold_tree is not None and gold_text == answer_text:
        return "correct"
    if (r"\ldots" in gold_text) != (r"\ldots" in answer_text):
        return "wrong"  # one says more than is written
    if gold_tree is None or answer_tree is None:
        return "unknown" if looks_cheap(gold_text) and looks_cheap(answer_text) else "unsafe"
    verdict = same(gold_tree, answer_tree)
    if verdict is not None:
        return "correct" if verdict else "wrong"
    return "unknown" if size(gold_tree).affordable and size(answer_tree).affordable else "unsafe"


_NO_ANSWER = re.compile(
    r"(?:\\text\s*\{\s*)?(?:see\b.*|refer to\b.*|proof\b.*|omitted|nan|null|N/A|tbd|todo)\s*\}?",
    re.IGNORECASE,
)


def says_nothing(text: str, tree: Tree | None) -> bool:
    """Whether a gold is no answer: a sentence, a pointer to one ("see figure"), a mark that
    there is none ("nan"), or a division by zero.
    """
    if is_words(text) and text.count(" ") >= MAX_WORDS:
        return True
    if _NO_ANSWER.fullmatch(text) and text != "n/a":  # n over a
        return True
    return tree is not None and size(tree).affordable and _divides_by_zero(tree)


def _divides_by_zero(tree: Tree) -> bool:
    if tree[0] == "/" and exact_value(tree[2]) == 0:
        return True
    return any(_divides_by_zero(part) for part in tree[1:] if isinstance(part, tuple))


_LONG_NUMBER = re.compile(r"\d{60}|[\d.][eE][-+]?\d{4}")
_POWER_OF_MUCH = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*[-+]?\s*\d{4}")
_STACKED = re.compile(r"[{}()\[\]]")


def looks_cheap(text: str) -> bool:
    """The gate for what the reader has no tree of. It counts signs, so it is stricter than the one
    on trees: few characters, little nesting, no power of a power, no factorial, no long number.
    """
    if len(text) > 300 or "!" in text or _LONG_NUMBER.search(text) or _POWER_OF_MUCH.search(text):
        return False
    depth = deepest = 0
    for match in _STACKED.finditer(text):
        depth += 1 if match.group() in "{([" else -1
        deepest = max(deepest, depth)
    return deepest <= 8 and not _tower(text) and len(re.findall(r"\\sqrt|\\log|\\ln", text)) <= 8


def _tower(text: str) -> bool:
    """Whether a power stands in the exponent of another."""
    depth = 0
    exponents: list[int] = []  # depth of each exponent group that we are in
    for match in _SIGNS.finditer(text):
        sign = match.group()
        if sign[0] in "^*":
            if exponents:
                return True
            if sign[-1] in "{(":
                depth += 1
                exponents.append(depth)
        elif sign in "{([":
            depth += 1
        else:
            if exponents and exponents[-1] == depth:
                exponents.pop()
            depth -= 1
    return False


_SIGNS = re.compile(r"(?:\^|\*\*)\s*[{(]?|[{}()\[\]]")
