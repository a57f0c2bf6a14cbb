"""`Problem`: from the rows of a source to problems with a gold, and back to a file."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from open_rs.choices import lettered
from open_rs.errors import InputError
from open_rs.grade.extract import last_boxed
from open_rs.normalise import normalised
from open_rs.plugins import load_function
from open_rs.recipe import Source
from open_rs.rows import BadRow, Row, cell_text, open_bytes, read_jsonl, source_rows

__all__ = [
    "Problem",
    "ReadRow",
    "last_boxed",
    "load_problems",
    "open_bytes",
    "place_of",
    "problem_id",
    "problem_lines",
    "read_jsonl",
    "read_source",
]


@dataclass(frozen=True)
class Problem:
    """A task with a verifiable answer. `answer` is the gold, `solution` a worked one where the
    source has it.
    """

    id: str
    problem: str
    answer: str
    solution: str = ""
    source: str = ""


def problem_id(problem: str, answer: str) -> str:
    """Content hash: the same text and answer get the same id in every file (16 hex digits of
    SHA-256).
    """
    return hashlib.sha256(f"{problem}\0{answer}".encode()).hexdigest()[:16]


def load_problems(source: Source, *, raw: bool = False) -> list[Problem]:
    """The problems of `source`, in its order, cut to `source.count`.

    A `raw` set may repeat ids and hold empty golds. Every other set is refused with them.
    """
    problems = []
    for where, problem in read_source(source):
        if isinstance(problem, BadRow):
            raise InputError(f"{where}: {problem}")
        if not raw and not problem.answer.strip():
            raise InputError(
                f"{where}: the answer is empty; mend or remove the row, or curate first"
            )
        problems.append(problem)
    if not problems:
        raise InputError(f"{source.label}: holds no problems; check the source, or curate it anew")
    if not raw:
        _refuse_repeated_ids(problems, source.label)
    return problems


ReadRow = tuple[str, Problem | BadRow]  # where it stands, and what was made of it


def read_source(source: Source) -> Iterator[ReadRow]:
    """The first `count` rows of a source's portion as problems, one by one. Golds may be empty."""
    taken = 0
    for where, row in source_rows(source):
        if taken == source.count:
            return
        problem = row if isinstance(row, BadRow) else _problem(row, source)
        if source.portion is not None and isinstance(problem, Problem):
            start, end = source.portion
            if not start <= place_of(problem.problem) < end:
                continue
        taken += 1
        yield where, problem


def place_of(text: str) -> float:
    """A problem's place in [0, 1), by a hash of its normalised text: however it is spelled, it
    falls into the same portion of a source. 53 bits of SHA-256.
    """
    digest = hashlib.sha256(normalised(text).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


MAX_CHARACTERS = 1_000_000  # of a problem, an answer or a solution: what is longer is no such thing
SHOWN_CHARACTERS = 40  # of a value, in a detail
EMPTY = BadRow("the problem is empty", "mend or remove the row")


def _problem(row: Row, source: Source) -> Problem | BadRow:
    """A row as a Problem."""
    theirs = source.columns
    if source.choices is not None:
        made = lettered(row, source.choices, theirs.get("problem", "problem"))
        if isinstance(made, BadRow):
            return made
        row = {**row, theirs.get("problem", "problem"): made[0]}
        row[theirs.get("answer", "answer")] = made[1]
    text = cell_text(row.get(theirs.get("problem", "problem")), " ")
    # "a, b" is a list to the grader, which takes its members in any order
    answer = cell_text(row.get(theirs.get("answer", "answer")), ", ")
    solution = cell_text(row.get(theirs.get("solution", "solution")), "\n\n")
    if text is None:
        return _missing("problem", row, source)
    if source.answer_from == "boxed":
        if solution is None:
            return _missing("solution", row, source)
        answer = last_boxed(solution) or ""
    elif ":" in source.answer_from:
        answer = _own_answer(source.answer_from)(row)
        if not isinstance(answer, str):
            return BadRow(f"{source.answer_from} gave no text", "mend the function or the row")
    elif answer is None:
        return _missing("answer", row, source)
    elif source.answer_from == "gsm8k":
        worked, mark, final = answer.rpartition("####")
        answer, solution = (final.strip().replace(",", ""), worked) if mark else ("", final)
        solution = solution.strip()
    elif source.answer_from == "last_number":
        answer = last_number(answer)
    if not text.strip():
        return EMPTY
    longest = max(len(text), len(answer), len(solution or ""))
    if longest > MAX_CHARACTERS:
        return BadRow(f"more than {MAX_CHARACTERS:,} characters", "split or remove the row")
    given = cell_text(row.get(theirs.get("id", "id")), " ")
    own = None if source.name else cell_text(row.get(theirs.get("source", "source")), ", ")
    try:
        id_ = given or problem_id(text, answer)
        f"{id_}{solution}{own}".encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return BadRow("not valid Unicode", "mend or remove the row")
    return Problem(id_, text, answer, solution or "", own or source.label)


def _missing(ours: str, row: Row, source: Source) -> BadRow:
    column = source.columns.get(ours, ours)
    if column in row:
        what = f"column {column!r} holds no text or number"
        return BadRow(what, "mend or remove the row", repr(row[column])[:SHOWN_CHARACTERS])
    have = ", ".join(sorted(map(str, row))) or "none"
    return BadRow(
        f"column {column!r} is missing",
        f'name it in columns, as in columns = {{ {ours} = "..." }}',
        f"columns: {have}",
    )


_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|[-+]?\.\d+")


def last_number(text: str) -> str:
    """The last number of a text, without thousands commas; empty without one. A fraction of plain
    numbers is one.
    """
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "").removeprefix("+") if found else ""


@lru_cache(maxsize=8)
def _own_answer(name: str) -> Callable[[Row], Any]:
    return load_function(name)


def _refuse_repeated_ids(problems: Iterable[Problem], where: str) -> None:
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise InputError(f"{where}: id {problem.id!r} occurs more than once; ids must differ")
        seen.add(problem.id)


def problem_lines(problems: Iterable[Problem]) -> str:
    """The JSONL text of `problems`; `runs.write_text` puts it on disk in one piece."""
    return "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in problems)
