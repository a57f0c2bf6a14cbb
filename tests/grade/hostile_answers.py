"""Answers made to hang, crash or fool a grader; none of them equals any of `GOLDS`."""

import random
from collections.abc import Callable, Iterator

GOLDS = (
    "7",
    r"\frac{3}{7}",
    r"\sqrt{11}",
    "(2,3)",
    r"x^2+1",
    r"\text{Paris}",
    "2.75",
    r"[0,\infty)",
    r"\approx 10^{400}",
)


def hostile_answers(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(kind, what stands in the box), the kinds in turn."""
    draw = random.Random(seed)
    makers = list(MAKERS.items())
    for number in range(count):
        kind, make = makers[number % len(makers)]
        yield kind, make(draw)


def _nest(opening: str, core: str, closing: str, depth: int) -> str:
    return opening * depth + core + closing * depth


def power_tower(draw: random.Random) -> str:
    height = draw.randint(3, 60)
    return _nest(f"{draw.randint(2, 99)}^{{", "9", "}", height)


def bracket_tower(draw: random.Random) -> str:
    return _nest("(", str(draw.randint(2, 9)), ")^{9}", draw.randint(8, 50))


def python_tower(draw: random.Random) -> str:
    return "**".join(["9"] * draw.randint(3, 40))


def unicode_tower(draw: random.Random) -> str:
    return "9^(9^(9^(9" + "))" * 2 + str(draw.randint(0, 9))


def hidden_tower(draw: random.Random) -> str:
    """Nested in what looks harmless."""
    inside = rf"{draw.randint(2, 9)}^{{{draw.randint(2, 9)}^{{{draw.randint(10, 999)}}}}}"
    wraps = (rf"\frac{{{inside}}}{{{inside}+1}}", rf"\sqrt{{{inside}}}", rf"\{{1, {inside}\}}",
             rf"\left|{inside}\right|", rf"x = {inside}", rf"1 + {inside} - {inside}",
             rf"\sin({inside})", rf"\begin{{pmatrix}} {inside} \\ 1 \end{{pmatrix}}",
             rf"{inside} \text{{ cm}}", rf"{inside}\%", rf"\lfloor {inside} \rfloor",
             rf"\log_{{2}}({inside})", rf"\binom{{{inside}}}{{3}}", rf"({inside}, 3)",
             rf"[{inside}, \infty)", rf"(x+1)^{{{inside}}}", rf"x^{{{inside}}}+1")  # fmt: skip
    return draw.choice(wraps)


def factorial(draw: random.Random) -> str:
    return str(draw.randint(3, 10**6)) + "!" * draw.randint(1, 30)


def postfix_tower(draw: random.Random) -> str:
    """Signs that nest without a bracket, within brackets that multiply them."""
    sign = draw.choice(("!", r"\%", "^2", "^3!", "!^2"))
    core = sign * draw.choice((1, 10, 40, 59)) + draw.choice(("", r"\times 40", "+1"))
    return _nest("(", "3", ")" + core, draw.randint(4, 29))


def nested_factorial(draw: random.Random) -> str:
    return _nest("(", str(draw.randint(4, 99)), ")!", draw.randint(2, 60))


def big_binomial(draw: random.Random) -> str:
    n = 10 ** draw.randint(4, 9)
    return rf"\binom{{{n}}}{{{n // 2}}}"


def nested_logs(draw: random.Random) -> str:
    return _nest(r"\log(", "9^{9^{9}}", ")", draw.randint(1, 40))


def nested_roots(draw: random.Random) -> str:
    degree = draw.choice(("", "[3]", f"[{10 ** draw.randint(2, 9)}]"))
    return _nest(rf"\sqrt{degree}{{2+", str(draw.randint(2, 99)), "}", draw.randint(5, 60))


def sum_of_roots(draw: random.Random) -> str:
    return "+".join(rf"\sqrt{{{draw.randint(2, 9999)}}}" for _ in range(draw.randint(10, 80)))


def nested_trigonometry(draw: random.Random) -> str:
    return _nest(r"\sin(\cos(", f"{draw.randint(2, 99)}x", "))", draw.randint(3, 30))


def expansion(draw: random.Random) -> str:
    power = draw.choice((30, 99, 999, 99999))
    return rf"(a+b+c+d+x+y+z+{draw.randint(1, 9)})^{{{power}}}"


def product_expansion(draw: random.Random) -> str:
    return "".join(f"(x+y_{{{n}}}+{draw.randint(1, 9)})" for n in range(draw.randint(10, 60)))


def braces(draw: random.Random) -> str:
    depth = draw.choice((100, 1000, 100_000))
    return _nest("{", "7", "}", depth) + str(draw.randint(0, 9))


def brackets(draw: random.Random) -> str:
    return _nest(draw.choice("(["), "7+", ")", draw.choice((100, 1000, 100_000)))


def open_braces(draw: random.Random) -> str:
    return "{" * 400 + r"\frac" * draw.randint(10, 200)


def fractions(draw: random.Random) -> str:
    return _nest(r"\frac{1}{1+", "2", "}", draw.randint(10, 90))


def bare_fractions(draw: random.Random) -> str:
    return r"\frac" * draw.randint(50, 390) + "1"


def megabyte(draw: random.Random) -> str:
    return draw.choice((r"\frac{1}{2}+", "x+", r"\alpha ", "1,", "a_1")) * draw.randint(
        80_000, 200_000
    )


def redos(draw: random.Random) -> str:
    parts = (r"\text{" + "a" * 1900, "1 " * 900, r"\boxed{" * 200, "," * 1900, "and " * 450,
             " " * 1990, r"\text{ and}" * 170, "1,000" * 380, r"\!" * 900, "-" * 1990,
             r"\left" * 380, "9.9" * 600, "a" * 1990 + "!", r"\begin{pmatrix}" * 130, "$" * 1990,
             "1/2" * 600, r"\frac{" * 300, "=1" * 990, "x^" * 990, "5 cm " * 390, "(1)" * 600,
             r"\sqrt[" * 300, "e1" * 990, "1e1" * 600, "|" * 1990, "_1" * 990,
             "**" * 990)  # fmt: skip
    return draw.choice(parts) + draw.choice("01234568")  # 7 is a gold, and some parts are layout


def long_integer(draw: random.Random) -> str:
    return str(draw.randint(1, 9)) * draw.choice((100, 1900, 10_000, 1_000_000))


def long_decimal(draw: random.Random) -> str:
    return "2." + str(draw.randint(1, 9)) * draw.choice((100, 1900, 10_000))


def exponent_number(draw: random.Random) -> str:
    return f"{draw.randint(1, 9)}e{draw.choice((1999, 99999, 999999999))}"


def large_set(draw: random.Random) -> str:
    size = draw.choice((150, 400, 100_000))
    return r"\{" + ",".join(str(draw.randint(8, 99)) for _ in range(size)) + r"\}"


def set_of_expressions(draw: random.Random) -> str:
    return ",".join(rf"\sqrt{{x+{draw.randint(8, 99)}}}" for _ in range(draw.randint(20, 120)))


def set_of_fractions(draw: random.Random) -> str:
    return "+".join(
        rf"\frac{{1}}{{{draw.randint(2, 99)}^{{{draw.randint(900, 9999)}}}}}" for _ in range(60)
    )


def nul_and_controls(draw: random.Random) -> str:
    return "".join(
        draw.choice(("\0", "\x07", "\x1b[31m", "\ud800", "\u202e", "8", "\x85")) for _ in range(200)
    )


def confusables(draw: random.Random) -> str:
    return draw.choice(
        ("７７", "𝟕𝟖", "٧٨", "Ⅶ8", "⑦1", "七八", "౭౭", "7̸8", "7\u200b8", "𝑥²+1+1", "Раris")
    )


def python_payload(draw: random.Random) -> str:
    payloads = (
        "__import__('os').system('touch hostile')", "eval('7')", "exec(open('/etc/passwd').read())",
        "().__class__.__bases__[0].__subclasses__()", "lambda: 7", "[x for x in range(10**9)]",
        "open('hostile','w')", "os.kill(os.getppid(), 9)", "sympy.factorial(10**9)", "$(reboot)",
        "`touch hostile`", "'; import os; os._exit(1)", "Symbol('x').__class__", "x.subs(x, 7)",
        r"\input{/etc/passwd}", r"\write18{reboot}", r"\def\a{\a\a}\a", "7 if True else 8",
        "{{7*7}}",
    )  # fmt: skip
    return draw.choice(payloads)


def integrals(draw: random.Random) -> str:
    row = " & ".join(f"x_{{{n}}}" for n in range(40))
    choices = (rf"\int_0^{{{draw.randint(2, 99)}}} x^{{x^x}} \sin(e^x) dx",
               rf"\sum_{{k=1}}^{{{10 ** draw.randint(6, 30)}}} \frac{{1}}{{k^k}}",
               rf"\prod_{{k=1}}^{{{10 ** draw.randint(6, 30)}}} (k!)!",
               r"\lim_{x \to \infty} x^{x^{x}}", r"\int \int \int e^{x^2+y^2+z^2} dx dy dz",
               rf"\det\begin{{pmatrix}} {row} \end{{pmatrix}}^{{99}}",
               rf"\begin{{pmatrix}} 1 & 2 \\ 3 & x \end{{pmatrix}}^{{{10 ** draw.randint(3, 9)}}}",
               rf"\gcd({10 ** 300}, {draw.randint(2, 99)}^{{999}})")  # fmt: skip
    return draw.choice(choices)


def equations(draw: random.Random) -> str:
    small, large = draw.randint(2, 9), draw.randint(20, 60)
    choices = (
        rf"x^{{{large}}} + x^7 + x + 1 = 0", r"\sin(x) + x^5 = e^{x}", "a=b=c=d=e=7x", "x^y = y^x",
        rf"\sqrt{{x}} + \sqrt{{x+1}} + \sqrt{{x+{small}}} < \sqrt{{x+9}}",
        rf"x^{{{small}}} - y^7 + z^3 x < {large} x y z",
    )  # fmt: skip
    return draw.choice(choices)


MAKERS: dict[str, Callable[[random.Random], str]] = {
    make.__name__: make
    for make in (
        power_tower, postfix_tower, bracket_tower, python_tower, unicode_tower, hidden_tower,
        factorial, nested_factorial, big_binomial, nested_logs, nested_roots, sum_of_roots,
        nested_trigonometry, expansion, product_expansion, braces, brackets, open_braces, fractions,
        bare_fractions, megabyte, redos, long_integer, long_decimal, exponent_number, large_set,
        set_of_expressions, set_of_fractions, nul_and_controls, confusables, python_payload,
        integrals, equations,
    )
}  # fmt: skip
