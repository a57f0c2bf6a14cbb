"""From a completion to the text of its final answer. Every loop here is linear in the text."""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"\\[\\{}]|[{}]")  # an escaped brace is text, not a group
# Whole or not at all: neither 3 of 3.5cm nor 1.2 of 1.2e5, and no part of a word
_NUMBER = re.compile(
    r"(?<![\w.])[-−]?(?:(?:\d{1,3}(?:,\d{3})++|\d++)(?:\.\d++|/\d++)?+|\.\d++)(?!\d|[eE][-+]?\d)"
)
_SPACING = re.compile(r"\\[,;]")  # of LaTeX: parts nothing
_LISTED = re.compile(r"[,;]|and|or")
_JOINT = re.compile(r"(?:[\s,;$&]|\\[()\[\];,! ]|\\q?quad\b|\\text\s*\{\s*(?:and|or)\s*\}|and|or)*")


def answer_text(completion: str, *, opens_think: bool) -> str | None:
    """What follows the thoughts; None where a thought is still open (the completion was cut).

    `opens_think`: the chat template wrote `<think>` itself, so the completion starts inside it.
    """
    _, closed, tail = completion.rpartition("</think>")
    if not closed and opens_think:
        return None
    return None if "<think>" in tail else tail


def boxes(text: str) -> list[tuple[int, int, int]]:
    """(start, start of content, end of content) of each \\boxed{} or \\fbox{} with balanced braces
    that holds no further box, from left to right.
    """
    matches = list(_BOX.finditer(text))
    closing = _closing_braces(text, {match.end() - 1 for match in matches})
    found: list[tuple[int, int, int]] = []
    for match in matches:
        end = closing.get(match.end() - 1)
        if end is not None:
            if found and match.start() < found[-1][2]:
                found.pop()  # it holds this one
            found.append((match.start(), match.end(), end))
    return found


def _closing_braces(text: str, wanted: set[int]) -> dict[int, int]:
    """Position of each opening brace in `wanted` that is closed -> of the brace that closes it."""
    pairs: dict[int, int] = {}
    open_at: list[int] = []
    for match in _BRACE.finditer(text, min(wanted, default=len(text))):
        if match.group() == "{":
            open_at.append(match.start())
        elif match.group() == "}" and open_at:
            opened = open_at.pop()
            if opened in wanted:
                pairs[opened] = match.start()
    return pairs


def last_boxed(text: str) -> str | None:
    """The content of the last box; boxes joined by nothing but "and", "or" or commas count as one
    list, in which a repeated box counts once. None without a complete box.
    """
    found = boxes(text)
    first = len(found) - 1
    while first > 0 and _joined(text[found[first - 1][2] + 1 : found[first][0]]):
        first -= 1
    contents = dict.fromkeys(text[inside:end].strip() for _, inside, end in found[first:])
    return ", ".join(contents) if found else None


def _joined(between: str) -> bool:
    if len(between) > 100 or _JOINT.fullmatch(between) is None:
        return False
    return _LISTED.search(_SPACING.sub("", between)) is not None


def last_number(text: str) -> str | None:
    """The last integer, decimal or fraction of two integers, with its sign; None without one."""
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def extract_answer(
    completion: str, *, opens_think: bool = False, unboxed_numbers: bool = False
) -> str | None:
    """The boxed answer after the thoughts, stripped; None where there is none or it is empty.

    `unboxed_numbers`: where there is no box at all, the last number after the thoughts counts.
    """
    text = answer_text(completion, opens_think=opens_think)
    if text is None:
        return None
    content = last_boxed(text)
    if content is None and unboxed_numbers and _BOX.search(text) is None:
        content = last_number(text)
    return (content or "").strip() or None
