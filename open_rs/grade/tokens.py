"""The signs and words of a normalised answer, for reader.py to make trees of."""

import re
from fractions import Fraction

from open_rs.grade.trees import Tree
from open_rs.grade.words import number_in_words, says_all_reals, says_no_solution

Token = tuple[str, str]  # kind, text

MAX_DIGITS = 2000
MAX_WORDS = 8  # of a text answer; a longer one is a sentence


class Unreadable(Exception):
    """Not in the language of this reader: a matter for math-verify."""


_TOKEN = re.compile(
    r"\s*(?:(?P<repeating>\d*\.\d*(?:\\(?:overline|bar|dot)\s*(?:\{\s*\d+\s*\}|\d)|(?<=\d\.)\(\d+\)))"
    r"|(?P<num>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?P<exp>[eE][+-]?\d+(?![a-zA-Z\d]))?"
    r"|\\text\s*\{(?P<text>[^{}]*)\}"
    r"|(?P<env>\\(?:begin|end)\s*\{[a-zA-Z*]+\})"
    r"|(?P<cmd>\\[a-zA-Z]+)|(?P<esc>\\[^a-zA-Z])|(?P<sym>[a-zA-Z])|(?P<op><=|>=|\*\*|[^\s\\]))"
)
_REPEATING = re.compile(r"(\d*\.\d*)(?:\\[a-z]+[\s{]*|\()(\d+)\D*")
_WORD = re.compile(r"[A-Za-z](?:[A-Za-z' -]|\.(?= ))*")  # Mr. Smith
_SHORT_WORDS = frozenset({"yes", "no", "true", "false", "none", "odd", "even", "both", "neither"})
_POWER = r"(?:\^(?:\{-?\d\}|-?\d))?"
TRAILING_WORDS = re.compile(
    rf"(?<=[\d}})%])(\s*)([A-Za-z]{{2,}}{_POWER}(?:[ ./-]+[A-Za-z]+{_POWER})*)$"
)
INNER_WORDS = re.compile(r"(?<=\d)(\s*)([A-Za-z]{2,})(?=,? (?:and )?\d)")
CLOCK = re.compile(r"\d{1,2}(?::[0-5]\d){1,2}(?!\d)")
DIGITS_AND_LETTERS = re.compile(
    r"(?:\\text\s*\{\s*)?(?=[A-Z]*\d)(?=\d*[A-Z])([0-9A-Z]{2,})\s*\}?\s*_\s*\{?\s*(\d{2})\s*\}?"
)
LETTERS = re.compile(r"[A-Z]{2,}")  # a sequence of choices, a word: no product
CHOICE = re.compile(r"\(?([A-Z])[).]?")


def is_words(text: str) -> bool:
    """Words rather than a product of letters: three letters in a row that are no function."""
    if not _WORD.fullmatch(text):
        return False
    if number_in_words(text) is not None:
        return True
    words = [word for word in text.split() if word not in ("and", "or")]
    if len(words) == 1 and words[0].lower() in _SHORT_WORDS:
        return True
    parts = [part for word in words for part in word.split("-")]  # ab-cd is a difference
    return any(len(part) >= 4 or (len(words) > 1 and len(part) >= 3) for part in parts)


REALS = ("tuple", "(", ")", ("neg", ("inf",)), ("inf",))


def words_tree(text: str) -> Tree:
    """A number in words, the empty set in words, or words."""
    value = number_in_words(text)
    if value is not None:
        return ("num", value)
    if says_no_solution(text):
        return ("set",)
    return REALS if says_all_reals(text) else ("text", " ".join(text.lower().split()))


def tokens(text: str) -> list[Token]:
    """The signs of a normalised answer, as (kind, text)."""
    found: list[Token] = []
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
        elif kind == "repeating":
            found.append(("num", match.group().strip()))
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


def is_joint(token: Token) -> bool:
    """Whether a token is \\text{and}, \\text{or} or nothing but punctuation."""
    kind, text = token
    return kind == "text" and text.lower().strip(" ,;") in ("and", "or", "")


def number(text: str) -> Fraction:
    """The exact value of a decimal as written, 4.5e33 and 0.1\\overline{6} included."""
    if text[-1] in ")}" or "\\" in text:
        repeating = _REPEATING.fullmatch(text)
        if repeating is None:
            raise Unreadable("a number of another kind")
        before, digits = repeating.groups()
        if len(text) > MAX_DIGITS // 10:
            raise Unreadable("a number with too many digits")
        scale = 10 ** (len(before) - before.index(".") - 1)
        return Fraction(f"0{before}0") + Fraction(int(digits), scale * (10 ** len(digits) - 1))
    mantissa, _, exponent = text.lower().partition("e")
    if not any(map(str.isdigit, mantissa)):  # what is left of 1e5 or 2. as an argument
        raise Unreadable("a number without digits")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > MAX_DIGITS:
        raise Unreadable("a number with too many digits")
    return Fraction(mantissa) * Fraction(10) ** int(exponent or 0)
