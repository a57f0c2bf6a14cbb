"""From normalised LaTeX to a syntax tree, in time linear in the text. Nothing is evaluated here.

A tree is a tuple: its kind, then its parts.
    ("num", Fraction)  ("sym", name)  ("const", name)  ("text", words)  ("inf",)
    ("+", a, b, ...)  ("*", a, b, ...)  ("/", a, b)  ("neg", a)  ("^", a, b)  ("!", a)  ("pm", a, b)
    ("call", name, a, ...)  ("apply", name, a, ...)  ("base", digits, base)
    ("unit", a, name)  ("pct", a)
    ("list", a, ...)  ("set", a, ...)  ("tuple", open, close, a, ...)  ("union", a, ...)
    ("matrix", row, ...) with rows ("row", a, ...)  ("chain", a, sign, b, sign, c, ...)
    ("ratio", a, b, ...)  ("clock", hours, minutes, ...)  ("approx", a)
What the reader does not know, or knows to be ambiguous, raises `Unreadable`.
"""

import re
from fractions import Fraction
from itertools import pairwise
from typing import Any

from open_rs.grade.atoms import CURRENCIES, FUNCTIONS, GREEK, MAX_DEPTH, OPENING_COMMANDS, Atoms
from open_rs.grade.signs import without_plus_minus
from open_rs.grade.tokens import (
    CHOICE,
    CLOCK,
    DIGITS_AND_LETTERS,
    INNER_WORDS,
    LETTERS,
    TRAILING_WORDS,
    Tree,
    Unreadable,
    is_joint,
    is_words,
    tokens,
    words_tree,
)
from open_rs.grade.units import factor, is_unit_power, is_unit_text, quantity, ratio, unit_name

__all__ = ["Tree", "Unreadable", "read"]

MAX_HEIGHT = 120  # what walks a tree takes up to three frames of Python's 1,000 a level

_RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", "<=": "<=", ">=": ">=", r"\in": "in",
    r"\ne": "!=", r"\approx": "~", r"\equiv": "=", "≡": "=",
}  # fmt: skip


def read(text: str) -> Tree:
    """The tree of a normalised answer."""
    if is_words(text):
        return words_tree(text)
    if LETTERS.fullmatch(text):
        return words_tree(text)
    if choice := CHOICE.fullmatch(text):
        return ("sym", choice.group(1))
    if based := DIGITS_AND_LETTERS.fullmatch(text):
        return ("base", based.group(1), Fraction(based.group(2)))
    text = INNER_WORDS.sub(_marked, text)
    text = TRAILING_WORDS.sub(_marked, text)
    tree = _Reader(tokens(text)).whole()
    if _height(tree) > MAX_HEIGHT:
        raise Unreadable("too deep")
    return without_plus_minus(tree) if r"\pm" in text or r"\mp" in text else tree


def _marked(match: re.Match[str]) -> str:
    """Words behind a number in \\text{}, letters that are symbols as they are."""
    space, words = match.groups()
    words = words.replace("{", "").replace("}", "")
    is_unit = (
        is_unit_power(words, apart=bool(space))
        if "^" in words
        else is_unit_text(words, apart=bool(space))
    )
    return rf"\text{{{words}}}" if is_unit else match.group()


def _height(tree: Tree) -> int:
    """Levels of the tree, found without recursion: postfix signs nest without a bracket."""
    height, level = 0, [tree]
    while level:
        height += 1
        level = [part for node in level for part in node[1:] if isinstance(part, tuple)]
    return height


