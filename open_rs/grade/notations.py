"""Notations that the reader does not know, rewritten into those that it does."""

import re

_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_LOW = re.compile(r"[₀-₉₊₋ₙ]+")
_HIGH = re.compile(r"[⁰¹²³⁴-⁹⁺⁻ⁿ]+")


def unicode_scripts(text: str) -> str:
    """x₁ and 10⁻³ with _{1} and ^{-3}."""
    text = _LOW.sub(lambda match: f"_{{{match.group().translate(_SUBSCRIPTS)}}}", text)
    return _HIGH.sub(lambda match: f"^{{{match.group().translate(_SUPERSCRIPTS)}}}", text)


def _modulus(match: re.Match[str]) -> str:
    """\\pmod{7} behind a number, which may be left out as a unit may."""
    return rf"\text{{mod {next(group for group in match.groups() if group is not None)}}}"


# (what has to stand in the text, the notation, what it becomes)
_REWRITTEN = tuple(
    (needle, re.compile(pattern), becomes)
    for needle, pattern, becomes in (
        (r"\surd", r"\\surd\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}"),
        (r"\surd", r"\\surd(?![a-zA-Z])", r"\\sqrt "),
        (r"\choose", r"\{([^{}]*)\\choose(?![a-zA-Z])([^{}]*)\}", r"\\binom{\1}{\2}"),
        (r"\over", r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}", r"\\frac{\1}{\2}"),
        (r"color", r"\\(?:text)?color\s*\{[^{}]*\}", " "),
        ("cis", r"\\text\s*\{\s*cis\s*\}|(?<![\\a-zA-Z])cis(?![a-zA-Z])", r"\\cis "),
        ("mod", r"\\[pb]?mod(?![a-zA-Z])\s*(?:\{([^{}]*)\}|(\d+))|\(\s*mod\s*(\d+)\s*\)", _modulus),
        ("t", r"(?<=\d)\^\s*\{?\s*\\text\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?", ""),
        ("t", r"^(\d+)\s?(?:st|nd|rd|th)$", r"\1"),
        (r"angle", r"\\(?:tri)?angle(?![a-zA-Z])", " "),
        (r"\vec", r"\\vec(?![a-zA-Z])", " "),
        (r"\underline", r"\\underline(?![a-zA-Z])", " "),
        ("U", r"(?<=[)\]}])\s*U\s*(?=[(\[]|\\\{)", r" \\cup "),
        ("_", r"\((\d+)\)\s*_|\\overline\s*\{(\d+)\}\s*_", r"\1\2_"),
        ("10", r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r" \\times "),
        ("to", r"^([\d.]+)\s*(?:\\text\s*\{\s*to\s*\}|to)\s*([\d.]+)$", r"\1:\2"),
        (".", r"(?<![A-Za-z])([aApP])\.\s?([mM])(?:\.|\b)", r"\1\2"),
    )
)
_SAID = re.compile(
    r"^(?:(?:\\text\s*\{\s*)?(?:the |my )?(?:final )?(?:answer|option|choice|exactly)(?: is)?:?"
    r"(?:\s*\}|\s)\s*|=\s*)"
    r"(?=[^\s}])",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"^(?:\\text\s*\{\s*)?(?:approximately|approx|about|roughly)\.?(?:\s*\}|\s)\s*(?=[\d\\.-])",
    re.IGNORECASE,
)


def rewritten(text: str) -> str:
    """A text without layout, in the reader's notation."""
    for needle, pattern, becomes in _REWRITTEN:
        if needle in text:
            text = pattern.sub(becomes, text)
    return text


def without_preamble(text: str) -> str:
    """ "The answer is 7" and "= 7" as 7; "about 7" as \\approx 7."""
    return _ABOUT.sub(r"\\approx ", _SAID.sub("", text))


# ---- ]0, 3] ----

_TURNED = re.compile(r"([\[\]])([^\[\]()]*,[^\[\]()]*)([\[\]])")
_BRACKETS = re.compile(r"[()\[\]]")


def round_brackets(text: str) -> str:
    """Open ends of intervals written ]0, 3[ with round brackets."""
    brackets = _BRACKETS.findall(text)
    if not brackets or (brackets[0] != "]" and brackets[-1] != "["):
        return text
    return _TURNED.sub(
        lambda match: (
            ("(" if match[1] == "]" else "[") + match[2] + (")" if match[3] == "[" else "]")
        ),
        text,
    )
