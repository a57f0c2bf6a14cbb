"""Answers in words: numbers ("twenty-one", "two thirds"), "no solution", and when words agree."""

import re
from fractions import Fraction

_SMALL = {
    word: value
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
         "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
         "nineteen")
    )
}  # fmt: skip
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
         "eighty": 80, "ninety": 90}  # fmt: skip
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    word + plural: parts
    for parts, word in enumerate(
        ("third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"), start=3
    )
    for plural in ("", "s")
}
_NOTHING = frozenset(
    ("no solution", "no solutions", "no real solution", "no real solutions", "empty", "empty set",
     "null set", "has no solution", "has no solutions")
)  # fmt: skip
_ALL_REALS = frozenset(
    ("all real numbers", "all reals", "set of all real numbers", "set of real numbers", "reals",
     "real numbers", "all real x", "any real number", "all real values")
)  # fmt: skip
_LEADING = re.compile(r"^(?:there (?:is|are) (?=no )|(?:an?|the) )")
_SAME = {"does not exist": "dne", "doesn't exist": "dne", "not defined": "undefined"}


def number_in_words(words: str) -> Fraction | None:
    """The value of "twenty-one", "one hundred and five", "two thirds", "one and a half"."""
    parts = words.lower().replace("-", " ").split()
    if not parts or len(parts) > 12:
        return None
    if parts[0] in ("negative", "minus") and len(parts) > 1:
        value = number_in_words(" ".join(parts[1:]))
        return None if value is None or value < 0 else -value
    if parts[-1] in _PARTS:
        return _with_fraction(parts)
    whole = _integer(parts)
    return None if whole is None else Fraction(whole)


def _with_fraction(parts: list[str]) -> Fraction | None:
    *above, below = parts
    whole: int | None = 0
    if "and" in above:
        at = above.index("and")
        whole, above = _integer(above[:at]), above[at + 1 :]
    one = above == ["a"] or (not above and below == "half")
    count = 1 if one else _integer(above)
    return None if whole is None or count is None else whole + Fraction(count, _PARTS[below])


def _integer(parts: list[str]) -> int | None:
    total = current = 0
    room = 99  # the largest value that may follow: 9 behind twenty, 0 behind seven
    for place, word in enumerate(parts):
        value = _SMALL.get(word, _TENS.get(word))
        if value is not None and value <= room and (value or len(parts) == 1):
            current, room = current + value, 9 if value >= 20 else 0
        elif word == "hundred" and 0 < current < 10:
            current, room = current * 100, 99
        elif word in _SCALES and current:
            total, current, room = total + current * _SCALES[word], 0, 99
        elif word != "and" or not 0 < place < len(parts) - 1 or room < 99:
            return None
    return total + current if parts else None


def plain_words(text: str) -> str:
    """Words without case, article or "there is"."""
    words = " ".join(text.lower().replace(". ", " ").split()).strip("().*'\" ")
    words = _LEADING.sub("", words)
    return _SAME.get(words, words)


def says_no_solution(text: str) -> bool:
    return plain_words(text) in _NOTHING


def says_all_reals(text: str) -> bool:
    return plain_words(text) in _ALL_REALS
