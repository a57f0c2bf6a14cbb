"""Pairs of (gold, answer, whether it is right), built from golds by rewriting their text.

The label follows from the rewriting, never from a grader: n + 1 is not n, whatever n is. What a
gold is (an integer, a fraction, a list ...) is told by regular expressions that know nothing of the
package's own reader; a gold that fits none of them gives only layout variants.
"""

import random
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple


class Pair(NamedTuple):
    gold: str
    answer: str
    right: bool
    rule: str


INTEGER = re.compile(r"-?(?:0|[1-9]\d*)")
DECIMAL = re.compile(r"(-?\d+)\.(\d+)")
FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}|(-?)(\d+)/(\d+)")
TUPLE = re.compile(r"\(([^()\[\]{}]+(?:,[^()\[\]{}]+)+)\)")
LIST = re.compile(r"(?!.*(?:\\[!,]|\d,\d{3}))[^()\[\]{}=<>]+(?:,[^()\[\]{}=<>]+)+")
WORDS = re.compile(r"\\text\{([A-Za-z][A-Za-z ]{2,})\}")
DEGREES = re.compile(r"(-?\d+(?:\.\d+)?)\^\{?\\circ\}?")
PERCENT = re.compile(r"(\d+(?:\.\d+)?)\\%")
DOLLARS = re.compile(r"\\\$\s*(\d[\d,]*(?:\.\d+)?)")
UNIT = re.compile(r"(.+?)\s*\\text\{\s*(cm|m|feet|miles|inches|dollars|minutes|hours)\s*\}")
BASE = re.compile(r"(\d+)_\{?(\d+)\}?")
MATRIX = re.compile(r"\\begin\{pmatrix\}.*\\end\{pmatrix\}", re.DOTALL)
ASSIGNED = re.compile(r"([a-z])\s*=\s*([^=,]+)")
INTERVAL = re.compile(r"(\\left)?([(\[])([^()\[\]]+),([^()\[\]]+?)(\\right)?([)\]])")
COMPLEX = re.compile(r"(-?\d+)\s*([+-])\s*(\d*)i")
_NO_EXPRESSION = (r"text|begin|circ|pm|cup|infty|approx|%|mbox|math|[.](?!\d)|\\ldots|\\le|\\ge"
                  r"|\\in\b|:")  # fmt: skip
EXPRESSION = re.compile(rf"(?!.*(?:{_NO_EXPRESSION}))(?=.*[a-zA-Z\\])[^=<>,;_$!|]+")


def pairs(golds: list[str], seed: int = 0) -> Iterator[Pair]:
    """All pairs of the golds, without repeats."""
    draw = random.Random(seed)
    seen: set[tuple[str, str]] = set()
    for gold in golds:
        for pair in (*layout(gold), *variants(gold.strip().strip("$").strip(), draw)):
            pair = pair._replace(gold=gold)
            if (pair.gold, pair.answer) not in seen:
                seen.add((pair.gold, pair.answer))
                yield pair


def layout(gold: str) -> Iterator[Pair]:
    """What never changes the meaning."""
    bare = gold.strip().strip("$").strip()
    yield Pair(gold, gold, True, "same")
    yield Pair(gold, f" {bare}. ", True, "full stop")
    if "$" not in bare:
        yield Pair(gold, f"${bare}$", True, "dollars around")
        yield Pair(gold, rf"\[ {bare} \]", True, "display")
    yield Pair(gold, re.sub(r"\\frac(?![a-z])", r"\\dfrac", gold), True, "dfrac")
    yield Pair(gold, re.sub(r"\\left(?![a-z])|\\right(?![a-z])", "", gold), True, "no left right")
    yield (
        Pair(gold, re.sub(r",\s*", r",\\, ", gold), True, "thin space")
        if not re.search(r"\d,\s?\d{3}|\\!|\{,", gold)
        else Pair(gold, gold, True, "same")
    )


