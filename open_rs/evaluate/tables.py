"""Scores that others have published, judged from what their tables say: one verdict a row.

Columns of a long table: model (or step and experiment, of checkpoints), benchmark, mean (or score);
optionally base, problems, seeds, std, harness, best_of. A wide table has a column for each
benchmark. Of a benchmark that this project knows the number of problems need not be told.
lighteval's result files (.json) are read too.
"""

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_rs.benchmarks import BENCHMARKS
from open_rs.errors import InputError
from open_rs.runs import read_json

SCORES = ("mean", "score", "extractive_match", "accuracy")
FACTS = ("base", "harness", "best_of")


@dataclass(frozen=True)
class Published:
    """One published score.

    Attributes:
        mean: over seeds, from 0 to 1; with one seed a single pass over the problems.
        std: over seeds, None with one.
        rounding: the step to which the figures were rounded, from 0 to 1.
        base: the model that it was trained from, where that is told.
        harness: what measured it, where that is told.
        best_of: how many scores on this very test set it was chosen from.
    """

    where: str
    model: str
    benchmark: str
    mean: float
    std: float | None
    seeds: int
    problems: int
    rounding: float
    base: str | None = None
    harness: str | None = None
    best_of: int = 1


def plain(name: str) -> str:
    """A name without case, spaces and signs: tables spell one model in several ways."""
    return re.sub(r"[^0-9a-z]", "", name.casefold())


_BENCHMARKS = {plain(name): name for name in BENCHMARKS}


def benchmark_name(text: str) -> str:
    """The name of a known benchmark in its usual spellings (math_500, custom|aime24|0)."""
    for part in text.split("|"):
        if plain(part) in _BENCHMARKS:
            return _BENCHMARKS[plain(part)]
    return text


def checkpoint_name(row: Mapping[str, str]) -> str:
    """What a table of checkpoints calls a row: `experiment 3, step 50`, or less."""
    told = [f"{key} {row[key]}" for key in ("experiment", "step") if row.get(key)]
    return ", ".join(told) if "step" in row else ""


def read_published(path: Path) -> list[Published]:
    """The scores of a table (.csv) or of a result file of lighteval (.json)."""
    if path.suffix == ".json":
        return list(_lighteval_results(path))
    rows = read_csv(path)
    columns = list(rows[0][1])
    wide = [column for column in columns if plain(column) in _BENCHMARKS]
    if "benchmark" not in columns and not wide:
        raise InputError(
            f"{path}: needs a column benchmark, or a column for each of some benchmarks "
            f"({', '.join(BENCHMARKS)})"
        )
    if "benchmark" not in columns:  # one row for each cell that is not blank
        rows = [
            (number, row | {"benchmark": name, "mean": row[name]})
            for number, row in rows
            for name in wide
            if row[name].strip()
        ]
    scale = _scale(rows, path)
    decimals = max(len(_score_text(row).partition(".")[2]) for _, row in rows)
    rounding = 10.0**-decimals / scale
    found = [_published(f"{path}, line {number}", row, scale, rounding) for number, row in rows]
    # A run repeated with the same seed is the same score again, not one more.
    return list({replace(row, where=""): row for row in found}.values())


def read_csv(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of each row; a row with a missing or a surplus cell is refused."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); save it as UTF-8") from None
    if not rows:
        raise InputError(f"{path}: holds no rows; give a table with a header and rows")
    for number, row in rows:
        if None in row or None in row.values():
            raise InputError(
                f"{path}, line {number}: has not as many cells as the header; mend the row"
            )
    return rows


def _scale(rows: Sequence[tuple[int, dict[str, str]]], path: Path) -> float:
    """100 for a table in percent, 1 for one in shares: whether any score is above 1."""
    scores = [_score(row, f"{path}, line {number}") for number, row in rows]
    return 100.0 if any(score > 1 for score in scores) else 1.0


def _score_text(row: dict[str, str]) -> str:
    return next((row[name].strip() for name in SCORES if name in row), "")


def _score(row: dict[str, str], where: str) -> float:
    if not any(name in row for name in SCORES):
        raise InputError(f"{where}: no column for the score; name it mean")
    return _number(_score_text(row), f"{where}, score")


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: {text!r} is no number; mend or remove the row") from None
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{where}: {text!r} is no score; mend or remove the row")
    return value


def _count(text: str, where: str) -> int:
    value = _number(text, where)
    if value < 1 or value != int(value):
        raise InputError(f"{where}: {text!r} is no count; give a whole number from 1 on")
    return int(value)


