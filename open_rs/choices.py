"""Multiple choice as problems for the one grader: choices with letters, and a letter as gold."""

import hashlib
import re
import string

from open_rs.normalise import normalised
from open_rs.recipe import ListedChoices, NamedChoices
from open_rs.rows import BadRow, Row, cell_text

ASK = "Answer with the letter of the right choice."
MEND = "mend or remove the row"
# What stands for the choices before it: it stays at the end
OF_THE_ABOVE = re.compile(r"\b(?:all|none|both|any|neither) of (?:the )?(?:above|these)\b", re.I)
# Choices named by their letter: their order cannot change
BY_LETTER = re.compile(r"\b[A-J] (?:and|or|nor|&) [A-J]\b")


def lettered(
    row: Row, choices: NamedChoices | ListedChoices, problem_column: str
) -> tuple[str, str] | BadRow:
    """(the question with its lettered choices, the letter of the right one).

    Sorted by SHA-256 of question and choice, both normalised: neither where a choice stands in the
    file nor which is right plays a part, and a question has one order in every file.
    """
    question = cell_text(row.get(problem_column), " ")
    if question is None or not question.strip():
        return BadRow(f"column {problem_column!r} holds no question", MEND)
    found = named(row, choices) if isinstance(choices, NamedChoices) else listed(row, choices)
    if isinstance(found, BadRow):
        return found
    texts, right = found
    if len({normalised(one) for one in texts}) < len(texts):
        return BadRow("two choices are the same", MEND)
    order = list(texts)
    if not any(BY_LETTER.search(one) for one in texts):
        order.sort(key=lambda one: (OF_THE_ABOVE.search(one) is not None, place(question, one)))
    elif isinstance(choices, NamedChoices):
        return BadRow("a choice names others by letter, and the file gives no order", MEND)
    lines = [f"{letter}) {one}" for letter, one in zip(string.ascii_uppercase, order, strict=False)]
    text = "\n".join([question.strip(), "", *lines, "", ASK])
    return text, string.ascii_uppercase[order.index(right)]


def place(question: str, choice: str) -> bytes:
    return hashlib.sha256(f"{normalised(question)}\0{normalised(choice)}".encode()).digest()


def named(row: Row, choices: NamedChoices) -> tuple[list[str], str] | BadRow:
    """(choices, the right one) of a row with a column each."""
    right = cell_text(row.get(choices.correct), ", ")
    wrong = [cell_text(row.get(column), ", ") for column in choices.incorrect]
    filled = [one.strip() for one in wrong if one is not None and one.strip()]
    if right is None or not right.strip():
        return BadRow(f"column {choices.correct!r} holds no right answer", MEND)
    if not filled:
        return BadRow("no wrong answer", "name their columns in choices.incorrect, or mend the row")
    return [right.strip(), *filled], right.strip()


def listed(row: Row, choices: ListedChoices) -> tuple[list[str], str] | BadRow:
    """(choices, the right one) of a row with a list of them and an index from 0 or a letter."""
    if isinstance(choices.choices, str):
        cells = row.get(choices.choices)
        if not isinstance(cells, list):
            return BadRow(f"column {choices.choices!r} holds no list", MEND)
    else:
        cells = [row.get(column) for column in choices.choices]
    texts = [cell_text(cell, ", ") for cell in cells]
    filled = [one.strip() for one in texts if one is not None and one.strip()]
    if len(filled) < len(texts) or not 2 <= len(filled) <= len(string.ascii_uppercase):
        return BadRow("2 to 26 choices with a text each are needed", MEND)
    answer = str(row.get(choices.answer, "")).strip().upper()
    number = int(answer) if re.fullmatch(r"[0-9]{1,2}", answer) else -1
    if len(answer) == 1 and answer in string.ascii_uppercase:
        number = string.ascii_uppercase.index(answer)
    if not 0 <= number < len(filled):
        shown = repr(row.get(choices.answer))[:40]
        return BadRow(f"column {choices.answer!r} names none of the choices", MEND, shown)
    return filled, filled[number]