class _Reader(Atoms):
    """Recursive descent with a depth limit; `self.at` is the next token."""

    def whole(self) -> Tree:
        tree = self.items()
        if self.peek()[0] != "end":
            raise Unreadable(f"{self.peek()[1]!r} not expected")
        return tree

    def items(self) -> Tree:
        """a, b and c -> a list; one item -> itself."""
        found = [self.relation()]
        while self.separator():
            found.append(self.relation())
        return found[0] if len(found) == 1 else ("list", *found)

    def separator(self) -> bool:
        start = self.at
        while (
            self.take(",") or self.take(";") or self.word("and") or self.word("or") or self.joint()
        ):
            pass
        return self.at > start

    def joint(self) -> bool:
        """Take \\text{and}, \\text{, or} and the like."""
        if found := is_joint(self.peek()):
            self.at += 1
        return found

    def word(self, word: str) -> bool:
        """Take the letters of `word`, which stand as single symbols."""
        letters = [self.peek(ahead) for ahead in range(len(word))]
        if [text for kind, text in letters if kind == "sym"] == list(word):
            self.at += len(word)
            return True
        return False

    def relation(self) -> Tree:
        if self.take(r"\approx"):
            return ("approx", self.union())
        start = self.at
        parts: list[Any] = [self.union()]
        while self.take(":"):
            parts.append(self.union())
        if len(parts) > 1:
            written = "".join(text for _, text in self.tokens[start : self.at])
            return ("clock" if CLOCK.match(written) else "ratio", *parts)
        while (sign := _RELATIONS.get(self.peek()[1])) and self.peek()[0] in ("op", "cmd"):
            self.at += 1
            parts += [sign, self.union()]
        return parts[0] if len(parts) == 1 else ("chain", *parts)

    def union(self) -> Tree:
        parts = [self.sum()]
        while self.take(r"\cup"):
            parts.append(self.sum())
        return parts[0] if len(parts) == 1 else ("union", *parts)

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        if self.peek()[1] in (r"\pm", r"\mp"):
            tree: Tree = (self.next()[1][1:], ("num", Fraction(0)), self.product())
        else:
            tree = self.signed()
        terms = [tree]
        while True:
            if self.take("+"):
                terms.append(self.signed())
            elif self.take("-"):
                terms.append(("neg", self.signed()))
            elif self.peek()[1] in (r"\pm", r"\mp"):
                sign = self.next()[1][1:]
                so_far = terms[0] if len(terms) == 1 else ("+", *terms)
                terms = [(sign, so_far, self.product())]
            else:
                break
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("+", *terms)

    def signed(self) -> Tree:
        negative = False
        while self.peek()[1] in ("+", "-") and self.peek()[0] == "op":
            negative ^= self.next()[1] == "-"
        tree = self.product()
        return ("neg", tree) if negative else tree

    def product(self) -> Tree:
        """Factors joined by a sign of multiplication, by / or by standing side by side."""
        factors = [self.power()]
        divided = False
        divisions = 0
        while divisions <= MAX_DEPTH:
            kind, text = self.peek()
            if text in ("*", r"\times", r"\cdot", r"\ast") and kind in ("op", "cmd"):
                self.at += 1
                factors.append(self.signed_power())
            elif text == "/" and kind == "op":
                self.at += 1
                left = factors[0] if len(factors) == 1 else ("*", *factors)
                factors, divided = [("/", left, self.signed_power())], True
                divisions += 1
                continue
            elif self.starts_factor():
                if divided:
                    raise Unreadable("a/bc can be read in two ways")
                factors.append(self.beside(factors))
            else:
                return factors[0] if len(factors) == 1 else ("*", *factors)
            divided = False
        raise Unreadable("too deep")

    def signed_power(self) -> Tree:
        if self.peek() == ("op", "-"):
            self.at += 1
            return ("neg", self.power())
        return self.power()

    def beside(self, factors: list[Tree]) -> Tree:
        """A factor without a sign before it. After an integer, a proper fraction makes a mixed
        number, which replaces the integer.
        """
        left = factors[-1]
        after_number = self.tokens[self.at - 1][0] == "num"
        is_number, is_fraction = self.peek()[0] == "num", self.peek()[1] == r"\frac"
        factor = self.power()
        if is_number and (whole := one_quantity((left, factor))) and len(factors) == 1:
            factors.pop()
            return whole
        if len(factors) == 1 and after_number and left[0] == "num" and left[1].denominator == 1:
            if is_number and self.take("/"):  # 10 1/12
                factor, is_fraction = ("/", factor, self.power()), True
            unit = factor[0] in ("unit", "pct")
            if is_fraction and _is_proper(factor[1] if unit else factor):
                factors.pop()
                mixed = ("+", left, factor[1] if unit else factor)
                return (factor[0], mixed, *factor[2:]) if unit else mixed
        if is_number and (after_number or left[0] in ("unit", "pct")):
            raise Unreadable("two numbers side by side")
        return factor

    def starts_factor(self) -> bool:
        kind, text = self.peek()
        if kind == "sym":
            start = self.at
            is_separator = self.word("and") or self.word("or")
            self.at = start
            return not is_separator
        if kind == "cmd":
            return text[1:] in GREEK | FUNCTIONS or text in OPENING_COMMANDS
        return (
            kind == "num" or (kind == "op" and text in "({[") or (kind == "env" and "begin" in text)
        )

    def power(self) -> Tree:
        """A primary with what follows it: ! ^ subscripts, %, degrees, units."""
        tree = self.primary()
        for _ in range(MAX_DEPTH):
            kind, text = self.peek()
            if text == "!" and kind == "op":
                self.at += 1
                tree = ("!", tree)
            elif text in ("^", "**") and kind == "op":
                self.at += 1
                tree = self.raised(tree)
            elif text == "_" and kind == "op":
                self.at += 1
                tree = self.subscripted(tree)
            elif text in ("%", r"\%"):
                self.at += 1
                tree = ("pct", tree)
            elif kind == "text" and not is_joint((kind, text)):
                tree = self.with_unit(tree, self.unit_words())
            elif text in CURRENCIES and kind in ("esc", "cmd"):
                self.at += 1
                tree = ("unit", tree, CURRENCIES[text])
            elif text == r"\frac" and (words := self.unit_fraction()):
                tree = self.with_unit(tree, words)
            else:
                return tree
        raise Unreadable("too deep")

    def raised(self, tree: Tree) -> Tree:
        braces = self.peek()[1] == "{" and self.peek(1)[1] == r"\circ"
        if braces or self.peek()[1] == r"\circ":
            self.at += 2 if braces else 1
            scale = self.temperature_scale()
            if braces:
                self.expect("}")
            return ("unit", tree, scale or self.temperature_scale() or "degree")
        if primes := self.primes():
            if tree[0] != "sym":
                raise Unreadable("a derivative")
            return ("sym", tree[1] + primes)
        if self.peek()[0] == "num":  # 2^10 as it is typed, though TeX would print 2^{1}0
            return ("^", tree, self.primary())
        return ("^", tree, self.argument())

    def primes(self) -> str:
        """Take \\prime or {\\prime\\prime}, as '' behind a letter."""
        braces = self.peek()[1] == "{" and self.peek(1)[1] == r"\prime"
        self.at += braces
        found = ""
        while self.take(r"\prime"):
            found += "'"
        if braces:
            self.expect("}")
        return found

    def subscripted(self, tree: Tree) -> Tree:
        whole_number = tree[0] == "num" and self.peek()[0] == "num"
        below = self.primary() if whole_number else self.argument()
        if tree[0] == below[0] == "num":
            digits = self.tokens_before_subscript()
            return ("base", digits, below[1])
        if tree[0] == "sym" and below[0] in ("num", "sym", "text", "const"):
            return ("sym", f"{tree[1]}_{below[1]}")
        letters = below[0] == "*" and all(part[0] in ("sym", "const") for part in below[1:])
        if tree[0] == "sym" and letters:
            return ("sym", f"{tree[1]}_{''.join(part[1] for part in below[1:])}")
        raise Unreadable("a subscript")

    def tokens_before_subscript(self) -> str:
        """The digits as written: 0012 in base 5 keeps its value but 9 is no digit of it."""
        at = self.at - 1
        while self.tokens[at][1] != "_":
            at -= 1
        return self.tokens[at - 1][1].lstrip("0") or "0"

    def temperature_scale(self) -> str:
        """Take the C or F behind a sign of degrees."""
        scale = {"C": "celsius", "F": "fahrenheit"}.get(self.peek()[1], "")
        self.at += bool(scale)
        return scale

    def unit_words(self) -> str:
        """Take units as written behind a number: \\text{kg m}/\\text{s}^2 is "kg m/s^2"."""
        words = self.next()[1]
        while True:
            joint = {"/": "/", r"\cdot": " ", r"\times": " "}.get(self.peek()[1], "")
            following = self.peek(1 if joint else 0)
            if following[0] == "text" and not is_joint(following):
                self.at += 2 if joint else 1
                words += (joint or " ") + following[1]
            elif self.take("^"):
                power = _written_integer(self.argument())
                words += f"^{power}"
            else:
                return words

    def unit_fraction(self) -> str:
        """Take \\frac{\\text{m}}{\\text{s}^2}, a unit; "" where it is another fraction."""
        start = self.at
        sides = []
        for opening in (2, 1):  # \frac and a brace, a brace
            if self.peek(opening)[0] != "text" or self.peek(opening - 1)[1] != "{":
                break
            self.at += opening
            sides.append(self.unit_words())
            if not self.take("}"):
                break
        else:
            return "/".join(sides)
        self.at = start
        return ""

    def with_unit(self, tree: Tree, words: str) -> Tree:
        times, words = factor(words)
        if tree[0] == "text":
            raise Unreadable("words after words")
        if times != 1:
            tree = ("*", tree, ("num", times))
        name = unit_name(words)
        if name == "percent":
            return ("pct", tree)
        if not name:
            return tree
        return ("unit", tree, name)


