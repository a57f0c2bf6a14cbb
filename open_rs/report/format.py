"""Numbers and foreign text as a reader wants them."""

from typing import Any

MINUS = "\N{MINUS SIGN}"
MAX_TEXT = 20_000  # characters of any one text on the page


def cut(text: str, limit: int) -> str:
    """`limit` characters of a text, three quarters from its beginning and the rest from its end,
    where answers stand, with a note of how many were left out between them.
    """
    if len(text) <= limit:
        return text
    head = limit * 3 // 4
    tail = limit - head
    return f"{text[:head]} … [{len(text) - limit:,} characters left out] … {text[-tail:]}"


def percent(fraction: float | None, digits: int = 1) -> str:
    return "–" if fraction is None else signed(f"{100 * fraction:.{digits}f} %")


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    rounded = round(100 * difference, 1)
    return signed(f"{rounded:+.1f}") if rounded else "0.0"


def signed(text: str) -> str:
    return text.replace("-", MINUS)


def count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """Four significant digits, without trailing zeros."""
    if value is None:
        return "–"
    return signed(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}")


def p_text(value: float | None) -> str:
    """A p-value after the word p: "= 0.031", or "< 0.0001"."""
    if value is None:
        return "–"
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def dollars(value: float | None) -> str:
    return "–" if value is None else f"${value:,.2f}"


def duration(seconds: float | None) -> str:
    """4.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def size(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}" if unit != "B" else f"{num_bytes:.0f} B"
        num_bytes /= 1024
    return f"{num_bytes:.3g} GiB"


def setting(value: Any) -> str:
    """A recipe's value in the notation of a recipe."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {setting(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(setting(one) for one in value) + "]"
    return str(value)
