"""Verdicts that need no algebra: given at once in the calling process."""

import re

from open_rs.grade.types import Outcome

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")


def integer(text: str) -> int | None:
    """The value of a plain integer of at most 40 digits, None for anything else."""
    text = text.strip()
    return int(text) if _INTEGER.fullmatch(text) else None


def exact_verdict(gold: str, answer: str) -> Outcome | None:
    """The verdict where both sides are plain integers or the same text; None: ask a worker."""
    gold_value, value = integer(gold), integer(answer)
    if gold_value is not None and value is not None:
        return "correct" if gold_value == value else "wrong"
    return None
