"""Scoring a model on a set of problems: k samples each, every one kept."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from open_rs.console import progress, say
from open_rs.errors import InputError
from open_rs.evaluate.records import (
    SUMMARY,
    is_finished,
    problems_hash,
    read_records,
    read_summary,
    record_rows,
    scores_of,
    shares_of,
    write_evaluation,
)
from open_rs.problems import Problem
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import SamplingParams
from open_rs.runs import different_keys, package_version, write_json

PACKAGES = ("open-rs", "torch", "transformers", "math-verify")


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
    model_sha256: str | None = None,
    extras: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The summary of `num_samples` completions per problem, written with all of them to `out`.

    An evaluation of the same model under the same fingerprint that is there already is read
    instead; another one is refused. `model` names the weights for readers, `model_sha256`
    identifies them, `extras` are further facts for the fingerprint. Problems whose prompt is over
    the limit are left out and counted in `too_long`. The noise is that of (seed, step 0).
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
    started = time.perf_counter()
    with progress(name, len(prompts) * num_samples) as advance:
        groups = sampler.sample(
            prompts,
            group_size=num_samples,
            params=params,
            seed=seed,
            on_graded=lambda prompt, rollout: advance(1),
        )
    rows = record_rows(groups, seed=seed, policy_version=sampler.grader.policy_version)
    summary = {
        "name": name,
        "model": model,
        **weights,
        "num_problems": len(prompts),
        "num_samples": num_samples,
        "too_long": len(too_long),
        "scores": scores_of(rows, num_samples=num_samples, confidence=confidence),
        **shares_of(rows),
        "seconds": time.perf_counter() - started,
        "fingerprint": fingerprint,
    }
    write_evaluation(out, rows, summary)
    return summary


def harness_fingerprint(
    sampler: GradedSampler,
    problems: Sequence[Problem],
    *,
    params: SamplingParams,
    num_samples: int,
    seed: int,
    extras: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything about a measurement that is not the model; plain JSON values."""
    return {
        "problems": problems_hash(problems),
        "prompt": sampler.prompter.fingerprint,
        "sampling": asdict(params) | {"stop": list(params.stop)},
        "num_samples": num_samples,
        "seed": seed,
        **sampler.engine.harness,
        "grader_policy": sampler.grader.policy_version,
        "versions": {package: package_version(package) for package in PACKAGES},
        **(extras or {}),
    }


def held_summary(
    out: Path, weights: dict[str, Any], fingerprint: dict[str, Any], confidence: float
) -> dict[str, Any] | None:
    """What a finished evaluation in `out` found; None where there is none yet.

    At another confidence its intervals are computed anew from its records.
    """
    if not is_finished(out):
        return None
    held = read_summary(out)
    found = {key: held.get(key) for key in weights} | {"fingerprint": held["fingerprint"]}
    differing = sorted(different_keys(found, weights | {"fingerprint": fingerprint}))
    if differing:
        raise InputError(
            f"{out}: already holds another evaluation (different: {', '.join(differing[:5])}); "
            "remove that folder or write to another one"
        )
    if held["scores"]["pass@1"]["confidence"] != confidence:
        rows, num_samples = read_records(out, held), held["num_samples"]
        held["scores"] = scores_of(rows, num_samples=num_samples, confidence=confidence)
        write_json(out / SUMMARY, held)
    return held