def variants(gold: str, draw: random.Random) -> Iterator[Pair]:
    """What can be said of this kind of gold."""
    for pattern, rule in RULES:
        if match := pattern.fullmatch(gold):
            for answer, right, name in rule(match, draw):
                yield Pair(gold, answer, right, name)
            return


Made = Iterator[tuple[str, bool, str]]


def integer(match: re.Match[str], draw: random.Random) -> Made:
    n = int(match.group())
    yield f"{n}.0", True, "n.0"
    yield f"{n} ", True, "space"
    yield rf"\frac{{{3 * n}}}{{3}}", True, "unreduced fraction"
    yield f"x = {n}", True, "assigned"
    yield rf"{n - 7} + 7", True, "sum"
    yield rf"\text{{{n}}}", True, "in text"
    yield rf"{n}\text{{ apples}}", True, "with a unit"
    yield rf"\mathbf{{{n}}}", True, "bold"
    if abs(n) >= 1000:
        yield f"{n:,}", True, "thousands"
        yield f"{n:,}".replace(",", "{,}"), True, "thousands in braces"
        yield f"{n:,}".replace(",", r",\!"), True, "thousands with thin space"
    if n >= 0:
        yield rf"\${n}", True, "money"
        yield rf"\sqrt{{{n * n}}}", True, "root of square"
    for other, name in ((n + 1, "n+1"), (n - 1, "n-1"), (-n, "-n"), (10 * n, "10n")):
        if other != n:
            yield str(other), False, name
    yield f"{n}.5", False, "n.5"
    yield rf"\frac{{{2 * n + 1}}}{{2}}", False, "n+1/2"
    yield rf"{n} + 1", False, "sum n+1"
    yield f"{n}, {n + 2}", False, "hedged"
    if n:
        yield f"{n}x", False, "times x"
    yield rf"\sqrt{{{n * n + 1}}}", False, "root of n^2+1"
    yield f"({n}, {n})", False, "pair"
    if n > 0:
        yield rf"-{n}i^2", True, "i squared"
        yield rf"(1+i)({n}-{n}i) - {n}", True, "times conjugate"
        yield rf"{n}i^2", False, "minus by i squared"
        yield rf"{n}i", False, "times i"
    yield rf"{n - 1}.\overline{{9}}" if n > 0 else f"{n}", True, "nines"
    yield rf"{n}.\overline{{3}}", False, "repeating thirds"
    yield f"{n} or more", False, "or more"
    yield rf"{n}\text{{ is not the answer}}", False, "denied"
    if n:
        yield f"{n} million", False, "million"
        yield rf"{n}\text{{ dozen}}", False, "dozen"
        if n % 10**6 == 0:
            yield f"{n // 10**6} million", True, "in millions"
    yield "none", False, "word"
    digits = list(str(abs(n)))
    draw.shuffle(digits)
    if int("".join(digits)) != abs(n):
        yield "".join(digits), False, "digits shuffled"


def decimal(match: re.Match[str], draw: random.Random) -> Made:
    value = Fraction(match.group())
    yield match.group() + "0", True, "trailing zero"
    yield rf"\frac{{{value.numerator}}}{{{value.denominator}}}", True, "as fraction"
    yield f"x={match.group()}", True, "assigned"
    yield rf"{match.group()} \text{{ m}}", True, "with a unit"
    if match.group().startswith("0."):
        yield match.group()[1:], True, "no leading zero"
    yield match.group() + "1", False, "one more digit"
    yield f"{match.group(1)}.{match.group(2)}5", False, "one more digit"
    if value:
        yield f"-{match.group()}".replace("--", ""), False, "sign"
        yield str(float(value * 10)), False, "times ten"


