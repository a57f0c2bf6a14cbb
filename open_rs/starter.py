"""A folder to start from: a recipe, a reward and a file of problems, one's own or made ones."""

import csv
import io
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from open_rs.errors import InputError
from open_rs.recipe import recipe_from_dict
from open_rs.rows import BadRow, file_rows
from open_rs.runs import write_bytes, write_text

PROBLEM_COLUMNS = ("problem", "question", "prompt", "query", "input")
ANSWER_COLUMNS = ("answer", "gold", "target", "final_answer", "label", "output")
MADE_PROBLEMS = 600
LEARNING_RATE = {"tiny": "2e-4"}  # by model; another one gets the paper's
PAPER_LEARNING_RATE = "1e-6"


@dataclass(frozen=True)
class Columns:
    """What a file of problems calls its problem and its answer."""

    problem: str
    answer: str


def make_starter(
    folder: Path, *, name: str | None = None, model: str = "tiny", problems: Path | None = None
) -> list[Path]:
    """Write recipe.toml, rewards.py and the problems to `folder`; returns the paths.

    `problems`: a file of one's own, which is copied; its columns are found by their usual names.
    Without one, made arithmetic, which the tiny model can learn. Nothing is overwritten.
    """
    name = recipe_from_dict({"name": name or "my-run"}, where="--name").name
    own = None if problems is None else own_problems(problems)
    columns = Columns("question", "answer") if problems is None else find_columns(problems)
    file_name = "problems.csv" if problems is None else problems.name
    template = files("open_rs") / "assets" / "starter"
    texts = {
        "recipe.toml": template.joinpath("recipe.toml")
        .read_text(encoding="utf-8")
        .format(
            name=name,
            model=toml_text(model),
            problems=toml_text(file_name),
            problem=toml_text(columns.problem),
            answer=toml_text(columns.answer),
            learning_rate=LEARNING_RATE.get(model, PAPER_LEARNING_RATE),
        ),
        "rewards.py": template.joinpath("rewards.py").read_text(encoding="utf-8"),
    }
    paths = [folder / one for one in (*texts, file_name)]
    held = [path for path in paths if path.exists()]
    if held:
        raise InputError(f"{held[0]}: exists; name another folder, or move it away")
    for one, text in texts.items():
        write_text(folder / one, text)
    write_bytes(paths[-1], made_problems() if own is None else own)
    return paths


def own_problems(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def find_columns(path: Path) -> Columns:
    """By the usual names, in the first row."""
    where, first = next(iter(file_rows(path)), (str(path), None))
    if first is None or isinstance(first, BadRow):
        raise InputError(f"{where}: {first or 'holds no rows'}")
    found = [
        next((one for one in first if str(one).strip().casefold() in usual), None)
        for usual in (PROBLEM_COLUMNS, ANSWER_COLUMNS)
    ]
    if found[0] is None or found[1] is None:
        raise InputError(
            f"{path}: no column of problems and answers found among {', '.join(map(str, first))}; "
            f"call them {PROBLEM_COLUMNS[0]} and {ANSWER_COLUMNS[0]}"
        )
    return Columns(found[0], found[1])


def made_problems() -> bytes:
    """Arithmetic as CSV, question and answer."""
    from open_rs.tasks.arithmetic import arithmetic_problems

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("question", "answer"))
    for one in arithmetic_problems("train", MADE_PROBLEMS, seed=0, levels=(1, 2, 3, 4)):
        rows.writerow((one.problem, one.answer))
    return text.getvalue().encode()


def toml_text(text: str) -> str:
    """The inside of a TOML basic string: its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
