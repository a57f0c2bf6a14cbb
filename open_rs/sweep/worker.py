"""A process that makes one run after another: python -m open_rs.sweep.worker.

Reads a line of JSON for each: {"run": folder, "recipe": {...}, "siblings": [folder, ...],
"budget": {...}, "take_over": true or false, "only_plan": true or false}; answers {"status": "done"}
(with "hours" and "usd" of a plan), or "failed" or "stopped" with the reason. What the stages print
goes to the run's sweep.log. A signal saves and ends the process, as in training.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_rs.budget import governed
from open_rs.console import say
from open_rs.errors import GuardStop, InputError, NonFiniteStop
from open_rs.interrupt import Interrupted
from open_rs.lock import lock_folder
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.recipe.schema import BudgetRecipe
from open_rs.runs import Ledger, RunFolder, append_jsonl, open_run, read_metrics
from open_rs.sweep.cells import early_end
from open_rs.sweep.sharing import curate_once, take_base_score
from open_rs.text import redact

LOG = "sweep.log"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"status": "ready"}), file=answers)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers)


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Make one run; whatever goes wrong in it is told, and the next run can come."""
    path, found = Path(asked["run"]), dict[str, float]()
    try:
        recipe = recipe_from_dict(asked["recipe"])
        run = open_run(path, recipe)
        with log_to(path / LOG):
            siblings = [RunFolder(Path(one)) for one in asked["siblings"]]
            budget = BudgetRecipe.model_validate(asked["budget"])
            with lock_folder(path, take_over=asked["take_over"]):
                if asked["only_plan"]:
                    found = plan_run(recipe, run, siblings, budget)
                else:
                    make_run(recipe, run, siblings, budget)
    except Interrupted as stopped:
        raise SystemExit(128 + stopped.number) from None
    except InputError as error:
        return {"status": "failed", "reason": str(error)}
    except GuardStop as error:
        return {"status": "stopped", "reason": str(error)}
    except Exception as error:
        with log_to(path / LOG):
            sys.stderr.write(redact(traceback.format_exc()))
        return {"status": "failed", "reason": redact(f"{type(error).__name__}: {error}")}
    return {"status": "done", "reason": "", **found}


def make_run(
    recipe: Recipe, run: RunFolder, siblings: Sequence[RunFolder], budget: BudgetRecipe
) -> None:
    """curate -> train -> evaluate, going on where it stands, within the run's part of the budget of
    the sweep. What siblings have made is not made again.
    """
    from open_rs.evaluate.held_out import evaluate_run

    with governed(recipe.model_copy(update={"budget": budget}), run, "curate") as start:
        if recipe.sources:
            with start.ledger.phase("curate") as figures:
                curate_once(recipe, run, siblings, figures)
        train_to_its_end(recipe, run, start.ledger)
        if recipe.data.test is not None:
            take_base_score(recipe, run, siblings)
            evaluate_run(run)


def plan_run(
    recipe: Recipe, run: RunFolder, siblings: Sequence[RunFolder], budget: BudgetRecipe
) -> dict[str, float]:
    """The forecast of a run: hours, and dollars where a price is known. Its problems are curated
    for that.
    """
    from open_rs.plan.forecast import make_plan
    from open_rs.plan.gather import Wish

    with governed(recipe.model_copy(update={"budget": budget}), run, "plan") as start:
        if recipe.sources:
            with start.ledger.phase("curate") as figures:
                curate_once(recipe, run, siblings, figures)
        with start.ledger.phase("plan"):
            made = make_plan(recipe, run, Wish(download=True))
    if "seconds" not in made:
        raise InputError("the pace of what samples is not known here; see open-rs plan")
    hours = made["seconds"]["total"] / 3600
    return {"hours": hours, "usd": hours * (made["usd_per_hour"] or 0.0)}


def train_to_its_end(recipe: Recipe, run: RunFolder, ledger: Ledger) -> None:
    """Train; one that ends for good before its last step is a result too, scored where it ended."""
    from open_rs.evaluate.held_out import score_validation
    from open_rs.evaluate.records import read_summary
    from open_rs.evaluate.run import validation_metrics
    from open_rs.train.loop import train

    try:
        train(recipe, run)
    except NonFiniteStop as stop:
        say(str(stop))
    end = early_end(recipe, run)
    if end is None or recipe.data.validation is None or not run.checkpoint(end).exists():
        return
    if all("validation/pass@1" not in row for row in read_metrics(run) if row["step"] == end):
        score_validation(run, ledger, [end])
        scored = read_summary(run.evaluation(f"validation-{end:06d}"))
        append_jsonl(run.metrics, {"step": end, **validation_metrics(scored)})


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """What is printed goes to the end of this file."""
    kept = os.dup(2)
    with path.open("ab") as log:
        sys.stderr.flush()
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


if __name__ == "__main__":
    main()
