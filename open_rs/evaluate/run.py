"""Scoring a model on a set of problems: k samples each, every one kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from open_rs.console import progress, say
from open_rs.errors import InputError
from open_rs.evaluate.journal import JOURNAL, Journal, Key
from open_rs.evaluate.partial import PartialScore
from open_rs.evaluate.records import (
    JUDGE,
    SUMMARY,
    cost_of,
    is_finished,
    iter_records,
    light,
    problems_hash,
    read_summary,
    record_row,
    scores_of,
    shares_of,
    write_problems,
    write_records,
)
from open_rs.machine import package_version
from open_rs.problems import Problem
from open_rs.recipe import NativeEngineSpec, Recipe
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import Prompt, Rollout, SamplingParams
from open_rs.runs import RunFolder, different_keys, write_json

PACKAGES = ("open-rs", "torch", "transformers", JUDGE)

Row = dict[str, Any]


def evaluate_model(
    sampler: GradedSampler,
    problems: Sequence[Problem],
    *,
    params: SamplingParams,
    num_samples: int,
    seed: int,
    out: Path,
    name: str,
    model: str,
    step: int = 0,
    confidence: float = 0.95,
    scripts: tuple[str, ...] = ("latin",),
    completion_ids: bool = False,
    usd_per_hour: float | None = None,
    model_sha256: str | None = None,
    extras: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Row:
    """The summary of `num_samples` completions per problem, written with all of them to `out`.

    Each sample goes to a journal as it is graded, so a killed evaluation goes on where it was. One
    of the same model under the same fingerprint that is finished already is read instead; another
    one in `out` is refused. `model` names the weights for readers, `model_sha256` identifies them,
    `extras` are further facts for the fingerprint, `notes` for the summary. Problems whose prompt
    is over the limit are left out and counted in `too_long`. The noise is that of (seed, step 0).
    """
    weights = {"step": step, "model_sha256": model_sha256}
    if model_sha256 is None:
        weights["model"] = model
    fingerprint = harness_fingerprint(
        sampler, problems, params=params, num_samples=num_samples, seed=seed, extras=extras
    )
    held = held_summary(out, weights, fingerprint, confidence)
    if held is not None:
        say(f"{name}: read from {out}, where it was finished before")
        return held
    prompts, too_long = sampler.prompter.encode_all(problems)
    if not prompts:
        raise InputError(
            f"{name}: all {len(problems)} prompts are over prompt.max_prompt_tokens = "
            f"{sampler.prompter.recipe.max_prompt_tokens}; raise it or give other problems"
        )
    with Journal(out / JOURNAL, {**weights, "fingerprint": fingerprint}) as journal:
        write_problems(out, [prompt.problem for prompt in prompts])
        wanted = [(one.problem.id, sample) for one in prompts for sample in range(num_samples)]
        draw_missing(
            journal,
            sampler,
            prompts,
            wanted,
            params=params,
            seed=seed,
            name=name,
            completion_ids=completion_ids,
        )
        seconds = journal.elapsed
        rows: list[Row] = []
        write_records(out, collecting(journal.rows(wanted), rows, scripts))
        summary = {
            "name": name,
            "model": model,
            **weights,
            "num_problems": len(prompts),
            "num_samples": num_samples,
            "too_long": len(too_long),
            "scores": scores_of(rows, num_samples=num_samples, confidence=confidence),
            **shares_of(rows),
            **cost_of(rows, seconds, usd_per_hour),
            "scripts": list(scripts),
            **(notes or {}),
            "fingerprint": fingerprint,
        }
        write_json(out / SUMMARY, summary)
        journal.remove()
    return summary


def draw_missing(
    journal: Journal,
    sampler: GradedSampler,
    prompts: Sequence[Prompt],
    wanted: Sequence[Key],
    *,
    params: SamplingParams,
    seed: int,
    name: str,
    completion_ids: bool,
) -> None:
    """Sample and journal what of `wanted` the journal does not hold, with the score so far told.

    Samples without a usable answer are journalled once all others are there: an evaluation that
    is cut off before asks for them again.
    """
    policy = sampler.grader.policy_version
    partial = PartialScore(journal.rows([key for key in wanted if key in journal.places]))
    failed: list[Row] = []
    if journal.places:
        say(f"{name}: goes on, {len(journal.places)} of {len(wanted)} samples are there")
    with progress(name, len(wanted), done=len(journal.places), note=partial.text) as advance:

        def graded(prompt: Prompt, rollout: Rollout) -> None:
            row = record_row(
                prompt.problem.id,
                rollout,
                seed=seed,
                policy_version=policy,
                with_ids=completion_ids,
            )
            if rollout.error is None:
                journal.add(row)
            else:
                failed.append(row)
            partial.add(row)
            advance(1)

        sampler.sample(
            prompts,
            group_size=len(wanted) // len(prompts),
            params=params,
            seed=seed,
            on_graded=graded,
            skip=journal.places,
            keep=False,
        )
    for row in failed:
        journal.add(row)


def validation_settings(recipe: Recipe, run: RunFolder, step: int) -> Row:
    """What `evaluate_model` is given for the validation score of a step's checkpoint, or of the
    start.
    """
    from open_rs.models import model_hash
    from open_rs.rollout.build import evaluation_params

    weights = str(run.checkpoint(step)) if step else recipe.model.path
    name = f"validation-{step:06d}"
    return {
        "params": evaluation_params(recipe),
        "num_samples": recipe.evaluate.validation_samples,
        "seed": recipe.evaluate.seed,
        "out": run.evaluation(name),
        "name": name,
        "model": weights,
        "step": step,
        "confidence": recipe.evaluate.confidence,
        "scripts": recipe.evaluate.scripts,
        "completion_ids": recipe.evaluate.completion_ids,
        "usd_per_hour": hourly_price(recipe),
        "model_sha256": model_hash(recipe.model.at(weights)),
    }


def validation_metrics(summary: Row) -> dict[str, float]:
    """A validation score as metrics.jsonl has it."""
    found = summary["scores"]["pass@1"]
    ends = {f"validation/pass@1_{end}": found[end] for end in ("low", "high")}
    return {"validation/pass@1": found["value"], **ends}


def hourly_price(recipe: Recipe) -> float | None:
    """Dollars for an hour of the device that samples; None where it has no known price, or where
    an endpoint does.
    """
    if not isinstance(recipe.rollout.engine, NativeEngineSpec):
        return None
    from open_rs.models import pick_device
    from open_rs.plan.cost import device_name, price_per_hour

    return price_per_hour(recipe.budget, device_name(pick_device(recipe.model)))


def collecting(rows: Iterator[Row], kept: list[Row], scripts: tuple[str, ...]) -> Iterator[Row]:
    """`rows` one by one, each put into `kept` without its text."""
    for row in rows:
        kept.append(light(row, scripts))
        yield row


def harness_fingerprint(
    sampler: GradedSampler,
    problems: Sequence[Problem],
    *,
    params: SamplingParams,
    num_samples: int,
    seed: int,
    extras: Mapping[str, Any] | None = None,
) -> Row:
    """Everything about a measurement that is not the model; plain JSON values."""
    return {
        "problems": problems_hash(problems),
        "prompt": sampler.prompter.fingerprint,
        "template": sampler.prompter.template_hash,
        "opens_think": sampler.prompter.opens_think,
        "sampling": asdict(params) | {"stop": list(params.stop)},
        "num_samples": num_samples,
        "seed": seed,
        **sampler.engine.harness,
        "grader_policy": sampler.grader.policy_version,
        "versions": {package: package_version(package) for package in PACKAGES},
        **(extras or {}),
    }


def held_summary(out: Path, weights: Row, fingerprint: Row, confidence: float) -> Row | None:
    """What a finished evaluation in `out` found; None where there is none yet.

    At another confidence its intervals are computed anew from its records.
    """
    if not is_finished(out):
        return None
    held = read_summary(out)
    found = {key: held.get(key) for key in weights} | {"fingerprint": held["fingerprint"]}
    differing = sorted(different_keys(found, weights | {"fingerprint": fingerprint}))
    if differing and set(differing) <= {
        "fingerprint.grader_policy",
        f"fingerprint.versions.{JUDGE}",
    }:
        was, now = (
            f"policy {one['grader_policy']}, {JUDGE} {one['versions'].get(JUDGE)}"
            for one in (held["fingerprint"], fingerprint)
        )
        raise InputError(
            f"{out}: was graded by {was}, and this version has {now}; grade it anew by open-rs "
            f"evaluate --regrade {out}"
        )
    if differing:
        raise InputError(
            f"{out}: already holds another evaluation (different: {', '.join(differing[:5])}); "
            "remove that folder or write to another one"
        )
    if held["scores"]["pass@1"]["confidence"] != confidence:
        rows = [light(row, ()) for row in iter_records(out, held)]
        held["scores"] = scores_of(rows, num_samples=held["num_samples"], confidence=confidence)
        write_json(out / SUMMARY, held)
    return held