def _published(where: str, row: dict[str, str], scale: float, rounding: float) -> Published:
    filled = {key: text.strip() for key, text in row.items() if text.strip()}
    name = benchmark_name(filled.get("benchmark", ""))
    model = filled.get("model") or checkpoint_name(filled)
    if not model or not name:
        raise InputError(f"{where}: model or benchmark is missing; name both in every row")
    if "problems" not in filled and name not in BENCHMARKS:
        raise InputError(
            f"{where}: how many problems {name} has is not known; add a column problems"
        )
    mean, std = _score(row, where), None
    if mean > scale:
        raise InputError(f"{where}: {mean:g} is above {scale:g}; mend or remove the row")
    seeds = _count(filled.get("seeds", "1"), f"{where}, seeds")
    if seeds > 1:
        if "std" not in filled:
            raise InputError(f"{where}: {seeds} seeds and no std; add the standard deviation")
        std = _number(filled["std"], f"{where}, std") / scale
        if std > math.sqrt(0.5):  # half of them 0 and half 1, of two seeds
            raise InputError(
                f"{where}: std {filled['std']} is more than scores of 0 to {scale:g} can have; "
                "give mean and std on one scale"
            )
    told = {key: filled.get(key) for key in ("base", "harness")}
    return Published(
        where=where,
        model=model,
        benchmark=name,
        mean=mean / scale,
        std=std,
        seeds=seeds,
        problems=_count(filled["problems"], f"{where}, problems")
        if "problems" in filled
        else BENCHMARKS[name].num_problems,
        rounding=rounding,
        best_of=_count(filled.get("best_of", "1"), f"{where}, best_of"),
        **told,
    )


def _lighteval_results(path: Path) -> Iterator[Published]:
    """results_*.json of lighteval: the aggregates of one pass over each task."""
    found = read_json(path)
    try:
        model = found["config_general"]["model_name"]
        results, tasks = found["results"].items(), dict(found["config_tasks"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path}: not a result file of lighteval (config_general, config_tasks and results); "
            "give a table as .csv"
        ) from None
    for task, scores in results:
        config = tasks.get(task.rpartition("|")[0]) or tasks.get(task)
        if config is None:  # "all": the mean over tasks
            continue
        held = scores if isinstance(scores, dict) else {}
        score = next((held[name] for name in SCORES if name in held), None)
        if not isinstance(score, int | float) or not 0 <= score <= 1:
            raise InputError(
                f"{path}: {task} has no score from 0 to 1 named {', '.join(SCORES)}; give a .csv"
            )
        problems = config.get("effective_num_docs")
        if not isinstance(problems, int) or problems < 1:
            raise InputError(
                f"{path}: {task}: how many problems it has is not told (effective_num_docs); give "
                "a .csv"
            )
        yield Published(
            where=str(path),
            model=str(model),
            benchmark=benchmark_name(task),
            mean=float(score),
            std=None,
            seeds=1,
            problems=problems,
            rounding=0.0,
            harness="lighteval",
        )


def with_facts(rows: Sequence[Published], path: Path) -> list[Published]:
    """The rows with what a table of facts adds: columns model, and any of benchmark, base, harness,
    best_of. A fact without a benchmark holds for all of them.
    """
    facts = read_csv(path)
    for number, fact in facts:
        if not fact.get("model", "").strip() or not set(FACTS) & fact.keys():
            raise InputError(
                f"{path}, line {number}: needs a model, and columns of {', '.join(FACTS)}"
            )
        known = {plain(row.model) for row in rows}
        if plain(fact["model"]) not in known:
            raise InputError(
                f"{path}, line {number}: no model {fact['model']!r} in the table; mend the name"
            )
    return [_with_facts(row, facts, path) for row in rows]


def _with_facts(
    row: Published, facts: Sequence[tuple[int, dict[str, str]]], path: Path
) -> Published:
    for number, fact in facts:
        about = fact.get("benchmark", "").strip()
        if plain(fact["model"]) != plain(row.model) or (
            about and benchmark_name(about) != row.benchmark
        ):
            continue
        told: dict[str, Any] = {
            key: fact[key].strip() for key in FACTS if fact.get(key, "").strip()
        }
        if "best_of" in told:
            most = _count(told["best_of"], f"{path}, line {number}, best_of")
            told["best_of"] = max(most, row.best_of)
        row = replace(row, **told)
    return row


def with_checkpoints(rows: Sequence[Published], path: Path) -> list[Published]:
    """The rows with the number of scores that they were chosen from: `path` is a table of the
    checkpoints that were scored on these test sets, with columns step, benchmark, a score and,
    where there were several, experiment.

    A single score that is the highest of all checkpoints on its benchmark was chosen from all of
    them; one that is the highest of its own experiment, from those of that experiment.
    """
    table = read_csv(path)
    scored: dict[str, dict[tuple[str, str], float]] = {}
    scale = _scale(table, path)
    for number, row in table:
        if "step" not in row or "benchmark" not in row:
            raise InputError(f"{path}, line {number}: needs columns step and benchmark")
        value = _score(row, f"{path}, line {number}") / scale
        key = (row.get("experiment", ""), row["step"])
        best = scored.setdefault(benchmark_name(row["benchmark"]), {})
        best[key] = max(value, best.get(key, 0.0))
    return [
        replace(row, best_of=max(row.best_of, _chosen_from(row, scored.get(row.benchmark, {}))))
        if row.seeds == 1
        else row
        for row in rows
    ]


def _chosen_from(row: Published, scores: dict[tuple[str, str], float]) -> int:
    """How many checkpoints have a score of which this is the highest; 1 where it is none's."""

    def is_best_of(group: dict[tuple[str, str], float]) -> bool:
        return bool(group) and abs(max(group.values()) - row.mean) <= 0.51 * row.rounding

    if is_best_of(scores):
        return len(scores)
    groups = [
        {key: value for key, value in scores.items() if key[0] == name}
        for name in {key[0] for key in scores}
    ]
    return max((len(group) for group in groups if is_best_of(group)), default=1)
