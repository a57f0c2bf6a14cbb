"""The words behind a number: units, factors such as "million", words that change its meaning."""

import re
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

_GROUPS = (
    "m meter metre meters metres", "in inch inches", "ft foot feet", "yd yard yards",
    "mi mile miles", "g gram grams", "lb lbs pound pounds", "oz ounce ounces",
    "s sec secs second seconds", "min mins minute minutes", "h hr hrs hour hours", "day days",
    "week weeks", "month months", "year years yr yrs", "degree degrees deg", "radian radians rad",
    "dollar dollars usd", "cent cents", "euro euros eur", "penny pence", "yen", "rupee rupees",
    "l liter litre liters litres", "gallon gallons gal", "quart quarts", "pint pints",
    "celsius centigrade", "fahrenheit", "percent",
)  # fmt: skip
_SI = {
    "N": "newton", "J": "joule", "W": "watt", "Pa": "pascal", "Hz": "hertz", "V": "volt",
    "A": "ampere", "C": "coulomb", "K": "kelvin", "mol": "mole", "eV": "electronvolt",
    "F": "farad", "T": "tesla", "m": "meter", "g": "gram", "s": "second", "l": "liter",
}  # fmt: skip
_PREFIXES = {
    "": ("", Fraction(1)), "k": ("kilo", Fraction(1000)), "M": ("mega", Fraction(10**6)),
    "G": ("giga", Fraction(10**9)), "c": ("centi", Fraction(1, 100)),
    "m": ("milli", Fraction(1, 1000)), "n": ("nano", Fraction(1, 10**9)),
    "μ": ("micro", Fraction(1, 10**6)),
}  # fmt: skip
_SYMBOLS = {prefix + unit: prefix + unit for prefix in _PREFIXES for unit in _SI}
_NAMES = {name: group.split()[0] for group in _GROUPS for name in group.split()} | {
    long + spelled + plural: prefix + unit
    for prefix, (long, _) in _PREFIXES.items()
    for unit, name in _SI.items()
    for spelled in {name, name.replace("meter", "metre").replace("liter", "litre")}
    for plural in ("", "s")
}
_NAMES |= {symbol: symbol for symbol in ("cm", "mm", "km", "kg", "mg", "ml")}
_NAMES |= {"mph": "mi per h", "units": "unit"}

# Units as multiples of others; a unit that is not here, and no SI unit, is a dimension of its own.
_MULTIPLES = {
    "in": (Fraction(254, 10_000), "m"), "ft": (Fraction(3048, 10_000), "m"),
    "yd": (Fraction(9144, 10_000), "m"), "mi": (Fraction(1_609_344, 1000), "m"),
    "lb": (Fraction(45_359_237, 100_000), "g"), "oz": (Fraction(45_359_237, 1_600_000), "g"),
    "min": (Fraction(60), "s"), "h": (Fraction(3600), "s"), "day": (Fraction(86_400), "s"),
    "week": (Fraction(604_800), "s"), "year": (Fraction(12), "month"),
    "cent": (Fraction(1, 100), "dollar"), "l": (Fraction(1, 1000), "m^3"),
    "gallon": (Fraction(3_785_411_784, 10**12), "m^3"),
    "quart": (Fraction(3_785_411_784, 4 * 10**12), "m^3"),
    "pint": (Fraction(3_785_411_784, 8 * 10**12), "m^3"),
    "N": (Fraction(1000), "g m per s^2"), "J": (Fraction(1000), "g m^2 per s^2"),
    "W": (Fraction(1000), "g m^2 per s^3"), "Pa": (Fraction(1000), "g per m s^2"),
    "Hz": (Fraction(1), "per s"), "penny": (Fraction(1, 100), "lb"),  # "pound" is one word
}  # fmt: skip
_LENGTHS = frozenset(("mm", "cm", "km", "in", "ft", "yd", "mi"))
_MONEY = frozenset(("dollar", "cent", "euro", "yen", "rupee"))
_UNITS = {*_SYMBOLS, *_NAMES.values(), "mi", "per"} - {"unit"}
_FACTORS = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9,
            "trillion": 10**12, "dozen": 12}  # fmt: skip
_BINDING = frozenset(
    ("or", "more", "less", "not", "no", "is", "are", "if", "am", "pm", "at", "least", "most",
     "than", "only", "except", "and", "but", "minus", "plus", "also", "else", "otherwise", "unless",
     "without", "never", "nor", "maybe", "perhaps", "below", "squared", "cubed", "power", "choose",
     "factorial", "sqrt", "pi", "double", "doubled", "tripled", "twice", "halved", "half", "halves")
) | {
    part + plural
    for part in ("third", "quarter", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
                 "tenth", "hundredth", "thousandth", "millionth")
    for plural in ("", "s")
}  # fmt: skip
_IGNORED = frozenset(("of", "the", "a", "an", "unit"))
_POWER = re.compile(r"(.*\w)\^(-?\d)")
_OF_NO_WORD = re.compile(r"[^\W_a-zA-Zμ]|[+=<>!?*|^]|(?<![a-z])-|-(?![a-z])")
_PUNCTUATION = str.maketrans({"{": "", "}": "", "(": "", ")": "", ".": "", ",": " ", "/": " per "})


def factor(words: str) -> tuple[Fraction, str]:
    """(product of the leading number words, the words left): "million apples" is 10^6 apples."""
    product, left = Fraction(1), words.split()
    while left and left[0].lower().rstrip("s") in _FACTORS:
        product *= _FACTORS[left.pop(0).lower().rstrip("s")]
    return product, " ".join(left)


