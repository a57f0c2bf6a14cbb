"""`Problem`: reading and writing problem files; loading from a file, a folder or the hub. No torch."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from open_rs.errors import InputError


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


def open_text(path: Path) -> Iterator[str]:
    """The lines of a text file or of a gzipped one."""
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as lines
    ):
        yield from lines


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of each line that is not blank; a malformed line is an InputError with its
    number.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; check the path in the recipe or on the command line"
        )
    number = 0
    try:
        for number, line in enumerate(open_text(path), start=1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise InputError(
                    f"{path}, line {number}: a JSON object is needed, got {type(row).__name__}"
                )
            yield number, row
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {number}: not valid JSON ({error.msg}); mend or remove it"
        ) from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path}, line {number + 1}: not valid UTF-8; save the file as UTF-8"
        ) from None
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the file") from None


def read_problems(path: Path) -> list[Problem]:
    """Problems of a JSONL file as `write_problems` leaves it. Each row needs `problem` and
    `answer`.
    """
    problems = [problem_from_row(row, f"{path}, line {number}") for number, row in read_jsonl(path)]
    if not problems:
        raise InputError(
            f"{path}: holds no problems; curate again with looser filters or another source"
        )
    ids = [problem.id for problem in problems]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise InputError(f"{path}: problem id {twice!r} occurs more than once; ids must be unique")
    return problems


def problem_from_row(row: dict[str, Any], where: str) -> Problem:
    """A row with at least `problem` and `answer` as a Problem; `where` names it in the error."""
    for column in ("problem", "answer"):
        if row.get(column) in (None, ""):
            have = ", ".join(sorted(row)) or "none"
            raise InputError(
                f"{where}: column {column!r} is missing or empty (columns: {have}); name it in "
                f"`columns`"
            )
    text, answer = str(row["problem"]), str(row["answer"])
    return Problem(
        id=str(row.get("id") or problem_id(text, answer)),
        problem=text,
        answer=answer,
        solution=str(row.get("solution") or ""),
        source=str(row.get("source") or ""),
    )


def problem_lines(problems: Iterable[Problem]) -> str:
    """The JSONL text of `problems`; `runs.write_text` puts it on disk in one piece."""
    return "".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems)
