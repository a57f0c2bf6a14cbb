"""From normalised LaTeX to a syntax tree, in time linear in the text. Nothing is evaluated here.

A tree is a tuple: its kind, then its parts.
    ("num", Fraction)  ("sym", name)  ("const", name)  ("text", words)  ("inf",)
    ("+", a, b, ...)  ("*", a, b, ...)  ("/", a, b)  ("neg", a)  ("^", a, b)  ("!", a)  ("pm", a, b)
    ("call", name, a, ...)  ("base", digits, base)  ("unit", a, name or "")  ("pct", a)
    ("list", a, ...)  ("set", a, ...)  ("tuple", open, close, a, ...)  ("union", a, ...)
    ("matrix", row, ...) with rows ("row", a, ...)  ("chain", a, sign, b, sign, c, ...)
    ("ratio", a, b, ...)  ("approx", a)
What the reader does not know, or knows to be ambiguous, raises `Unreadable`.
"""

import re
from fractions import Fraction
from typing import Any

from open_rs.grade.normalise import unit_name

Tree = tuple[Any, ...]

MAX_DEPTH = 40
MAX_DIGITS = 2000


class Unreadable(Exception):
    """Not in the language of this reader: a matter for math-verify."""


_TOKEN = re.compile(
    r"\s*(?:(?P<num>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?P<exp>[eE][+-]?\d+(?![a-zA-Z\d]))?"
    r"|\\text\s*\{(?P<text>[^{}]*)\}"
    r"|(?P<env>\\(?:begin|end)\s*\{[a-zA-Z*]+\})"
    r"|(?P<cmd>\\[a-zA-Z]+)|(?P<esc>\\[^a-zA-Z])|(?P<sym>[a-zA-Z])|(?P<op><=|>=|\*\*|[^\s\\]))"
)
_GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Pi",
        "Sigma",
        "Phi",
        "Psi",
        "Omega",
        "ell",
        "hbar",
    ]
)
_FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "ln",
        "log",
        "exp",
    ]
)
_RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", "<=": "<=", ">=": ">=", r"\in": "in",
    r"\ne": "!=", r"\approx": "~", r"\equiv": "=", "≡": "=",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z][A-Za-z' -]*")
_SHORT_WORDS = frozenset({"yes", "no", "true", "false", "none", "odd", "even", "both", "neither"})
_TRAILING_WORDS = re.compile(r"(?<=[\d})%])\s*([A-Za-z]{2,}(?:[ .-]+[A-Za-z]+)*)$")
_CHOICE = re.compile(r"\(?([A-Z])[).]?")
_MATRICES = ("matrix", "pmatrix", "bmatrix", "vmatrix", "Bmatrix", "smallmatrix", "array")


def read(text: str) -> Tree:
    """The tree of a normalised answer."""
    if _is_words(text):
        return _words(text)
    if choice := _CHOICE.fullmatch(text):
        return ("sym", choice.group(1))
    text = _TRAILING_WORDS.sub(lambda match: rf"\text{{{match.group(1)}}}", text)
    return _Reader(_tokens(text)).whole()


def _is_words(text: str) -> bool:
    """Words rather than a product of letters: three letters in a row that are no function."""
    if not _WORD.fullmatch(text):
        return False
    words = [word for word in text.split() if word not in ("and", "or")]
    if len(words) == 1 and words[0].lower() in _SHORT_WORDS:
        return True
    return any(len(word) >= 4 or (len(words) > 1 and len(word) >= 3) for word in words)


_NUMBER_WORDS = {
    word: ("num", Fraction(value))
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}


def _words(text: str) -> Tree:
    words = " ".join(text.lower().split())
    return _NUMBER_WORDS.get(words, ("text", words))


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable("a stray character")
        kind = match.lastgroup or ""
        if kind == "exp" or kind == "num":
            number = match.group("num").replace(",", "") if _thousands(text, match) else None
            if number is None:  # digits and commas inside brackets: members, not thousands
                first = match.group("num").split(",")[0]
                found.append(("num", first))
                at = match.start("num") + len(first)
                continue
            found.append(("num", number + (match.group("exp") or "")))
        else:
            found.append((kind, match.group(kind).strip()))
        at = match.end()
    return found


def _thousands(text: str, match: re.Match[str]) -> bool:
    """Whether commas within a run of digits part thousands: not after a 0, nor inside brackets."""
    number = match.group("num")
    if "," not in number:
        return True
    before = text[: match.start("num")]
    inside = any(before.count(a) > before.count(b) for a, b in ("()", "[]", (r"\{", r"\}")))
    return number[0] != "0" and not inside


class _Reader:
    """Recursive descent with a depth limit; `self.at` is the next token."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else ("end", "")

    def next(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def take(self, text: str) -> bool:
        if self.peek()[1] == text and self.peek()[0] != "text":
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise Unreadable(f"{text} expected")

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
        if is_joint := _is_joint(self.peek()):
            self.at += 1
        return is_joint

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
        parts: list[Any] = [self.union()]
        while self.take(":"):
            parts.append(self.union())
        if len(parts) > 1:
            return ("ratio", *parts)
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
            self.at += 1
            tree: Tree = ("pm", ("num", Fraction(0)), self.product())
        else:
            tree = self.signed()
        terms = [tree]
        while True:
            if self.take("+"):
                terms.append(self.signed())
            elif self.take("-"):
                terms.append(("neg", self.signed()))
            elif self.peek()[1] in (r"\pm", r"\mp"):
                self.at += 1
                so_far = terms[0] if len(terms) == 1 else ("+", *terms)
                terms = [("pm", so_far, self.product())]
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
        if len(factors) == 1 and after_number and left[0] == "num" and left[1].denominator == 1:
            if is_number and self.take("/"):  # 10 1/12
                factor, is_fraction = ("/", factor, self.power()), True
            unit = factor[0] in ("unit", "pct")
            if is_fraction and _is_proper(factor[1] if unit else factor):
                factors.pop()
                mixed = ("+", left, factor[1] if unit else factor)
                return (factor[0], mixed, *factor[2:]) if unit else mixed
        if is_number and after_number:
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
            return text[1:] in _GREEK | _FUNCTIONS or text in _OPENING_COMMANDS
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
            elif kind == "text" and not _is_joint((kind, text)):
                tree = self.with_unit(tree)
            else:
                return tree
        raise Unreadable("too deep")

    def raised(self, tree: Tree) -> Tree:
        if self.peek()[1] == r"\circ":
            self.at += 1
            return ("unit", tree, "degree")
        if self.peek()[1] == "{" and self.peek(1)[1] == r"\circ" and self.peek(2)[1] == "}":
            self.at += 3
            return ("unit", tree, "degree")
        if self.peek()[1] == "'" or self.peek()[1] == r"\prime":
            raise Unreadable("a derivative")
        return ("^", tree, self.argument())

    def subscripted(self, tree: Tree) -> Tree:
        whole_number = tree[0] == "num" and self.peek()[0] == "num"
        below = self.primary() if whole_number else self.argument()
        if tree[0] == "num" and tree[1].denominator == 1 and below[0] == "num":
            digits = self.tokens_before_subscript()
            return ("base", digits, below[1])
        if tree[0] == "sym" and below[0] in ("num", "sym", "text"):
            return ("sym", f"{tree[1]}_{below[1]}")
        raise Unreadable("a subscript")

    def tokens_before_subscript(self) -> str:
        """The digits as written: 0012 in base 5 keeps its value but 9 is no digit of it."""
        at = self.at - 1
        while self.tokens[at][1] != "_":
            at -= 1
        return self.tokens[at - 1][1].lstrip("0") or "0"

    def with_unit(self, tree: Tree) -> Tree:
        words = self.next()[1]
        name = unit_name(words) or ""
        if words.strip().lower() == "percent":
            return ("pct", tree)
        if self.take("^"):
            power = self.argument()
            name = f"{name}^{power[1]}" if name and power[0] == "num" else ""
        if tree[0] == "text":
            raise Unreadable("words after words")
        return ("unit", tree, name)

    def argument(self) -> Tree:
        """One token or one group, as LaTeX takes an argument."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        tree = self.one_argument()
        self.depth -= 1
        return tree

    def one_argument(self) -> Tree:
        kind, text = self.peek()
        if kind == "num" and not text.startswith(".") and len(text) > 1 and "{" not in text:
            self.tokens[self.at] = ("num", text[1:])
            return ("num", Fraction(text[0]))
        if text == "-" and kind == "op":
            self.at += 1
            return ("neg", self.argument())
        return self.primary()

    def primary(self) -> Tree:
        kind, text = self.next()
        if kind == "num":
            return ("num", number(text))
        if kind == "text":
            return _words(text)
        if kind == "sym":
            return ("const", text) if text in "ei" else ("sym", text)
        if kind == "env":
            return self.matrix(text)
        if kind == "op" and text in "({[|":
            return self.bracketed(text)
        if kind == "esc" and text == r"\{":
            return self.bracketed(text)
        if kind == "cmd":
            return self.command(text[1:])
        raise Unreadable(f"{text!r} not expected")

    def bracketed(self, opening: str) -> Tree:
        self.depth += 1
        if opening == r"\{" and self.take(r"\}"):
            return ("set",)
        inside = self.items()
        self.depth -= 1
        closing = self.next()[1]
        members = inside[1:] if inside[0] == "list" else (inside,)
        if opening == "{" and closing == "}":
            return inside
        if opening == "|" and closing == "|":
            return ("call", "abs", inside)
        if opening == r"\{" and closing == r"\}":
            return ("set", *members)
        if opening in ("(", "[") and closing in (")", "]"):
            if len(members) > 1:
                return ("tuple", opening, closing, *members)
            if (opening, closing) in (("(", ")"), ("[", "]")):
                return inside
        raise Unreadable("brackets that do not match")

    def command(self, name: str) -> Tree:
        if name in ("pi", "imath"):
            return ("const", "pi" if name == "pi" else "i")
        if name == "infty":
            return ("inf",)
        if name == "emptyset":
            return ("set",)
        if name in _GREEK:
            return ("sym", name)
        if name == "frac":
            above = self.argument()
            return ("/", above, self.argument())
        if name in ("binom", "dbinom", "tbinom"):
            above = self.argument()
            return ("call", "binom", above, self.argument())
        if name == "sqrt":
            return self.root()
        if name in ("lfloor", "lceil", "langle"):
            inside = self.items()
            self.expect("\\" + {"lfloor": "rfloor", "lceil": "rceil", "langle": "rangle"}[name])
            if name == "langle":
                members = inside[1:] if inside[0] == "list" else (inside,)
                return ("tuple", "(", ")", *members)
            return ("call", name[1:], inside)
        if name == "overline" and self.at >= 2 and self.tokens[self.at - 2][0] == "num":
            raise Unreadable("a repeating decimal")
        if name in _FUNCTIONS:
            return self.function(name)
        raise Unreadable(f"\\{name}")

    def root(self) -> Tree:
        if self.take("["):
            degree = self.sum()
            self.expect("]")
            return ("call", "root", self.argument(), degree)
        return ("call", "root", self.argument(), ("num", Fraction(2)))

    def function(self, name: str) -> Tree:
        base: Tree | None = None
        exponent: Tree | None = None
        if name == "log" and self.take("_"):
            base = self.argument()
        if self.take("^"):
            exponent = self.argument()
            if exponent[0] != "num":
                raise Unreadable("an inverse function or an odd power")
        if self.peek()[1] in ("(", "{"):
            inside = self.power() if exponent is None else self.primary()
        else:
            inside = self.plain_argument()
        if inside[0] == "tuple":
            raise Unreadable("a function of several arguments")
        tree: Tree = ("call", name, inside) if base is None else ("call", name, inside, base)
        return tree if exponent is None else ("^", tree, exponent)

    def plain_argument(self) -> Tree:
        """sin 2x y: factors without brackets, up to the next function or sign."""
        factors = [self.power()]
        while self.starts_factor() and self.peek()[1] not in ("(", "{"):
            if self.peek()[1][1:] in _FUNCTIONS or self.peek()[0] == "num":
                break
            factors.append(self.power())
        return factors[0] if len(factors) == 1 else ("*", *factors)

    def matrix(self, opening: str) -> Tree:
        kind = opening[opening.index("{") + 1 : -1]
        if kind not in _MATRICES or "begin" not in opening:
            raise Unreadable("an environment")
        if kind == "array":
            self.expect("{")
            while not self.take("}"):
                self.next()
                if self.peek()[0] == "end":
                    raise Unreadable("an array without end")
        rows = [self.row()]
        while self.take("\\\\"):
            if self.peek()[0] != "env":
                rows.append(self.row())
        if self.next()[1].replace(" ", "") != f"\\end{{{kind}}}":
            raise Unreadable("an environment without end")
        return ("matrix", *rows)

    def row(self) -> Tree:
        cells = [self.sum()]
        while self.take("&"):
            cells.append(self.sum())
        return ("row", *cells)


def _is_joint(token: tuple[str, str]) -> bool:
    kind, text = token
    return kind == "text" and text.lower().strip(" ,;") in ("and", "or", "")


_OPENING_COMMANDS = frozenset(
    [
        r"\frac",
        r"\sqrt",
        r"\pi",
        r"\binom",
        r"\dbinom",
        r"\tbinom",
        r"\lfloor",
        r"\lceil",
        r"\infty",
        r"\imath",
    ]
)


def _is_proper(tree: Tree) -> bool:
    """Whether the tree is a fraction of two integers between 0 and 1."""
    return (
        tree[0] == "/"
        and tree[1][0] == tree[2][0] == "num"
        and tree[1][1].denominator == tree[2][1].denominator == 1
        and 0 < tree[1][1] < tree[2][1]
    )


def number(text: str) -> Fraction:
    """The exact value of a decimal as written, 4.5e33 included."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > MAX_DIGITS:
        raise Unreadable("a number with too many digits")
    return Fraction(mantissa) * Fraction(10) ** int(exponent or 0)