def unit_name(words: str) -> str:
    """Words in one spelling: "sq. cm" and "square centimeters" are "cm^2", "km/h" is "km per h"."""
    found: list[str] = []
    power = ""
    words = words.replace(r"^\circ", " degree ").translate(_PUNCTUATION)
    for word in words.split():
        if word.lower() in ("square", "sq", "squared", "cubic", "cu", "cubed"):
            mark = "^3" if word.lower().startswith("cu") else "^2"
            if word.lower().endswith("ed"):
                found[-1:] = [found[-1] + mark] if found else [word.lower()]
            else:
                power = mark
            continue
        base, _, exponent = word.partition("^")
        name = _NAMES.get(base) or _SYMBOLS.get(base) or _NAMES.get(base.lower(), base.lower())
        if found and found[-1] == "degree" and name in ("C", "F", "celsius", "fahrenheit"):
            found[-1] = {"C": "celsius", "F": "fahrenheit"}.get(name, name)
            continue
        if name in _IGNORED and not power and not exponent:
            continue
        found.append(name + (f"^{exponent}" if exponent else power))
        power = ""
    return " ".join(found)


def known(name: str) -> bool:
    """Whether a `unit_name` is made of units known here alone."""
    words = name.split()
    return bool(words) and all(_base_and_power(word)[0] in _UNITS for word in words)


def _base_and_power(word: str) -> tuple[str, int]:
    match = _POWER.fullmatch(word)
    return (match[1], int(match[2])) if match else (word, 1)


def is_unit_text(words: str, *, apart: bool) -> bool:
    """Whether letters behind a number are words rather than a product of symbols; `apart`: a space
    stands before them (4abcd is a product).
    """
    name = unit_name(words)
    if known(name) or set(name.split()) & _BINDING or factor(words)[0] != 1:
        return True
    if not apart:
        return False
    parts = words.split()
    return any(len(part) >= 4 or (len(parts) > 1 and len(part) >= 3) for part in parts)


def is_unit_power(words: str, *, apart: bool) -> bool:
    """Whether letters with a power, such as cm^2 or kg m/s^2, are a unit: 3ms^2 written together
    is a product.
    """
    return known(unit_name(words)) and (apart or words.partition("^")[0] in _LENGTHS)


@lru_cache(maxsize=2_000)
def quantity(name: str) -> tuple[Fraction, tuple[tuple[str, int], ...]] | None:
    """(factor, exponents of the dimensions) of a known unit: "km per h" is 5/18 m^1 s^-1."""
    if not known(name):
        return None
    times, dimensions, sign = Fraction(1), Counter[str](), 1
    for word in name.split():
        if word == "per":
            sign = -1
            continue
        base, power = _base_and_power(word)
        one, parts = _in_dimensions(base)
        times *= one ** (sign * power)
        for dimension, inside in parts:
            dimensions[dimension] += inside * sign * power
    return times, tuple(sorted(item for item in dimensions.items() if item[1]))


def _in_dimensions(unit: str) -> tuple[Fraction, tuple[tuple[str, int], ...]]:
    if unit in _MULTIPLES:
        times, of = _MULTIPLES[unit]
        inner = quantity(of)
        assert inner is not None, f"{of} is built from units known here"
        return times * inner[0], inner[1]
    prefix, base = unit[:1], unit[1:]
    if unit not in _SI and unit in _SYMBOLS and base in _SI:
        times, parts = _in_dimensions(base)
        return times * _PREFIXES[prefix][1], parts
    return Fraction(1), ((unit, 1),)


def ratio(gold: str, answer: str) -> Fraction | None:
    """What turns an amount in the unit `answer` into one in the unit `gold` ("" is none); None
    where both cannot stand behind one quantity.

    Units of one dimension convert. One may be left out where it does not change what the number
    says ("or more", "PM"); unknown words may say more or less.
    """
    if gold == answer:
        return Fraction(1)
    if _changes(gold) != _changes(answer):
        return None
    sizes = quantity(gold), quantity(answer)
    if sizes[0] is not None and sizes[1] is not None:
        if sizes[0][1] == sizes[1][1]:
            return sizes[1][0] / sizes[0][0]
        return Fraction(1) if _says_more(gold, answer) or _says_more(answer, gold) else None
    sides = [{word.rstrip("s") for word in name.split()} for name in (gold, answer)]
    return Fraction(1) if sides[0] <= sides[1] or sides[1] <= sides[0] else None


def _changes(name: str) -> set[str]:
    """The words that change what the number before them says; signs and digits, and single letters
    that are no unit, are such.
    """
    if name.startswith("mod "):
        return set()
    return {
        word
        for word in name.split()
        if word in _BINDING
        or _OF_NO_WORD.search(_base_and_power(word)[0])
        or (len(word) == 1 and word not in _UNITS)
    }


def product(units: Iterable[tuple[str, int]]) -> str:
    """The unit of a product of powers of units: "m per s" and "s" make "m"."""
    factors = [one for one in units if one[0]]
    if len(factors) == 1 and factors[0][1] == 1:
        return factors[0][0]
    exponents = Counter[str]()
    for name, power in factors:
        sign = power
        for word in name.split():
            base, inside = _base_and_power(word)
            if word == "per":
                sign = -power
            else:
                exponents[base] += sign * inside
    above, below = (
        [base if count == 1 else f"{base}^{count}" for base, count in side if count > 0]
        for side in (
            exponents.items(),
            [(base, -count) for base, count in exponents.items()],
        )
    )
    return " ".join([*above, *(["per", *below] if below else [])])


def _says_more(less: str, more: str) -> bool:
    """$5 and $5 per hour; 20 degrees and 20 degrees Celsius."""
    if less == "degree":
        return more in ("celsius", "fahrenheit")
    return less in _MONEY and more.startswith(f"{less} per ")
