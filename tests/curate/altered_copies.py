"""Ways to write a real problem otherwise: its spelling, and its words. Numbers stay."""

import random
import re

WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}(?![A-Za-z])")
FORMULA = re.compile(r"\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\$[^$]+\$|\[asy\].*?\[/asy\]", re.DOTALL)
_NUMBERS = (
    "zero two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty"
)
NUMBER_WORDS = _NUMBERS.split()
# Words of everyday English for random replacement, none of them a number
_FILLER = """
    apple river stone cloud garden window yellow quiet simple bright carry follow remain several
    another because through market winter silver paper travel orange little gentle finger number
    answer total amount given certain exactly whole always never maybe order group letter
"""
FILLER = _FILLER.split()
UNITS = (
    ("centimeters", "cm"), ("meters", "m"), ("kilometers", "km"), ("inches", "in"), ("feet", "ft"),
    ("miles", "mi"), ("hours", "hrs"), ("minutes", "min"), ("seconds", "sec"), ("pounds", "lbs"),
    ("kilograms", "kg"), ("grams", "g"), ("dollars", "USD"), ("degrees", "deg"),
)  # fmt: skip


def in_capitals(text: str, rng: random.Random) -> str:
    return text.upper()


def respaced(text: str, rng: random.Random) -> str:
    return (
        "  " + re.sub(r" +", lambda _: rng.choice([" ", "  ", "\n", "\t", "\u00a0"]), text) + "\n"
    )


def redelimited(text: str, rng: random.Random) -> str:
    """$...$ as \\(...\\) and \\[...\\] as $$...$$."""
    text = re.sub(r"\\\[(.+?)\\\]", r"$$\1$$", text, flags=re.DOTALL)
    return re.sub(r"(?<![\\$])\$([^$]+)\$(?!\$)", r"\\(\1\\)", text)


def other_fractions(text: str, rng: random.Random) -> str:
    return re.sub(
        r"\\[dt]?frac(?![a-z])", lambda _: rng.choice(["\\dfrac", "\\tfrac", "\\frac"]), text
    )


def other_latex(text: str, rng: random.Random) -> str:
    """Braces, spacing, synonyms and Unicode in place of commands."""
    text = re.sub(r"([\^_])(\d|[a-z])(?![\w{])", r"\1{\2}", text)
    for one, other in (
        ("\\leq", "\\le"), ("\\geq", "≥"), ("\\cdot", "·"), ("\\times", "×"), ("\\pi", "π"),
        ("^\\circ", "^{\\circ}"), ("\\ldots", "\\dots"), ("\\neq", "\\ne"), ("\\left(", "("),
        ("\\right)", ")"), ("\\,", " "), ("\\!", ""), ("\\%", "%"),
    ):  # fmt: skip
        text = re.sub(re.escape(one) + r"(?![a-z])", other.replace("\\", "\\\\"), text)
    return text


def other_quotes(text: str, rng: random.Random) -> str:
    return text.replace("'", "’").replace('"', "“").replace(" - ", " – ").rstrip(". ")


def other_units(text: str, rng: random.Random) -> str:
    for long, short in UNITS:
        text = re.sub(rf"(?<![\\A-Za-z]){long}\b", short, text)
    return text


def sentences_moved(text: str, rng: random.Random) -> str:
    """The sentences before the last one in another order."""
    parts = re.split(r"(?<=[.?!]) +(?=[A-Z$])", text)
    first, last = parts[:-1], parts[-1:]
    rng.shuffle(first)
    return " ".join(first + last)


def tenth_of_words_changed(text: str, rng: random.Random) -> str:
    return _words_changed(text, rng, 0.1)


def fifth_of_words_changed(text: str, rng: random.Random) -> str:
    return _words_changed(text, rng, 0.2)


def words_left_out(text: str, rng: random.Random) -> str:
    """A tenth of the words of prose left out."""
    return _words_changed(text, rng, 0.1, [""])


SPELLINGS = (
    in_capitals, respaced, redelimited, other_fractions, other_latex, other_quotes, other_units,
)  # fmt: skip
REWORDINGS = (sentences_moved, tenth_of_words_changed, fifth_of_words_changed, words_left_out)


def _words_changed(text: str, rng: random.Random, share: float, by: list[str] = FILLER) -> str:
    """`text` with this share of its words of prose, at least one, replaced by random ones."""
    spans = [
        span for span in _prose_words(text) if text[span[0] : span[1]].lower() not in NUMBER_WORDS
    ]
    chosen = rng.sample(spans, min(len(spans), max(1, round(share * len(spans)))))
    for start, end in sorted(chosen, reverse=True):
        text = text[:start] + rng.choice(by) + text[end:]
    return text


def _prose_words(text: str) -> list[tuple[int, int]]:
    formulas = [match.span() for match in FORMULA.finditer(text)]
    return [
        match.span()
        for match in WORD.finditer(text)
        if not any(start <= match.start() < end for start, end in formulas)
    ]
