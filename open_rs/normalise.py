"""When two texts are the same problem, and two golds the same answer, but for their spelling."""

import re
import unicodedata

# Spellings that NFKC keeps apart, and superscripts, which it would make plain digits (2² is not 22)
CHARACTERS = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "−": "-", "–": "-", "—": "-", "‐": "-"}
    | {character: f"^{digit}" for digit, character in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
)
FRACTIONS = re.compile(r"\\[dtc]frac(?![a-z])")
# What only sets size and space; none of it may be the second half of a line break `\\`
INVISIBLE = re.compile(
    r"(?<!\\)\\(?:(?:left|right|displaystyle|textstyle|quad|qquad)(?![a-z])|[,;:! ])"
)
DELIMITERS = re.compile(r"\\?\$|(?<!\\)\\[()\[\]]")
AROUND_SIGNS = re.compile(r" ?([^\w\s]) ?")
NUMBER = re.compile(r"([+-]?)(\d+|\d{1,3}(?:,\d{3})+)(?:\.(\d+))?")


def normalised(text: str) -> str:
    r"""`text` without what does not change a problem: case, white space, quotes, maths delimiters
    and LaTeX spacing, `\dfrac` for `\frac`, a final full stop.

    Signs and digits stay: `7 + 5` and `7 - 5` are different problems. White space between two
    words or numbers stays as one space. A text of nothing else is returned as it is.
    """
    plain = unicodedata.normalize("NFKC", text.translate(CHARACTERS)).casefold()
    plain = FRACTIONS.sub(r"\\frac", plain)
    plain = DELIMITERS.sub(" ", INVISIBLE.sub(" ", plain))
    plain = AROUND_SIGNS.sub(r"\1", " ".join(plain.split()))
    return plain.strip().rstrip(" .") or text


def normalised_answer(answer: str) -> str:
    """The gold as `normalised`; of a plain number its value: 8.0 is 8, and 1,000 is 1000."""
    plain = normalised(answer)
    number = NUMBER.fullmatch(plain)
    if number is None:
        return plain
    whole = number[2].replace(",", "").lstrip("0") or "0"
    decimals = (number[3] or "").rstrip("0")
    return number[1].replace("+", "") + whole + (f".{decimals}" if decimals else "")
