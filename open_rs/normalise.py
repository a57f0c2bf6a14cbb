"""When two texts are the same problem, and two golds the same answer, but for their spelling."""

import re
import unicodedata

# Spellings that NFKC keeps apart, and superscripts, which it would make plain digits (2² is not 22)
CHARACTERS = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "−": "-", "–": "-", "—": "-", "‐": "-"}
    | {"×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "π": r"\pi ", "√": r"\sqrt "}
    | {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∞": r"\infty ", "°": r"^\circ ", "…": r"\dots "}
    | {character: f"^{digit}" for digit, character in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
)
# Commands that set one and the same sign
SYNONYMS = (
    {"dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "geq": "ge", "neq": "ne"}
    | {"leqslant": "le", "geqslant": "ge", "ldots": "dots", "cdots": "dots", "degree": r"^\circ"}
    | {"lvert": "|", "rvert": "|", "vert": "|", "%": "%", "&": "&"}
)
COMMAND = re.compile(r"(?<!\\)\\([a-z]+|[%&])")
# What only sets size and space; none of it may be the second half of a line break `\\`
INVISIBLE = re.compile(
    r"(?<!\\)\\(?:(?:left|right|bigg?[lrm]?|displaystyle|textstyle|limits|q?quad)(?![a-z])"
    r"|[,;:! ])|(?<!\\)~"
)
FONTS = re.compile(
    r"(?<!\\)\\(?:text(?:bf|it|rm)?|mbox|math(?:rm|bf|it)|operatorname) ?\{([^{}]*)\}"
)
# Arguments of one character, with braces and without
ARGUMENTS = re.compile(r"\\(frac|binom) ?(?:(\d)|\{([^{}]*)\}) ?(?:(\d)|(?=\{))")
ROOT = re.compile(r"\\sqrt ?(\w)")
SCRIPT = re.compile(r"([\^_]) ?\{ ?(?:(\d)|([a-z])|(\\[a-z]+)) ?\}")
EMPTY_SCRIPT = re.compile(r"[\^_] ?\{ ?\}")
# `x^10` is x^1 0 in LaTeX
LONG_SCRIPT = re.compile(r"([\^_]\d)(?=\d)")
COMMA = re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3})")
DELIMITERS = re.compile(r"\\?\$|(?<!\\)\\[()\[\]]")
AROUND_SIGNS = re.compile(r" (?=[^\w\s])|(?<=[^\w\s]) ")
NUMBER = re.compile(r"([+-]?)(\d+|\d{1,3}(?:,\d{3})+)(?:\.(\d+))?")


def normalised(text: str) -> str:
    r"""`text` without what does not change a problem: case, white space, quotes, maths delimiters,
    fonts and spacing of LaTeX, its other spellings (`\dfrac12` for `\frac{1}{2}`, `x^{2}` for
    `x^2`, `≤` for `\leq`), a final full stop.

    Signs and digits stay: `7 + 5` and `7 - 5` are different problems. White space between two
    words or numbers stays as one space. A text of nothing else is returned as it is.
    """
    plain = unicodedata.normalize("NFKC", text.translate(CHARACTERS)).casefold()
    plain = " ".join(DELIMITERS.sub(" ", plain).split())
    if "\\" in plain or "{" in plain or "~" in plain:
        plain = _without_typesetting(plain)
    plain = AROUND_SIGNS.sub("", " ".join(plain.split()))
    return plain.strip().rstrip(" .") or text


def _without_typesetting(text: str) -> str:
    """LaTeX in one spelling: `\tfrac12` as `\frac{1}{2}`, `x^{2}` as `x^2`, `\leq` as `\le`."""
    text = FONTS.sub(r" \1 ", INVISIBLE.sub(" ", COMMA.sub(",", text)))
    text = COMMAND.sub(_one_command, text)
    text = ARGUMENTS.sub(_braced, text)
    text = LONG_SCRIPT.sub(r"\1 ", EMPTY_SCRIPT.sub("", text))
    return SCRIPT.sub(_unbraced, ROOT.sub(r"\\sqrt{\1}", text))


def _one_command(match: re.Match[str]) -> str:
    name = SYNONYMS.get(match[1])
    if name is None:
        return match[0]
    return rf"\{name}" if name.isalpha() else name


def _braced(match: re.Match[str]) -> str:
    command, digit, group, second = match.groups()
    first = group if digit is None else digit
    return rf"\{command}{{{first}}}" + (f"{{{second}}}" if second else "")


def _unbraced(match: re.Match[str]) -> str:
    """`x^2` of `x^{2}`; a space keeps apart what would run into the next character."""
    mark, digit, letter, command = match.groups()
    following = match.string[match.end() : match.end() + 1]
    parts = following.isalnum() if command else bool(digit) and following.isdigit()
    return f"{mark}{digit or letter or command}" + (" " if parts else "")


def normalised_answer(answer: str) -> str:
    """The gold as `normalised`; of a plain number its value: 8.0 is 8, and 1,000 is 1000."""
    plain = normalised(answer)
    number = NUMBER.fullmatch(plain)
    if number is None:
        return plain
    whole = number[2].replace(",", "").lstrip("0") or "0"
    decimals = (number[3] or "").rstrip("0")
    return number[1].replace("+", "") + whole + (f".{decimals}" if decimals else "")
