"""`Problem`: reading and writing problem files; loading from a file, a folder or the hub."""

import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from open_rs.errors import InputError
from open_rs.grade.extract import last_boxed
from open_rs.recipe import Source


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
    """The lines of a text file or of a gzipped one, decoded one by one: what is not UTF-8 is met at
    its own line.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            yield line.decode("utf-8")


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


def load_problems(source: Source, *, raw: bool = False) -> list[Problem]:
    """The problems of `source`, in its order, cut to `source.count`.

    A `raw` set, as curation reads it, may repeat ids and hold empty golds: its filters deal with
    those. Every other set is refused with them.
    """
    problems = [
        _problem(row, source, where, answer_needed=not raw) for where, row in _rows(source)
    ][: source.count]
    if not problems:
        raise InputError(f"{source.label}: holds no problems; curate with looser filters")
    if not raw:
        _refuse_repeated_ids(problems, source.label)
    return problems


def _rows(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of each row of a source."""
    if source.path is not None:
        path = Path(source.path)
        file = path / "problems.jsonl" if path.is_dir() else path
        for number, row in read_jsonl(file):
            yield f"{file}, line {number}", row
    elif source.hub is not None:
        for number, row in enumerate(_hub_rows(source), start=1):
            yield f"{source.hub}, row {number}", row
    else:
        for number, row in enumerate(_task_rows(source), start=1):
            yield f"{source.task}, row {number}", row


def _hub_rows(source: Source) -> Iterable[dict[str, Any]]:
    import datasets  # a second to import, and needed for hub sets alone

    try:
        return datasets.load_dataset(
            source.hub, source.config, split=source.split, revision=source.revision
        )
    except Exception as error:  # whatever the library raises, the cure is the same
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"data set {source.hub}: cannot be loaded ({reason}); "
            "download it elsewhere and give its folder as hub or a file as path"
        ) from error


def _task_rows(source: Source) -> Iterable[dict[str, Any]]:
    from open_rs.tasks import task_rows

    return task_rows(source)


def _joined(value: Any, joint: str) -> Any:
    """A list of texts, as OlympiadBench has for answers and solutions, as one text."""
    if isinstance(value, list) and value and all(isinstance(one, str | int) for one in value):
        return joint.join(str(one).strip() for one in value)
    return value


def _is_text(value: Any) -> bool:
    """Text, or a number that can stand for one: neither true nor NaN."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int) and not isinstance(value, bool)


def _problem(row: dict[str, Any], source: Source, where: str, *, answer_needed: bool) -> Problem:
    """A row as a Problem; `where` names it in errors."""
    columns = {ours: source.columns.get(ours, ours) for ours in ("id", "problem", "answer")}
    columns |= {ours: source.columns.get(ours, ours) for ours in ("solution", "source")}
    # "a, b" is a list to the grader, which takes its members in any order
    for ours, joint in (("answer", ", "), ("solution", "\n\n")):
        if columns[ours] in row:
            row = {**row, columns[ours]: _joined(row[columns[ours]], joint)}
    needed = ["problem", "solution" if source.answer_from == "boxed" else "answer"]
    for ours in needed:
        if not _is_text(row.get(columns[ours])):
            have = ", ".join(sorted(row)) or "none"
            raise InputError(
                f"{where}: column {columns[ours]!r} is missing or not text (columns: {have}); "
                f'name it in columns, as in columns = {{ {ours} = "..." }}'
            )
    text = str(row[columns["problem"]])
    answer, solution = str(row.get(columns["answer"], "")), str(row.get(columns["solution"]) or "")
    if source.answer_from == "boxed":
        answer = last_boxed(solution) or ""
    elif source.answer_from == "gsm8k":
        solution, mark, final = answer.rpartition("####")
        answer, solution = (final.strip().replace(",", ""), solution) if mark else ("", final)
        solution = solution.strip()
    if not text.strip():
        raise InputError(f"{where}: the problem is empty; mend or remove the row")
    if answer_needed and not answer.strip():
        raise InputError(f"{where}: the answer is empty; mend or remove the row, or curate first")
    given = row.get(columns["id"])
    return Problem(
        id=problem_id(text, answer) if given is None or given == "" else str(given),
        problem=text,
        answer=answer,
        solution=solution,
        source=str(row.get(columns["source"]) or source.label),
    )


def _refuse_repeated_ids(problems: Iterable[Problem], where: str) -> None:
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise InputError(f"{where}: id {problem.id!r} occurs more than once; ids must differ")
        seen.add(problem.id)


def problem_lines(problems: Iterable[Problem]) -> str:
    """The JSONL text of `problems`; `runs.write_text` puts it on disk in one piece."""
    return "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in problems)
