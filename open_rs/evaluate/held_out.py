"""Held-out scores of a run (base against the selected checkpoint) or of any model on a file."""

from pathlib import Path
from typing import Any

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.evaluate.compare import compare
from open_rs.evaluate.records import is_finished, total_tokens
from open_rs.evaluate.run import evaluate_model
from open_rs.evaluate.select import select_checkpoint
from open_rs.problems import Problem, load_problems
from open_rs.recipe import Recipe, Source, load_recipe
from open_rs.runs import Ledger, RunFolder, log_event, write_json

COMPARISON = "comparison.json"


def evaluate_run(run: RunFolder) -> dict[str, Any]:
    """Choose a checkpoint on validation, score it and the base on the test split, compare.

    The base is scored under the same settings, prompts and grader; both are scored once. Returns
    what it writes to evaluations/comparison.json.
    """
    recipe = load_recipe(run.recipe)
    if recipe.data.test is None:
        raise InputError(
            f"{run.path}: its recipe has no data.test, so there is nothing to compare on; score "
            "a checkpoint by open-rs evaluate CHECKPOINT --benchmark FILE --out DIR"
        )
    problems = load_problems(recipe.data.test)
    chosen = select_checkpoint(run)
    step = chosen["step"]
    say(f"selected: step {step}, validation pass@1 {chosen['pass@1']:.3f} ({chosen['rule']})")
    base, after = test_split(run, 0), test_split(run, step)
    score_model(recipe, run, problems, recipe.model.path, 0, base)
    score_model(recipe, run, problems, str(run.checkpoint(step)), step, after)
    comparison = compare(base, after, recipe.evaluate.confidence) | {"selection": chosen}
    log_event(run, "select", step, rule=chosen["rule"])
    write_json(run.evaluation(COMPARISON), comparison)
    return comparison


def test_split(run: RunFolder, step: int) -> Path:
    return run.evaluation(f"test-{step:06d}")


def score_model(
    recipe: Recipe, run: RunFolder, problems: list[Problem], model: str, step: int, out: Path
) -> None:
    """One test score of the run, with its seconds in the ledger."""
    held = is_finished(out)
    with Ledger(run.ledger).phase("evaluate", step) as figures:
        summary = sample_and_score(recipe, problems, model, step, out)
        figures["tokens"] = 0 if held else total_tokens(summary)


def evaluate_benchmark(recipe: Recipe, model: str, benchmark: str, out: Path) -> dict[str, Any]:
    """Score a model (folder, hub id or `tiny`) on a problem file."""
    problems = load_problems(Source(path=benchmark))
    return sample_and_score(recipe, problems, model, 0, out)


def sample_and_score(
    recipe: Recipe, problems: list[Problem], model: str, step: int, out: Path
) -> dict[str, Any]:
    from open_rs.models import model_hash
    from open_rs.rollout.build import evaluation_params, open_sampler

    with open_sampler(recipe, path=model) as sampler:
        return evaluate_model(
            sampler,
            problems,
            params=evaluation_params(recipe),
            num_samples=recipe.evaluate.num_samples,
            seed=recipe.evaluate.seed,
            out=out,
            name=out.name,
            model=model,
            step=step,
            confidence=recipe.evaluate.confidence,
            model_sha256=model_hash(recipe.model.at(model)),
        )
