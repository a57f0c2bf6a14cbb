"""Pairs whose gold is made too: what the golds of the benchmarks hold too seldom (money, units,
names before values, complex products, degrees, functions, numbers in words).

As in labelled_pairs.py, the label follows from the making: numbers are drawn, and the right answer
is computed here with integers and fractions.
"""

import random
from collections.abc import Iterator
from fractions import Fraction

from labelled_pairs import Made, Pair


def made_pairs(rounds: int, seed: int = 0) -> Iterator[Pair]:
    """`rounds` draws of each kind, without repeats."""
    draw = random.Random(seed)
    seen: set[tuple[str, str]] = set()
    for _ in range(rounds):
        for kind in KINDS:
            gold, made = kind(draw)
            for answer, right, rule in made:
                if (gold, answer) not in seen:
                    seen.add((gold, answer))
                    yield Pair(gold, answer, right, rule)


Kind = tuple[str, Made]


def _sum(real: int, imaginary: int) -> str:
    return f"{real} + {imaginary}i".replace("+ -", "- ")


def complex_product(draw: random.Random) -> Kind:
    a, b, c, d = (draw.choice([n for n in range(-9, 10) if n]) for _ in range(4))
    gold = _sum(a * c - b * d, a * d + b * c)

    def made() -> Made:
        yield f"({_sum(a, b)})({_sum(c, d)})", True, "complex product"
        yield rf"\frac{{({_sum(a, b)}) \cdot {c * c + d * d}}}{{{_sum(c, -d)}}}", True, "quotient"
        yield f"({_sum(a, b)})({_sum(c, -d)})", False, "conjugate factor"
        yield f"({_sum(a, b)})({_sum(c, d + 1)})", False, "another factor"
        yield f"({a} + {b}x)({c} + {d}x)".replace("+ -", "- "), False, "x for i"

    return gold, made()


def money(draw: random.Random) -> Kind:
    cents = draw.randint(1, 99_999)
    amount = f"{cents // 100}.{cents % 100:02}"

    def made() -> Made:
        yield amount, True, "no currency"
        yield f"{cents} cents", True, "cents"
        yield rf"{cents}\text{{ cents}}", True, "cents in text"
        yield rf"\text{{{amount} dollars}}", True, "dollars"
        yield f"${amount}", True, "bare dollar"
        yield rf"\${amount}\text{{ per hour}}", True, "a rate"
        yield f"€{amount}", False, "euro sign"
        yield rf"{amount}\text{{ euros}}", False, "euros"
        yield f"£{amount}", False, "pounds"
        yield f"{amount} cents", False, "cents for dollars"
        yield f"{cents}", False, "cents without a unit"
        yield rf"\${cents}", False, "a hundredfold"
        yield rf"{cents + 1}\text{{ cents}}", False, "a cent more"

    return rf"\${amount}", made()


UNITS = (  # name, spellings; then the same amount in another unit, as a multiple of the first
    ("m", ("meters", "metres", r"\mathrm{m}"), "cm", Fraction(100)),
    ("kg", ("kilograms", r"\mathrm{~kg}"), "g", Fraction(1000)),
    ("h", ("hours", "hr", "hrs"), "min", Fraction(60)),
    ("ft", ("feet", r"\mathrm{ft}"), "in", Fraction(12)),
    ("cm^2", ("square centimeters", "sq cm", r"\mathrm{cm}^2"), "mm^2", Fraction(100)),
    ("m^3", ("cubic meters", r"\mathrm{m}^{3}"), "L", Fraction(1000)),
    ("m/s", ("meters per second", r"\mathrm{m}/\mathrm{s}"), "km/h", Fraction(18, 5)),
    ("m/s^2", (r"\mathrm{m} \cdot \mathrm{s}^{-2}",), "cm/s^2", Fraction(100)),
)


def unit(draw: random.Random) -> Kind:
    number = draw.randint(2, 400)
    name, spellings, other, times = draw.choice(UNITS)
    converted = number * times
    wrong = draw.choice(["kg", "s", "dollars", "K"] if name != "kg" else ["m", "s", "dollars"])

    def made() -> Made:
        yield f"{number}", True, "no unit"
        for one in spellings:
            yield f"{number}{one if one[0] == chr(92) else ' ' + one}", True, "unit spelled"
        yield f"{number} {name}", True, "unit in letters"
        if converted.denominator == 1:
            yield rf"{converted}\text{{ {other}}}", True, "unit converted"
            yield rf"{converted + 1}\text{{ {other}}}", False, "converted and one more"
            if converted != number:
                yield f"{converted}", False, "converted, without the unit"
        if "/" in name:
            above, below = name.split("/")
            below = below.replace("s^2", r"s}^2") if "^" in below else below + "}"
            yield rf"{number}\,\frac{{\text{{{above}}}}}{{\text{{{below}}}", True, "unit fraction"
        yield rf"{number}\text{{ {other}}}", False, "the other unit"
        yield rf"{number}\text{{ {wrong}}}", False, "a wrong unit"
        yield f"{number + 1} {name}", False, "one more"

    return rf"{number}\text{{ {name}}}", made()


