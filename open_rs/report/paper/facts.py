"""What others have published: the CSVs that ship with the package, or a folder of the same names.

A file that is missing or damaged is a sentence in `missing`; what the others say is still shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from open_rs.errors import InputError
from open_rs.evaluate.tables import (
    Published,
    plain,
    read_csv,
    read_published,
    with_checkpoints,
    with_facts,
)

T = TypeVar("T")
Row = dict[str, str]

BENCHMARKS = ("aime24", "math500", "amc23", "minerva", "olympiadbench")  # Table 1's order
BASE = "DeepSeek-R1-Distill-Qwen-1.5B"
COST_COLUMNS = (
    *("model", "base_model", "sft_data", "reward_model"),
    *("rl_data_x_samples", "hardware", "hours", "usd"),
)


@dataclass(frozen=True)
class Checkpoint:
    """One score of a checkpoint of the authors: one sample of each of the benchmark's problems."""

    experiment: str
    step: int
    score: Published
    released: bool  # one of Open-RS1, 2, 3


@dataclass
class Facts:
    """Texts are as they stand in the files; scores are from 0 to 1.

    Attributes:
        table1: rows of Table 1, in its order.
        scores: its cells, with who measured them and of how many checkpoints they are the best.
        samples: of each problem, by the plain name of the model, where that is known.
        costs: rows of Tables 2 and 3.
        checkpoints: of experiments 1 to 3, a repeated run once.
        eval_seconds: what scoring the checkpoints took, repeats included, on one device.
        remeasured: base and Open-RS models under one protocol, over seeds.
    """

    folder: Path
    table1: list[Row] = field(default_factory=list)
    scores: list[Published] = field(default_factory=list)
    samples: dict[str, int] = field(default_factory=dict)
    costs: list[Row] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    eval_seconds: float = 0.0
    remeasured: list[Published] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def score(self, model: str, benchmark: str) -> Published | None:
        """A cell of Table 1."""
        return score_of(self.scores, model, benchmark)


def score_of(scores: Sequence[Published], model: str, benchmark: str) -> Published | None:
    wanted = plain(model), benchmark
    return next((one for one in scores if (plain(one.model), one.benchmark) == wanted), None)


def shipped_facts() -> Path:
    """The folder of the CSVs that ship with the package."""
    return Path(str(resources.files("open_rs") / "assets" / "paper"))


def load_facts(folder: Path | None = None) -> Facts:
    """Read every CSV of `folder`, the package's own by default."""
    facts = Facts(folder or shipped_facts())
    if not facts.folder.is_dir():
        raise InputError(f"{facts.folder}: no such folder; give the one that holds table1.csv")

    def part(name: str, reader: Callable[[Path], T]) -> T | None:
        try:
            return reader(facts.folder / name)
        except InputError as error:
            facts.missing.append(str(error))
            return None

    facts.table1, facts.scores = part("table1.csv", table1) or ([], [])
    if facts.scores:
        told = facts.folder / "table1_facts.csv"  # the paper's caption: same for every copy
        told = told if told.exists() else shipped_facts() / told.name
        facts.scores = part(str(told), lambda path: with_facts(facts.scores, path)) or facts.scores
        facts.samples = part(str(told), samples_told) or {}
    facts.costs = part("table2_3_costs.csv", cost_rows) or []
    facts.checkpoints, facts.eval_seconds = part("open_rs_checkpoints.csv", checkpoints) or ([], 0)
    if facts.checkpoints:
        facts.scores = with_checkpoints(facts.scores, facts.folder / "open_rs_checkpoints.csv")
    facts.remeasured = part("sober_reasoning_scores.csv", remeasured) or []
    return facts


def table1(path: Path) -> tuple[list[Row], list[Published]]:
    rows = [row for _, row in read_csv(path)]
    need_columns(path, rows, ("model", "size", *BENCHMARKS))
    for row in rows:
        parameters(row["size"], f"{path}, {row['model']}, size")
    return rows, read_published(path)


def parameters(size: str, where: str = "size") -> float | None:
    """Billions of parameters of a text such as 1.5B; None where it is blank."""
    return number(size.strip().removesuffix("B"), where)


def samples_told(path: Path) -> dict[str, int]:
    """Samples of a problem by model, of a table of facts about models."""
    told = {}
    for line, row in read_csv(path):
        count = number(row.get("samples", ""), f"{path}, line {line}, samples")
        if count is not None:
            told[plain(row["model"])] = int(count)
    return told


def cost_rows(path: Path) -> list[Row]:
    rows = [row for _, row in read_csv(path)]
    need_columns(path, rows, COST_COLUMNS)
    for row in rows:
        for name in ("hours", "usd"):
            number(row[name], f"{path}, {row['model']}, {name}")
    return rows


def checkpoints(path: Path) -> tuple[list[Checkpoint], float]:
    """The checkpoints' scores in the file's order, and the seconds that they took."""
    rows = [row for _, row in read_csv(path)]
    need_columns(path, rows, ("run", "experiment", "step", "benchmark", "seconds"))
    seconds = sum(number(row["seconds"], f"{path}, seconds") or 0.0 for row in rows)
    steps = {
        f"experiment {row['experiment']}, step {row['step']}": (
            row["experiment"],
            int(number(row["step"], f"{path}, step") or 0),
        )
        for row in rows
    }
    released = {
        f"experiment {row['experiment']}, step {row['step']}"
        for row in rows
        if row["run"] == "overall"
    }
    scores = read_published(path)
    unknown = next((one.model for one in scores if one.model not in steps), None)
    if unknown is not None:
        raise InputError(f"{path}: {unknown!r} is no experiment and step; fill both columns")
    held = [Checkpoint(*steps[one.model], one, one.model in released) for one in scores]
    return held, seconds


def remeasured(path: Path) -> list[Published]:
    """The base and the Open-RS models of a leaderboard that may hold many more."""
    return [
        one
        for one in read_published(path)
        if plain(one.model) == plain(BASE) or plain(one.model).startswith("openrs")
    ]


def need_columns(path: Path, rows: list[Row], names: Sequence[str]) -> None:
    absent = [name for name in names if name not in rows[0]]
    if absent:
        raise InputError(f"{path}: has no column {', '.join(absent)}; give the paper's table")


def number(text: Any, where: str) -> float | None:
    """A number of a table; None where the cell is blank."""
    if not str(text).strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: {text!r} is no number; mend the cell") from None
