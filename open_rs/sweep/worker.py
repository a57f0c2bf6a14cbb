"""A process that makes one run after another: python -m open_rs.sweep.worker.

Reads a line of JSON for each: {"run": folder, "recipe": {...}, "sibling": folder or null,
"take_over": true or false}; answers {"status": "done"}, or "failed" or "stopped" with the reason.
What the stages print goes to the run's sweep.log. A signal saves and ends the process, as in
training.
"""

import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_rs.console import say
from open_rs.errors import GuardStop, InputError, NonFiniteStop
from open_rs.interrupt import Interrupted
from open_rs.recipe import Recipe, recipe_from_dict
from open_rs.runs import Ledger, RunFolder, append_jsonl, open_run, read_metrics
from open_rs.sweep.cells import early_end
from open_rs.text import redact

LOG = "sweep.log"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"status": "ready"}), file=answers)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers)


def answer(asked: dict[str, Any]) -> dict[str, str]:
    """Make one run; whatever goes wrong in it is told, and the next run can come."""
    path = Path(asked["run"])
    try:
        recipe = recipe_from_dict(asked["recipe"])
        run = open_run(path, recipe)
        with log_to(path / LOG):
            sibling = None if asked["sibling"] is None else Path(asked["sibling"])
            make_run(recipe, run, sibling, take_over=asked["take_over"])
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
    return {"status": "done", "reason": ""}


def make_run(
    recipe: Recipe, run: RunFolder, sibling: Path | None, *, take_over: bool = False
) -> None:
    """curate -> train -> evaluate, going on where it stands; no plan, since a cell's cost is known
    from the first one's ledger.
    """
    from open_rs.budget import governed
    from open_rs.curate import curate
    from open_rs.evaluate.held_out import evaluate_run
    from open_rs.lock import lock_folder

    locked = lock_folder(run.path, take_over=take_over)
    with locked, governed(recipe, run, "curate") as budget:
        if recipe.sources:
            with budget.ledger.phase("curate") as figures:
                curate(recipe, run.curated, workers=1, figures=figures)
        train_to_its_end(recipe, run, budget.ledger)
        if recipe.data.test is not None:
            if sibling is not None:
                take_base_score(recipe, run, sibling)
            evaluate_run(run)


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


def take_base_score(recipe: Recipe, run: RunFolder, sibling: Path) -> None:
    """The score of the model before training, where a finished run of the sweep has this very
    one: same weights, problems, sampling and seed.
    """
    from open_rs.evaluate.held_out import held_out_sets, is_done
    from open_rs.evaluate.scoring import folder_of
    from open_rs.evaluate.target import Target

    for held in held_out_sets(run, recipe, ()):
        target = Target(recipe.model.path, recipe, run, 0)
        mine = folder_of(target, held)
        theirs = RunFolder(sibling).evaluation(mine.name)
        if not mine.exists() and is_done(target, held, theirs):
            part = mine.with_name(f".{mine.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(theirs, part)
            part.rename(mine)


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
