"""How alike the wordings of two problems are, with their numbers apart.

A wording is the `normalised` text as words and signs, in which every number reads alike. The
similarity of two is the Jaccard index of words and pairs of neighbouring words, each counted as
often as it occurs: |A and B| / |A or B|. Two problems with like wordings are one problem where
their numbers are the same too and nothing in them was swapped, else one template.
"""

import re
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

from open_rs.grade.exact import exact_verdict
from open_rs.normalise import normalised, normalised_answer

NUMBER = "0"  # how each number reads in a wording
_SMALL = "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
# "one" is a pronoun as often as a number
NUMBER_WORDS = {word: str(n + (n > 0)) for n, word in enumerate(_SMALL.split())} | {
    word: str(10 * n) for n, word in enumerate(_TENS.split(), start=2)
}
TOKENS = re.compile(
    r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"  # numbers
    r"|\\?[^\W\d_]+|[-+*/=<>^%!|]|(?<=\b[a-z])'+"  # words, commands, signs, f'
    r"|[()\[\]]"  # of formulas; no words
)
FEW_WORDS = 5  # a problem with fewer is its formula
BRACKETS = frozenset("()[]")
# Names of points, in a text that has small letters too
LABEL = re.compile(r"(?<![^\W_])[A-Z]{2,5}(?![^\W_])")
LETTER = re.compile(r"(?<![^\W_])[^\W\d_](?![^\W_])")
# One in the place of the other asks for something else; of several words on a side any will do
POLES = tuple(
    (frozenset(one.split()), frozenset(other.split()))
    for one, other in (
        (
            r"least smallest minimum minimal lowest fewest shortest \min",
            r"most largest greatest maximum maximal highest longest \max",
        ),
        ("even", "odd"), ("sum", "product"), ("sum", "difference"), ("more", "fewer less"),
        ("older", "younger"), ("heads", "tails"), ("first", "last"), ("before", "after"),
        ("positive", "negative"), ("increasing", "decreasing"), ("with", "without"),
        ("mean average", "median"), ("numerator", "denominator"), ("radius", "diameter"),
        ("area", "perimeter circumference"), ("area", "volume"), ("parallel", "perpendicular"),
        ("inscribed", "circumscribed"), ("distinguishable", "indistinguishable"),
        (r"\sin sin sine", r"\cos cos cosine"), (r"\sin sin sine", r"\tan tan tangent"),
        (r"\cos cos cosine", r"\tan tan tangent"), ("+", "-"), (r"< \le", r"> \ge"),
        (r"\cup union", r"\cap intersection"), (r"\sum", r"\prod"), (r"\land", r"\lor"),
        (r"\lfloor floor", r"\lceil ceiling"), (r"\pm", r"\mp"),
    )
)  # fmt: skip
RUN = 5  # tokens in a row by which a quotation is known
SHORTEST_QUOTED = 12  # a problem of fewer tokens stands in too many others by chance
LONGER, MOSTLY = 1.2, 0.75  # times as many tokens; share of the runs


@dataclass(frozen=True)
class Wording:
    """A normalised text and its tokens in order: as they are, and with each number alike."""

    text: str
    tokens: tuple[str, ...]  # numbers by their value
    words: tuple[str, ...]  # numbers as NUMBER, without brackets
    values: tuple[str, ...]  # of the numbers, in order
    labels: tuple[str, ...] = ()  # names of points, such as ABC

    @cached_property
    def numbers(self) -> frozenset[str]:
        """The different values."""
        return frozenset(self.values)

    @cached_property
    def counts(self) -> Counter[Hashable]:
        """How often each word, and each pair of neighbours, occurs."""
        counts: Counter[Hashable] = Counter(self.words)
        counts.update(zip(self.words, self.words[1:], strict=False))
        return counts

    @cached_property
    def letters(self) -> Counter[str]:
        """How often each letter is a name, alone or in a label. A is an article as often."""
        alone = (one for one in self.tokens if len(one) == 1 and one.isalpha() and one != "a")
        return Counter(alone) + Counter("".join(self.labels).lower())

    @cached_property
    def formula(self) -> tuple[str, ...]:
        """The tokens that are no words of prose."""
        return tuple(one for one in self.tokens if len(one) == 1 or not one.isalpha())

    @cached_property
    def runs(self) -> frozenset[tuple[str, ...]]:
        """The runs of RUN tokens, numbers and all."""
        return frozenset(zip(*(self.tokens[start:] for start in range(RUN)), strict=False))


