"""Held-out scores of a run: its base against the checkpoint that validation picks."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from open_rs.budget import Budget, governed
from open_rs.console import say
from open_rs.errors import InputError
from open_rs.evaluate.compare import compare, judge_as_family
from open_rs.evaluate.records import is_finished, read_summary, total_tokens
from open_rs.evaluate.run import evaluate_model, hourly_price, validation_settings
from open_rs.evaluate.scoring import (
    HeldOut,
    folder_of,
    open_benchmarks,
    score,
    scored_steps,
    weights_hash,
)
from open_rs.evaluate.select import select_checkpoint
from open_rs.evaluate.target import Target
from open_rs.grade.policy import policy_version
from open_rs.interrupt import at_once
from open_rs.overlap import refuse_overlap
from open_rs.problems import Problem, load_problems
from open_rs.recipe import NativeEngineSpec, Recipe, load_recipe
from open_rs.rollout.build import evaluation_params, open_sampler, training_source
from open_rs.runs import Ledger, RunFolder, log_event, read_log, write_json

Row = dict[str, Any]


def evaluate_run(
    run: RunFolder,
    *,
    select: bool = False,
    benchmarks: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> list[Row]:
    """Choose a checkpoint on validation, score it and the base on held-out problems, compare.

    The held-out problems are `benchmarks`, or else the recipe's test set; with `select` every
    checkpoint without a validation score gets one first. Only the checkpoint that was picked is
    scored on them, and the base, under the same settings; what is finished is not done again.
    Returns the comparisons, which are written to evaluations/; several are judged as one family.
    """
    recipe = load_recipe(run.recipe, changes)
    with governed(recipe, run, "evaluate") as budget:
        return score_and_compare(recipe, run, budget, select, benchmarks)


def score_and_compare(
    recipe: Recipe, run: RunFolder, budget: Budget, select: bool, benchmarks: Sequence[str]
) -> list[Row]:
    """`evaluate_run` under the settings of `recipe`."""
    if not isinstance(recipe.rollout.engine, NativeEngineSpec):
        raise InputError(
            f"{run.path}: base and checkpoint are sampled in this process; serve one of them and "
            "evaluate it by itself, as in open-rs evaluate CHECKPOINT --engine openai"
        )
    with at_once():
        budget.at_price(hourly_price(recipe))
        sets = held_out_sets(run, recipe, benchmarks)
    if select:
        score_validation(run, budget.ledger)
    chosen = select_checkpoint(run)
    step = chosen["step"]
    say(f"selected: step {step}, validation pass@1 {chosen['pass@1']:.3f} ({chosen['rule']})")
    if last_selected(run) != step:
        log_event(run, "select", step, rule=chosen["rule"])
    found = []
    for held in sets:
        base = Target(recipe.model.path, recipe, run, 0)
        after = Target(str(run.checkpoint(step)), recipe, run, step)
        for target in (base, after):
            if not is_done(target, held, folder_of(target, held)):
                score(target, held, folder_of(target, held), budget.ledger)
        comparison = compare(
            folder_of(base, held), folder_of(after, held), recipe.evaluate.confidence
        )
        steps = scored_steps(run, held)
        found.append(comparison | {"selection": chosen, "scored_steps": steps})
    if len(found) > 1:
        family = judge_as_family(found, recipe.evaluate.confidence)
        found = [{**comparison, "family": family} for comparison in found]
    for held, comparison in zip(sets, found, strict=True):
        write_json(run.evaluation(comparison_name(held)), comparison)
    return found


def comparison_name(held: HeldOut) -> str:
    return "comparison.json" if held.label == "test" else f"comparison-{held.label}.json"


def held_out_sets(run: RunFolder, recipe: Recipe, benchmarks: Sequence[str]) -> list[HeldOut]:
    if benchmarks:
        sets = open_benchmarks(benchmarks)
        refuse_seen(run, recipe, sets)
        return sets
    if recipe.data.test is None:
        raise InputError(
            f"{run.path}: its recipe has no data.test, so there is nothing to compare on; name a "
            "benchmark or a file by --benchmark"
        )
    return [HeldOut("test", load_problems(recipe.data.test), None)]


def refuse_seen(run: RunFolder, recipe: Recipe, sets: Sequence[HeldOut]) -> None:
    """Refuse problems that chose the checkpoint or that it was trained on: they are not held out.
    Training has refused the same of the recipe's own test set.
    """
    seen: dict[str, Sequence[Problem]] = {}
    if recipe.data.validation is not None:
        seen["data.validation"] = load_problems(recipe.data.validation)
    try:
        seen["data.train"] = load_problems(training_source(recipe, run))
    except InputError as error:
        say(f"the training problems cannot be read, so nothing was looked up among them ({error})")
    for held in sets:
        for name, problems in seen.items():
            refuse_overlap({name: problems, held.label: held.problems})


def is_done(target: Target, held: HeldOut, folder: Path) -> bool:
    """Whether this very score is finished, as far as can be told without loading the model.

    Where it is not, scoring goes on with what is there, or says what it does not fit.
    """
    if not is_finished(folder):
        return False
    recipe, summary = target.recipe, read_summary(folder)
    search = recipe.evaluate.search
    wanted = {
        "problems": held.content,
        "sampling": asdict(evaluation_params(recipe)) | {"stop": []},
        "num_samples": recipe.evaluate.num_samples,
        "seed": recipe.evaluate.seed,
        "grader_policy": policy_version(unboxed_numbers=recipe.grade.unboxed_numbers),
        "search": search and search.model_dump(mode="json"),
    }
    return (
        {key: summary["fingerprint"].get(key) for key in wanted} == wanted
        and summary["step"] == target.step
        and summary.get("model_sha256") == weights_hash(target)
        and summary["scores"]["pass@1"]["confidence"] == recipe.evaluate.confidence
    )


def score_validation(run: RunFolder, ledger: Ledger, steps: Sequence[int] | None = None) -> None:
    """A validation score for every checkpoint that has none, or for those of `steps`, as training
    takes it.
    """
    from open_rs.models import load_model, mixed_precision, training_model
    from open_rs.train.checkpoint import checkpoint_steps

    recipe = load_recipe(run.recipe)
    if recipe.data.validation is None:
        raise InputError(
            f"{run.path}: its recipe has no data.validation to select on; score one checkpoint by "
            "open-rs evaluate CHECKPOINT --benchmark NAME"
        )
    problems = load_problems(recipe.data.validation)
    for step in sorted(checkpoint_steps(run)) if steps is None else steps:
        settings = validation_settings(recipe, run, step)
        if is_finished(settings["out"]):
            continue
        weights = training_model(recipe.model.at(settings["model"]))
        with at_once():
            model = load_model(weights)
        with (
            open_sampler(recipe, model=model, path=weights.path) as sampler,
            mixed_precision(recipe.model),
            ledger.phase("evaluate", step) as figures,
        ):
            summary = evaluate_model(sampler, problems, **settings)
            figures["tokens"] = total_tokens(summary)


def last_selected(run: RunFolder) -> int | None:
    """The step of the last `select` event."""
    steps = [row["step"] for row in read_log(run.events) if row.get("event") == "select"]
    return steps[-1] if steps else None