def fraction(match: re.Match[str], draw: random.Random) -> Made:
    sign = match.group(1) or match.group(4) or ""
    top, bottom = (int(match.group(at) or match.group(at + 3)) for at in (2, 3))
    value = Fraction(top, bottom)
    yield f"{sign}{top}/{bottom}", True, "slash"
    yield rf"{sign}\tfrac{{{top}}}{{{bottom}}}", True, "tfrac"
    yield rf"\frac{{{sign}{top}}}{{{bottom}}}", True, "sign above"
    yield rf"{sign}\frac{{{5 * top}}}{{{5 * bottom}}}", True, "unreduced"
    yield rf"x = {sign}\frac{{{top}}}{{{bottom}}}", True, "assigned"
    yield rf"{sign}{top} \div {bottom}", True, "division sign"
    if top < 10 and bottom < 10:
        yield rf"{sign}\frac{top}{bottom}", True, "no braces"
    if top > bottom and value.denominator > 1 and not sign:
        whole, rest = divmod(value.numerator, value.denominator)
        yield rf"{whole}\frac{{{rest}}}{{{value.denominator}}}", True, "mixed"
    if re.fullmatch(r"1|[25]+", "".join(map(str, _primes(value.denominator))) or "1"):
        yield f"{sign}{_decimal(value)}", True, "as decimal"
    else:
        before, digits = _repeating(value)
        if len(digits) < 30:
            yield rf"{sign}{before}\overline{{{digits}}}", True, "repeating"
            yield rf"{sign}{before}{digits[0]}\bar{{{digits[1:] + digits[0]}}}", True, "bar later"
            yield rf"{sign}{before}{digits}", False, "repeated once"
            other = (int(digits[0]) + 1) % 10
            yield rf"{sign}{before}{other}\overline{{{digits}}}", False, "digit before repeating"
        yield f"{sign}{float(value):.3f}", False, "rounded"
        yield f"{sign}{float(value):.6f}", False, "rounded to six"
    yield rf"{sign}\frac{{{top + 1}}}{{{bottom}}}", False, "top + 1"
    yield rf"{sign}\frac{{{top}}}{{{bottom + 1}}}" if top else "1", False, "bottom + 1"
    if top and value != 1:
        yield rf"{sign}\frac{{{bottom}}}{{{top}}}", False, "inverse"
    if top:
        yield rf"{'' if sign else '-'}\frac{{{top}}}{{{bottom}}}", False, "sign"
        yield f"{sign}{top}{bottom}", False, "joined"


def _repeating(value: Fraction) -> tuple[str, str]:
    """A decimal up to where it repeats, and what repeats: 1/6 is ("0.1", "6"). By long division."""
    whole, rest = divmod(value.numerator, value.denominator)
    seen: dict[int, int] = {}
    digits = ""
    while rest not in seen:
        seen[rest] = len(digits)
        digit, rest = divmod(10 * rest, value.denominator)
        digits += str(digit)
    return f"{whole}.{digits[: seen[rest]]}", digits[seen[rest] :]


def _primes(number: int) -> list[int]:
    found, prime = [], 2
    while number > 1:
        while number % prime == 0:
            found.append(prime)
            number //= prime
        prime += 1
    return found


def _decimal(value: Fraction) -> str:
    digits = 0
    while (value * 10**digits).denominator > 1:
        digits += 1
    text = str(int(value * 10**digits)).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}" if digits else text


def tuple_(match: re.Match[str], draw: random.Random) -> Made:
    members = [one.strip() for one in match.group(1).split(",")]
    yield f"({','.join(members)})", True, "no spaces"
    yield rf"\left( {' , '.join(members)} \right)", True, "left right"
    yield rf"\bigl({', '.join(members)}\bigr)", True, "bigl bigr"
    turned = members[::-1]
    if turned != members and len(set(members)) == len(members):
        yield f"({', '.join(turned)})", False, "turned"
        yield rf"\{{{', '.join(members)}\}}", False, "as set"
    yield f"({', '.join([*members, '1'])})", False, "one more"
    yield f"({', '.join([*members[:-1], members[-1] + ' + 1'])})", False, "last + 1"
    yield f"({', '.join(members)}]", False, "half closed"
    yield f"[{', '.join(members)}]", False, "closed"
    yield members[0], False, "first alone"


