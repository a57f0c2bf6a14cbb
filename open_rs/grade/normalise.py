"""The many ways to typeset one answer, brought to one: layout, fonts, synonyms, unicode, units."""

import re

from open_rs.grade.notations import (
    rewritten,
    round_brackets,
    unicode_scripts,
    without_preamble,
)

# What a person or a model may type instead of the LaTeX that the reader knows.
_UNICODE = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/",
    "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
    "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "≈": r"\approx ",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "√": r"\surd", "º": r"^\circ ", "ℝ": r"\mathbb{R}", "，": ",", "；": ";", "（": "(", "）": ")",
    "。": ".", "％": "%", "、": ",",
    "€": r"\euro ", "£": r"\pounds ", "¥": r"\yen ", "₹": r"\rupee ", "＄": r"\$", "℃": r"^\circ C",
    "℉": r"^\circ F", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
    "’": "'", "⁄": "/", "∕": "/", "⟨": r"\langle ", "⟩": r"\rangle ",
}  # fmt: skip
_DIGITS = {chr(0xFF10 + digit): str(digit) for digit in range(10)}  # full-width
_TABLE = str.maketrans({**_UNICODE, **_DIGITS})

_MATH_DOLLAR = re.compile(r"(?<!\\)\$")
_PRICE = re.compile(r"(?<!\\)\$\s*[\d.]")
_POWER_IN_TEXT = re.compile(r"(\\text\s*\{[^{}]*\^)\{(-?\d)\}")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_MATH_MODE = re.compile(r"(?<!\\)\\[()\[\]]")
_SIZES = re.compile(
    r"\\(?:left|right|mleft|mright|middle|bigg?[lrm]?|Bigg?[lrm]?)(?![a-zA-Z])\.?"
    r"|\\(?:displaystyle|textstyle|limits|nolimits|mathstrut|phantom|bf|rm|it)(?![a-zA-Z])"
)
_SPACES = re.compile(r"(?<!\\)\\[,;:! ]|\\q?quad(?![a-zA-Z])|~|&nbsp;|\\hspace\{[^{}]*\}|\s")
_THIN_THOUSANDS = re.compile(r"(?<=\d)(?:,\s*\\!|\{,\}|\\,)\s*(?=\d{3}(?!\d))")
_FRACTIONS = re.compile(r"\\(?:[dtc]|nice|s)frac(?![a-zA-Z])")
_FONTS = re.compile(
    r"\\(?:mathrm|textbf|textit|textrm|textsf|texttt|textnormal|textup|mbox|hbox|operatorname\*?|mathbf|mathit|mathsf"
    r"|mathcal|boldsymbol|bm|emph)(?![a-zA-Z])\s*(?=\{)"
)
_EXTREME = re.compile(r"_\s*(?:\{\s*\\(max|min)\s*\}|\\(max|min)(?![a-zA-Z]))")
_NUMBER_IN_TEXT = re.compile(r"\\text\s*\{\s*([-+]?[\d.,]*\d)\s*\}")
_SPACED_THOUSANDS = re.compile(
    r"(?<![\w.,}^\\])(?<![\d.,] )([1-9]\d{0,2})((?: \d{3})+)(?!\d| ?/| ?\\frac)"
)
_PLAIN = re.compile(
    r"(\\text\s*\{[^{}]*\})"
    r"|(?<![\\a-zA-Z])(?:sqrt\s*(\d+)|(pi|sqrt|sin|cos|tan|ln|log|infty|infinity))(?![a-zA-Z])"
)
_PROSE = re.compile(r"(?<![\\a-zA-Z])(?!sqrt|infty|infinity)[a-zA-Z]{4,}")
_SYNONYMS = {
    r"\leq": r"\le", r"\geq": r"\ge", r"\leqslant": r"\le", r"\geqslant": r"\ge", r"\neq": r"\ne",
    r"\lt": "<", r"\gt": ">", r"\dots": r"\ldots", r"\cdots": r"\ldots", r"\varnothing":
    r"\emptyset", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\degree": r"^\circ ", r"\lvert": "|",
    r"\rvert": "|", r"\vert": "|", r"\lbrack": "[", r"\rbrack": "]", r"\infinity": r"\infty",
    r"\colon": ":", r"\div": "/", r"\land": r"\text{and}", r"\lor": r"\text{or}",
    r"\dagger": "", r"\mid": "|", r"\textdollar": r"\$", r"\epsilon": r"\varepsilon",
    r"\percent": r"\%", r"\to": r"\rightarrow", r"\lang": r"\langle", r"\rang": r"\rangle",
    r"\texteuro": r"\euro", r"\textsterling": r"\pounds",
}  # fmt: skip
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_ENDS = " \t\n.,;:"


def normalise(text: str) -> str:
    """`text` without layout, in the reader's LaTeX. Applied to golds and answers alike."""
    text = _CONTROLS.sub("", text)
    if not text.isascii():
        text = unicode_scripts(text).translate(_TABLE)
    if "$" in text:
        text = _money(text)
    text = _MATH_MODE.sub(" ", text)
    text = _THIN_THOUSANDS.sub("", text)
    text = _SIZES.sub(" ", text)
    text = _SPACES.sub(" ", text)
    text = _FRACTIONS.sub(r"\\frac", text)
    text = _FONTS.sub(r"\\text", text)
    while (braceless := _POWER_IN_TEXT.sub(r"\1\2", text)) != text:
        text = braceless
    text = rewritten(text)
    if not _PROSE.search(text):
        text = _PLAIN.sub(_as_command, text)
    text = _COMMAND.sub(lambda match: _synonym(match.group()), text)
    text = _EXTREME.sub(lambda match: rf"_{{\text{{{match[1] or match[2]}}}}}", text)
    text = _NUMBER_IN_TEXT.sub(r" \1 ", text)
    text = re.sub(r" +", " ", text).strip().rstrip(_ENDS)
    text = _SPACED_THOUSANDS.sub(lambda match: match[1] + match[2].replace(" ", ""), text)
    return _unwrapped(without_preamble(_unwrapped(round_brackets(text))))


def _money(text: str) -> str:
    """Money is \\$, or $ alone in the text and before a number; else $ opens mathematics."""
    if text.count("$") == 1 and _PRICE.search(text):
        return text.replace("$", r"\$")
    return _MATH_DOLLAR.sub(" ", text)


def _as_command(match: re.Match[str]) -> str:
    """sqrt(3), 2pi, sin x, as one types them without LaTeX."""
    words, radicand, name = match.groups()
    if words:
        return words
    return rf"\sqrt{{{radicand}}}" if radicand else rf"\{name} "


def _synonym(command: str) -> str:
    known = _SYNONYMS.get(command)
    return command if known is None else known + (" " if known[-1:].isalpha() else "")


def _unwrapped(text: str) -> str:
    """Without \\text{...} or **...** around the whole of it; a single word keeps its \\text{}: it
    is no product of letters.
    """
    for _ in range(3):
        inner = re.fullmatch(r"\\text\s*\{([^{}]*)\}|\*\*([^*]+)\*\*|\{([^{}]*)\}", text)
        if inner is None:
            break
        content = next(group for group in inner.groups() if group is not None).strip()
        if inner.group(1) and content.isalpha():
            return rf"\text{{{content}}}"
        text = content.rstrip(_ENDS)
    return text
