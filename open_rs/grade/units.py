"""The words behind a number: units, factors such as "million", words that change its meaning."""

import re
from fractions import Fraction

_GROUPS = (
    "m meter metre meters metres", "in inch inches", "ft foot feet", "yd yard yards",
    "mi mile miles", "g gram grams", "lb lbs pound pounds", "oz ounce ounces",
    "s sec secs second seconds", "min mins minute minutes", "h hr hrs hour hours", "day days",
    "week weeks", "month months", "year years yr yrs", "degree degrees deg", "radian radians rad",
    "dollar dollars usd", "cent cents", "euro euros", "l liter litre liters litres", "percent",
)  # fmt: skip
_SI = {
    "N": "newton", "J": "joule", "W": "watt", "Pa": "pascal", "Hz": "hertz", "V": "volt",
    "A": "ampere", "C": "coulomb", "K": "kelvin", "mol": "mole", "eV": "electronvolt",
    "F": "farad", "T": "tesla", "m": "meter", "g": "gram", "s": "second", "l": "liter",
}  # fmt: skip
_PREFIXES = {
    "": "", "k": "kilo", "M": "mega", "G": "giga", "c": "centi", "m": "milli", "n": "nano",
    "μ": "micro",
}  # fmt: skip
_SYMBOLS = {prefix + unit: prefix + unit for prefix in _PREFIXES for unit in _SI}
_NAMES = {name: group.split()[0] for group in _GROUPS for name in group.split()} | {
    long + spelled + plural: prefix + unit
    for prefix, long in _PREFIXES.items()
    for unit, name in _SI.items()
    for spelled in {name, name.replace("meter", "metre").replace("liter", "litre")}
    for plural in ("", "s")
}
_NAMES |= {symbol: symbol for symbol in ("cm", "mm", "km", "kg", "mg", "ml")}
_NAMES |= {"mph": "mi per h", "units": "unit"}
_UNITS = {*_SYMBOLS, *_NAMES.values(), "mi", "per"} - {"unit"}
_FACTORS = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9,
            "trillion": 10**12, "dozen": 12}  # fmt: skip
_BINDING = frozenset(
    ("or", "more", "less", "not", "no", "is", "are", "if", "am", "pm", "at", "least", "most",
     "than", "only", "except", "and", "but", "minus", "plus")
)  # fmt: skip
_IGNORED = frozenset(("of", "the", "a", "an", "unit"))


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
    for word in words.replace(".", "").replace("/", " per ").split():
        if word.lower() in ("square", "sq", "squared", "cubic", "cu", "cubed"):
            mark = "^3" if word.lower().startswith("cu") else "^2"
            if word.lower().endswith("ed") and found:
                found[-1] += mark
            else:
                power = mark
            continue
        base, _, exponent = word.partition("^")
        name = _NAMES.get(base) or _SYMBOLS.get(base) or _NAMES.get(base.lower(), base.lower())
        if name in _IGNORED and not power:
            continue
        found.append(name + (f"^{exponent.strip('{}')}" if exponent else power))
        power = ""
    return " ".join(found)


def known(name: str) -> bool:
    """Whether a `unit_name` is made of units known here alone."""
    words = re.sub(r"\^\d+", "", name).split()
    return bool(words) and all(word in _UNITS for word in words)


def is_unit_text(words: str) -> bool:
    """Whether letters behind a number are words rather than a product of symbols."""
    name = unit_name(words)
    if known(name) or set(name.split()) & _BINDING or factor(words)[0] != 1:
        return True
    parts = words.split()
    return any(len(part) >= 4 or (len(parts) > 1 and len(part) >= 3) for part in parts)


def units_agree(gold: str, answer: str) -> bool:
    """Whether two unit names, "" for none, can stand behind one quantity. One may be left out where
    it does not change what the number says ("or more", "PM"); unknown words may say more or less.
    """
    if gold == answer:
        return True
    sides = [{word.rstrip("s") for word in name.split()} for name in (gold, answer)]
    binding = [set(name.split()) & _BINDING for name in (gold, answer)]
    if binding[0] != binding[1]:
        return False
    if known(gold) and known(answer):
        return False
    return sides[0] <= sides[1] or sides[1] <= sides[0]
