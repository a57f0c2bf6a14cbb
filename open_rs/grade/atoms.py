"""The parts of an expression that stand for themselves: numbers, brackets, commands, matrices."""

from fractions import Fraction

from open_rs.grade.regions import region
from open_rs.grade.tokens import REALS, Token, Tree, Unreadable, number, words_tree

MAX_DEPTH = 60
GREEK = frozenset(
    ("alpha", "beta", "gamma", "delta", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota",
     "kappa", "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi",
     "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi",
     "Omega", "ell", "hbar", "odot")
)  # fmt: skip
FUNCTIONS = frozenset(
    ("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
     "ln", "log", "exp")
)  # fmt: skip
_OF_ANGLES = frozenset(("sin", "cos", "tan", "cot", "sec", "csc"))
OPENING_COMMANDS = frozenset(
    (r"\frac", r"\sqrt", r"\pi", r"\binom", r"\dbinom", r"\tbinom", r"\lfloor", r"\lceil",
     r"\infty", r"\imath", r"\lg", r"\cis", r"\dot", r"\ddot")
)  # fmt: skip
CURRENCIES = {r"\$": "dollar", r"\euro": "euro", r"\pounds": "lb", r"\yen": "yen",
              r"\rupee": "rupee"}  # fmt: skip
_MATRICES = ("matrix", "pmatrix", "bmatrix", "vmatrix", "Bmatrix", "smallmatrix", "array")


class Atoms:
    """A cursor over the tokens, and what starts with a sign of its own. reader.py builds on it."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def peek(self, ahead: int = 0) -> Token:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else ("end", "")

    def next(self) -> Token:
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
            if not text[0].isdigit():
                raise Unreadable("a number without digits")
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
            if len(text) == 1 and text.isalpha():
                return ("const", text) if text in "ei" else ("sym", text)
            return words_tree(text)
        if kind == "sym":
            return self.letter(text)
        if kind == "env":
            return self.matrix(text)
        if kind == "op" and text in "({[|":
            return self.bracketed(text)
        if kind == "esc" and text == r"\{":
            return self.bracketed(text)
        if text in CURRENCIES:
            return self.money(CURRENCIES[text])
        if kind == "cmd":
            return self.command(text[1:])
        raise Unreadable(f"{text!r} not expected")

    def letter(self, letter: str) -> Tree:
        """A constant, a symbol with its primes, or the value f(x) of a function."""
        name = letter
        while self.take("'"):
            name += "'"
        if letter in "fgh" and self.peek() == ("op", "(") and self.is_application(letter):
            self.at += 1
            inside = self.bracketed("(")
            return ("apply", name, *(inside[3:] if inside[0] == "tuple" else (inside,)))
        return ("const", name) if name in "ei" else ("sym", name)

    def is_application(self, name: str) -> bool:
        """Whether the brackets behind f, g or h hold an argument: f takes any, g and h (often a
        fall, a height) one without a sum: g(2x) is a value of g, g(x - h) a product.
        """
        depth = 0
        for kind, text in self.tokens[self.at + 1 :]:
            if depth == 0 and text == ")":
                return True
            if name != "f" and depth == 0 and text in "+-" and kind == "op":
                return False
            depth += (text in "({[") - (text in ")}]") if kind == "op" else 0
        return False

    def money(self, currency: str) -> Tree:
        """$5 million per hour: the sign stands before the amount."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        amount = self.signed()
        self.depth -= 1
        if amount[0] != "unit":
            return ("unit", amount, currency)
        return amount if amount[2] == currency else ("unit", amount[1], f"{currency} {amount[2]}")

    def bracketed(self, opening: str) -> Tree:
        self.depth += 1
        if opening == r"\{" and self.take(r"\}"):
            return ("set",)
        if opening == r"\{" and self.peek()[0] == "sym" and self.peek(1)[1] in ("|", ":"):
            self.at += 2
            condition = region(self.items())
            self.expect(r"\}")
            self.depth -= 1
            if condition is None:
                raise Unreadable("a condition")
            return condition
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
        if name in GREEK:
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
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("dot", "ddot"):
            return self.derivative("'" * (len(name) - 2))
        if name == "cis":
            return self.cis()
        if name == "lg":
            return ("call", "log", self.plain_argument(), ("num", Fraction(10)))
        if name == "mathbb" and self.argument() == ("sym", "R"):
            return REALS
        raise Unreadable(f"\\{name}")

    def derivative(self, primes: str) -> Tree:
        """\\dot{x} is x'."""
        of = self.argument()
        if of[0] != "sym":
            raise Unreadable("a derivative")
        return ("sym", of[1] + primes)

    def cis(self) -> Tree:
        """cis x = e^(i x)."""
        angle = self.power() if self.peek()[1] in ("(", "{") else self.plain_argument()
        return ("^", ("const", "e"), ("*", ("const", "i"), _in_radians(angle)))

    def root(self) -> Tree:
        """The real root: of odd degree, -8 has one."""
        if self.take("["):
            degree = self.sum()
            self.expect("]")
            inside = self.argument()
            if inside[0] == "neg" and degree[0] == "num" and degree[1] % 2 == 1:
                return ("neg", ("call", "root", inside[1], degree))
            return ("call", "root", inside, degree)
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
        if name in _OF_ANGLES:
            inside = _in_radians(inside)
        tree: Tree = ("call", name, inside) if base is None else ("call", name, inside, base)
        return tree if exponent is None else ("^", tree, exponent)

    def plain_argument(self) -> Tree:
        """sin 2x y: factors without brackets, up to the next function or sign."""
        factors = [self.power()]
        while self.starts_factor() and self.peek()[1] not in ("(", "{"):
            if self.peek()[1][1:] in FUNCTIONS or self.peek()[0] == "num":
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

    def items(self) -> Tree:
        """A list or a single item, up to a closing bracket."""
        raise NotImplementedError

    def sum(self) -> Tree:
        """Terms joined by signs."""
        raise NotImplementedError

    def signed(self) -> Tree:
        """A product with the signs before it."""
        raise NotImplementedError

    def power(self) -> Tree:
        """A primary with its exponent, unit and the like."""
        raise NotImplementedError

    def starts_factor(self) -> bool:
        """Whether the next token starts a factor."""
        raise NotImplementedError


def _in_radians(angle: Tree) -> Tree:
    """The argument of a trigonometric function, x degrees as x * pi / 180."""
    if angle[0] == "unit" and angle[2] == "degree":
        return ("/", ("*", angle[1], ("const", "pi")), ("num", Fraction(180)))
    return tuple(_in_radians(part) if isinstance(part, tuple) else part for part in angle)