def one_quantity(parts: Tree) -> Tree | None:
    """5 feet 6 inches, in inches; None for what are no amounts in falling units of a dimension."""
    if any(part[0] != "unit" for part in parts) or len(parts) > 4:
        return None
    last = parts[-1][2]
    times = [ratio(last, part[2]) for part in parts if quantity(part[2]) is not None]
    known = [one for one in times if one is not None]
    if len(known) < len(parts) or any(a <= b for a, b in pairwise(known)):
        return None
    terms = (("*", part[1], ("num", one)) for part, one in zip(parts, known, strict=True))
    return ("unit", ("+", *terms), last)


def _written_integer(tree: Tree) -> Fraction:
    """The integer of an exponent behind a unit."""
    digits = tree[1] if tree[0] == "neg" else tree
    value: Fraction | None = digits[1] if digits[0] == "num" else None
    if value is None or value.denominator != 1:
        raise Unreadable("a power of words")
    return -value if tree[0] == "neg" else value


def _is_proper(tree: Tree) -> bool:
    """Whether the tree is a fraction of two integers between 0 and 1."""
    return (
        tree[0] == "/"
        and tree[1][0] == tree[2][0] == "num"
        and tree[1][1].denominator == tree[2][1].denominator == 1
        and 0 < tree[1][1] < tree[2][1]
    )
