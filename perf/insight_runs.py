"""What the runs of recipes/insights came to: `docs/insights.json`, from which the page is made.

A run is read from its folder alone: the validation scores, with every sample of them, and the rows
of metrics. All numbers are means over what the key names; lengths are in tokens.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_rs.evaluate.records import PROBLEMS, RECORDS, is_finished, read_summary
from open_rs.problems import read_jsonl
from open_rs.recipe import Recipe, load_recipe
from open_rs.runs import RunFolder, read_metrics
from open_rs.sweep.cells import Cell, cells_of, shared
from open_rs.sweep.cells import is_finished as is_made

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "open_rs" / "assets" / "recipes" / "insights"
HARD = ("arithmetic/level4", "arithmetic/level5")
SMALL_TEST, DRAWS = (
    30,
    2000,
)  # problems with one sample each, as AIME24 was used; draws of such sets

Row = dict[str, Any]


def load_recipes(overrides: Sequence[str] = ()) -> dict[str, Recipe]:
    """The experiments by the names of their files, in order."""
    return {path.stem: load_recipe(path, overrides) for path in sorted(RECIPES.glob("[0-9]*.toml"))}


def cells_by_experiment(recipes: Mapping[str, Recipe], runs: Path) -> dict[str, list[Cell]]:
    sweeps = shared(cells_of(recipe, runs / name) for name, recipe in recipes.items())
    return dict(zip(recipes, sweeps, strict=True))


def collect(recipes: Mapping[str, Recipe], runs: Path) -> Row:
    """{"experiments": {name: {arm: [run]}}, "runs": {run: what it came to}}, finished runs only;
    `seeds_asked` and `runs_asked` of the recipes.
    """
    sweeps = cells_by_experiment(recipes, runs)
    found: Row = {
        "seeds_asked": max(recipe.sweep.seeds for recipe in recipes.values()),
        "runs_asked": len({cell.run.path for cells in sweeps.values() for cell in cells}),
        "experiments": {},
        "runs": {},
    }
    for name, cells in sweeps.items():
        arms: dict[str, list[str]] = {}
        for cell in cells:
            key = str(cell.run.path.relative_to(runs))
            arms.setdefault(cell.arm, [])
            if key not in found["runs"] and is_made(cell):
                found["runs"][key] = run_row(cell)
            if key in found["runs"]:
                arms[cell.arm].append(key)
        found["experiments"][name] = arms
    return found


def run_row(cell: Cell) -> Row:
    """Series over the scored steps (`steps`) and over all steps, and what choosing a checkpoint on
    a small test set would have told.
    """
    rows = read_metrics(cell.run)
    folders = scored_folders(cell.run)
    summaries = [read_summary(folder) for folder in folders]
    graded = [samples_of(folder) for folder in folders]
    hard = hard_problems(folders[0])
    trained = [row for row in rows if row["step"] > 0]
    return rounded(
        {
            "seed": cell.seed,
            "problems": graded[0].shape[0],
            "samples": graded[0].shape[1],
            "steps": [summary["step"] for summary in summaries],
            "score": [float(one.mean()) for one in graded],
            "hard_score": [float(one[hard].mean()) for one in graded],
            "other_script": [summary["other_script_frac"] for summary in summaries],
            "tokens": [summary["mean_tokens"] for summary in summaries],
            "length": [row["completion/mean_tokens"] for row in trained],
            "p10": [row["completion/p10_tokens"] for row in trained],
            "p90": [row["completion/p90_tokens"] for row in trained],
            "dead": [row["groups/dead_frac"] for row in trained],
            "drawn": sum(row["tokens/completion"] for row in trained),
            "chosen": chosen_scores(graded[1:], np.random.default_rng(cell.seed)),
        }
    )


def scored_folders(run: RunFolder) -> list[Path]:
    return sorted(one for one in run.evaluation("").glob("validation-*") if is_finished(one))


def samples_of(folder: Path) -> NDArray[np.float64]:
    """Correct or not [problems, samples]; what could not be graded counts as wrong here."""
    by_problem: dict[str, list[float]] = {}
    for _, row in read_jsonl(folder / RECORDS):
        by_problem.setdefault(row["problem_id"], []).append(float(bool(row["correct"])))
    return np.array([by_problem[one["id"]] for _, one in read_jsonl(folder / PROBLEMS)])


def hard_problems(folder: Path) -> NDArray[np.bool_]:
    return np.array([one["source"] in HARD for _, one in read_jsonl(folder / PROBLEMS)])


def chosen_scores(
    graded: Sequence[NDArray[np.float64]], rng: np.random.Generator
) -> list[dict[str, float]]:
    """For m = 1, 2, ..., the last m checkpoints: the best of them on a small test set, by its score
    there and by that on all samples of the problems that are not in it; means over `DRAWS` sets.

    graded: for each checkpoint correct or not [problems, samples]. Of each problem in the small set
    one sample is taken, a checkpoint's own. Among equals the earliest is chosen.
    """
    problems, samples = graded[0].shape
    seen, fresh = np.zeros((2, len(graded), DRAWS))
    for draw in range(DRAWS):
        order = rng.permutation(problems)
        small, rest = order[:SMALL_TEST], order[SMALL_TEST:]
        picks = rng.integers(samples, size=(len(graded), SMALL_TEST))
        told = [one[small, pick].mean() for one, pick in zip(graded, picks, strict=True)]
        truth = [one[rest].mean() for one in graded]
        for m in range(1, len(graded) + 1):
            best = len(graded) - m + int(np.argmax(told[-m:]))
            seen[m - 1, draw], fresh[m - 1, draw] = told[best], truth[best]
    return [
        {"of": m + 1, "seen": float(seen[m].mean()), "fresh": float(fresh[m].mean())}
        for m in range(len(graded))
    ]


def rounded(value: Any) -> Any:
    """Six digits: what the page shows needs no more, and the file stays small."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def write_data(path: Path, data: Row) -> None:
    """A line a run, so that a change of one is a change of one line."""
    lines = [f"{json.dumps(key)}: {json.dumps(row)}" for key, row in data["runs"].items()]
    head = json.dumps({key: value for key, value in data.items() if key != "runs"}, indent=1)
    path.write_text(
        head[:-2] + ',\n "runs": {\n' + ",\n".join(lines) + "\n }\n}\n", encoding="utf-8"
    )