def lettered(draw: random.Random) -> Kind:
    number, letter = draw.randint(2, 99), draw.choice("mgsh")

    def made() -> Made:
        yield f"{number} {letter}", True, "unit letter behind a space"
        yield f"{number} ft^2", True, "square feet"
        yield rf"{number}^\circ\text{{C}}", True, "celsius"
        yield f"{number}°F", True, "fahrenheit"
        yield f"{number}{letter}", False, "a symbol"
        yield f"{number} x", False, "a symbol behind a space"
        yield f"{number} {letter} + 1", False, "a symbol in a sum"
        yield f"{number + 1} {letter}", False, "another number"

    return f"{number}", made()


def symbolic(draw: random.Random) -> Kind:
    number, letter = draw.randint(2, 99), draw.choice("mgsh")

    def made() -> Made:
        yield rf"{number}\text{{ {letter}}}", True, "the unit in text"
        yield rf"{letter} \cdot {number}", True, "a product"
        yield f"{number}", False, "without the letter"
        yield f"{number}k", False, "another letter"

    return f"{number}{letter}", made()


ANGLES = {
    "sin": {30: r"\frac{1}{2}", 45: r"\frac{\sqrt{2}}{2}", 60: r"\frac{\sqrt{3}}{2}"},
    "cos": {60: r"\frac{1}{2}", 45: r"\frac{\sqrt{2}}{2}", 120: r"-\frac{1}{2}"},
    "tan": {45: "1", 60: r"\sqrt{3}", 135: "-1"},
}


def trigonometry(draw: random.Random) -> Kind:
    name = draw.choice(list(ANGLES))
    degrees = draw.choice(list(ANGLES[name]))

    def made() -> Made:
        yield rf"\{name} {degrees}^\circ", True, "degrees"
        yield rf"\{name}({degrees}^{{\circ}})", True, "degrees in brackets"
        yield rf"\{name} \frac{{{degrees}\pi}}{{180}}", True, "radians"
        yield rf"\{name} {degrees}", False, "no degrees"
        yield rf"\{name} {degrees + 1}^\circ", False, "a degree more"

    return ANGLES[name][degrees], made()


def function(draw: random.Random) -> Kind:
    name, number = draw.choice("fgh"), draw.randint(2, 99)

    def made() -> Made:
        yield rf"{name}\left({number}\right)", True, "left right"
        yield f"{name}({number - 1} + 1)" if name == "f" else f"{name}( {number} )", True, "same"
        yield f"{number}{name}", False, "product"
        yield f"{name}({number + 1})", False, "at another number"
        yield f"k({number})", False, "another function"

    return f"{name}({number})", made()


def names(draw: random.Random) -> Kind:
    one, other = draw.sample(range(-50, 51), 2)

    def made() -> Made:
        yield f"x = {one}, y = {other}", True, "same"
        yield f"y = {other}, x = {one}", True, "names turned"
        yield rf"x = {one} \text{{ and }} y = {other}", True, "and"
        yield f"({one}, {other})", True, "as tuple"
        yield f"(x, y) = ({one}, {other})", True, "named tuple"
        yield f"(y, x) = ({other}, {one})", True, "named tuple turned"
        yield f"{one}, {other}", True, "in order"
        yield f"{other}, {one}", False, "out of order"
        yield f"({other}, {one})", False, "tuple turned"
        yield f"x = {other}, y = {one}", False, "values exchanged"
        yield f"(y, x) = ({one}, {other})", False, "named tuple exchanged"
        yield f"x = {one}", False, "one alone"

    gold = draw.choice([f"x={one}, y={other}", f"({one},{other})"])
    return gold, made()


def worded(draw: random.Random) -> Kind:
    ones = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    a, b, c = draw.randrange(9), draw.randrange(8), draw.randrange(9)
    number = 100 * (a + 1) + 10 * (b + 2) + c + 1

    def made() -> Made:
        yield f"{ones[a]} hundred {tens[b]}-{ones[c]}", True, "in words"
        yield rf"\text{{{ones[a]} hundred and {tens[b]} {ones[c]}}}", True, "in words with and"
        yield f"{ones[a]} hundred {tens[b]}", False, "without the units"
        yield f"{ones[a]} thousand {tens[b]}-{ones[c]}", False, "thousand"
        yield f"{tens[b]}-{ones[c]}", False, "without the hundreds"
        yield f"negative {ones[a]} hundred {tens[b]}-{ones[c]}", False, "negative"

    return str(number), made()


def rounded(draw: random.Random) -> Kind:
    above, below = draw.randint(1, 60), draw.choice([7, 11, 13, 17, 19, 23])
    above += above % below == 0
    exact, near = rf"\frac{{{above}}}{{{below}}}", f"{above / below:.3f}"

    def made() -> Made:
        yield rf"{exact} \approx {near}", True, "with its rounding"
        yield rf"x = {exact} \approx {near}", True, "named, with its rounding"
        yield rf"\approx {near}", False, "rounding alone"
        yield rf"{exact} \approx {above / below + 1:.3f}", False, "with what is no rounding"

    return exact, made()


KINDS = (complex_product, money, unit, lettered, symbolic, trigonometry, function, names, worded,
         rounded)  # fmt: skip