def list_(match: re.Match[str], draw: random.Random) -> Made:
    members = [one.strip() for one in match.group().split(",")]
    if len(set(members)) < len(members) or any(re.fullmatch(r"\d{3}", one) for one in members[1:]):
        return
    yield ", ".join(members[::-1]), True, "turned"
    yield rf"\{{{', '.join(members)}\}}", True, "as set"
    yield ", ".join(members[:-1]) + " and " + members[-1], True, "and"
    yield ", ".join(members[:-1]) + r" \text{ or } " + members[-1], True, "or"
    yield ", ".join(members[:-1]) if len(members) > 2 else members[0], False, "one less"
    yield ", ".join([*members, "98765"]), False, "one more"
    yield ", ".join([*members[:-1], members[-1] + " + 98765"]), False, "last changed"


def words(match: re.Match[str], draw: random.Random) -> Made:
    text = match.group(1).strip()
    yield text, True, "bare"
    yield text.upper(), True, "upper case"
    yield rf"\textbf{{{text.lower()}}}", True, "bold"
    yield rf"\mathrm{{{text}}}", True, "mathrm"
    yield f"not {text}", False, "not"
    yield text + " Smith", False, "another word"
    yield "7", False, "a number"


def degrees(match: re.Match[str], draw: random.Random) -> Made:
    yield match.group(1), True, "no sign"
    yield rf"{match.group(1)}^{{\circ}}", True, "braces"
    yield f"{match.group(1)}°", True, "unicode"
    yield rf"{match.group(1)} \text{{ degrees}}", True, "words"
    yield rf"{match.group(1)}1^\circ", False, "digit"
    yield rf"{match.group(1)}\pi", False, "pi"


def percent(match: re.Match[str], draw: random.Random) -> Made:
    yield match.group(1), True, "no sign"
    yield match.group(1) + "%", True, "bare sign"
    yield rf"{match.group(1)} \text{{ percent}}", True, "words"
    yield rf"1{match.group(1)}\%", False, "digit"


def dollars(match: re.Match[str], draw: random.Random) -> Made:
    number = match.group(1)
    yield number, True, "no sign"
    yield number.replace(",", ""), True, "no commas"
    yield rf"{number} \text{{ dollars}}", True, "words"
    yield "$" + number, True, "bare sign"
    yield rf"\$1{number.replace(',', '')}", False, "digit"


def unit(match: re.Match[str], draw: random.Random) -> Made:
    number, name = match.groups()
    yield number, True, "no unit"
    yield rf"{number} \mathrm{{{name}}}", True, "mathrm"
    yield rf"{number}\ \text{{{name}}}", True, "space"
    yield rf"{number} \text{{ kg}}", False, "another unit"
    yield rf"{number} + 1 \text{{ {name}}}", False, "plus one"


def base(match: re.Match[str], draw: random.Random) -> Made:
    digits, below = match.groups()
    yield rf"{digits}_{{{below}}}", True, "braces"
    if len(below) == 1:
        yield rf"{digits}_{below}", True, "no braces"
    yield rf"{digits}1_{{{below}}}", False, "digit"
    yield rf"{digits}_{{1{below}}}", False, "another base"


def matrix(match: re.Match[str], draw: random.Random) -> Made:
    text = match.group()
    yield text.replace("pmatrix", "bmatrix"), True, "bmatrix"
    yield re.sub(r"\s*\\\\\s*", r" \\\\ ", text), True, "spaces"
    yield text.replace(r"\end", r"+1 \end"), False, "last + 1"
    yield text.replace(r"\end", r"\\ 0 \end"), False, "one more row"