def wording(text: str) -> Wording:
    """The wording of a problem's text."""
    tokens: list[str] = []
    words: list[str] = []
    values: list[str] = []
    plain = normalised(text)
    for token in TOKENS.findall(plain):
        number = token if token[0].isdecimal() or token[0] == "." else NUMBER_WORDS.get(token)
        if number is None:
            tokens.append(token)
            if token not in BRACKETS:
                words.append(token)
        else:
            value = _value(number)
            tokens.append(value)
            words.append(NUMBER)
            values.append(value)
    labels = LABEL.findall(text) if any(map(str.islower, text)) else ()
    return Wording(plain, tuple(tokens), tuple(words), tuple(values), tuple(labels))


def _value(number: str) -> str:
    """1,000.50 as 1000.5."""
    whole, _, decimals = number.replace(",", "").partition(".")
    decimals = decimals.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{decimals}" if decimals else "")


def similarity(one: Wording, other: Wording) -> float:
    """Jaccard index of words and pairs, 0 to 1; 1 for two empty wordings."""
    small, large = sorted((one.counts, other.counts), key=len)
    shared = sum(min(count, large[key]) for key, count in small.items() if key in large)
    either = one.counts.total() + other.counts.total() - shared
    return shared / either if either else 1.0


def likeness(one: Wording, other: Wording) -> float:
    """Their similarity; 0 where the formula is all there is to one of them, and differs: of
    `Compute 3 + 4` other words would be another problem.
    """
    few = min(len(each.tokens) - len(each.formula) for each in (one, other)) < FEW_WORDS
    return 0.0 if few and one.formula != other.formula else similarity(one, other)


def cased_letters(text: str) -> tuple[str, ...]:
    """The letters that stand alone, as they are: R and r are two lengths."""
    return tuple(LETTER.findall(text))


def swapped(one: Wording, other: Wording) -> bool:
    """Whether they ask for two things in like words: a word of POLES in the place of its opposite,
    or a letter in the place of another, where both texts know both (else it may be a new name).
    """
    both_ways = one.letters - other.letters and other.letters - one.letters
    if both_ways and one.letters.keys() == other.letters.keys():
        return True
    rises = Counter(one.tokens)
    rises.subtract(other.tokens)  # in what `one` has more often, and below 0
    return any(
        sum(rises[word] for word in left) * sum(rises[word] for word in right) < 0
        for left, right in POLES
    )


def quotes(whole: Wording, part: Wording) -> bool:
    """Whether `part` stands in `whole`, numbers and all: every run of it, or most of them where
    `whole` is clearly longer. One that is too short to tell does not.
    """
    if len(part.tokens) < SHORTEST_QUOTED:
        return False
    missing = len(part.runs - whole.runs)
    longer = len(whole.tokens) >= LONGER * len(part.tokens)
    return missing <= (1 - MOSTLY) * len(part.runs) if longer else missing == 0


def same_answer(one: str, other: str) -> bool:
    """Equal in spelling, or to the grader at once, whichever of the two is the gold."""
    if normalised_answer(one) == normalised_answer(other):
        return True
    return "correct" in (exact_verdict(one, other), exact_verdict(other, one))


def answers_agree(one: str, other: str) -> bool:
    """No sign of two different answers: the same one, or one of them is not known."""
    return not one.strip() or not other.strip() or same_answer(one, other)