def assigned(match: re.Match[str], draw: random.Random) -> Made:
    name, value = match.groups()
    yield f"{name}={value.strip()}", True, "no spaces"
    yield value.strip(), True, "value alone"
    yield f"{name} = {value.strip()} + 1", False, "plus one"
    yield rf"{value.strip()} + 1", False, "value plus one"


def interval(match: re.Match[str], draw: random.Random) -> Made:
    _, opening, low, high, _, closing = match.groups()
    low, high = low.strip(), high.strip()
    yield rf"\left{opening}{low},{high}\right{closing}", True, "left right"
    yield rf"{opening} {low} , {high} {closing}", True, "spaces"
    yield rf"x \in {opening}{low}, {high}{closing}", True, "x in"
    other = "[" if opening == "(" else "("
    yield f"{other}{low}, {high}{closing}", False, "another bracket"
    yield rf"{low} < x < {high}", False, "inequality"
    yield rf"\{{{low}, {high}\}}", False, "as set"
    if "infty" not in low:
        yield f"{opening}{low} - 1, {high}{closing}", False, "low end"
    if "infty" not in high:
        yield f"{opening}{low}, {high} + 1{closing}", False, "high end"


def complex_(match: re.Match[str], draw: random.Random) -> Made:
    real, sign, imaginary = match.groups()
    a, b = int(real), int(sign + (imaginary or "1"))
    yield f"{b}i + {a}", True, "turned"
    yield f"({b} - {a}i)i".replace("--", "+"), True, "times i"
    yield f"i^2({-a} + {-b}i)".replace("+ -", "- "), True, "times i squared"
    yield rf"\frac{{({a} + {b}i)(2 - 3i)}}{{2 - 3i}}".replace("+ -", "- "), True, "over itself"
    yield rf"{a} + {b}\sqrt{{-1}}".replace("+ -", "- "), True, "root of -1"
    yield f"{a} - {b}i".replace("- -", "+ "), False, "conjugate"
    yield f"({a} + {b}i)i".replace("+ -", "- "), False, "turned by i"
    yield f"{a} + {b}", False, "without i"
    yield f"{a} + {b}x", False, "another letter"
    if a != b:
        yield f"{b} + {a}i".replace("+ -", "- "), False, "exchanged"


def expression(match: re.Match[str], draw: random.Random) -> Made:
    text = match.group().strip()
    if text.count("(") != text.count(")") or text.count("{") != text.count("}"):
        return
    if re.fullmatch(r"[A-Za-z]+", text):
        return
    yield rf"\left({text}\right)", True, "brackets"
    yield rf"\frac{{2({text})}}{{2}}", True, "2 over 2"
    yield rf"1 + {text} - 1", True, "plus one minus one"
    yield rf"3 \cdot ({text}) - ({text}) - ({text})", True, "3 - 1 - 1"
    yield rf"\left({text}\right) \times \sqrt{{4}} / 2", True, "root of four"
    yield rf"z = {text}", True, "assigned"
    yield rf"{text} + 1", False, "plus one"
    yield rf"-({text}) + 98765", False, "negated"
    yield rf"2({text}) + 98765", False, "twice"
    yield rf"\frac{{{text}}}{{98765}} + 1", False, "divided"
    yield rf"{text} + y^7", False, "plus a power"
    yield rf"\sqrt{{{text}}} + 98765", False, "root"
    yield rf"\{{{text}, 98765\}}", False, "in a set"


RULES = (
    (INTEGER, integer), (DECIMAL, decimal), (FRACTION, fraction), (BASE, base), (DEGREES, degrees),
    (PERCENT, percent), (DOLLARS, dollars), (WORDS, words), (UNIT, unit), (MATRIX, matrix),
    (COMPLEX, complex_), (INTERVAL, interval), (TUPLE, tuple_), (LIST, list_), (ASSIGNED, assigned),
    (EXPRESSION, expression),
)  # fmt: skip
