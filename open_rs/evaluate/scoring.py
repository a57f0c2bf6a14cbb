"""A model or a checkpoint scored on benchmarks, a folder for each."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_rs.benchmarks import BENCHMARKS, gradable, load_benchmark
from open_rs.console import say
from open_rs.errors import InputError
from open_rs.evaluate.journal import JOURNAL, spent_usd
from open_rs.evaluate.records import is_finished, problems_hash, total_tokens
from open_rs.evaluate.run import evaluate_model, hourly_price
from open_rs.evaluate.target import Target
from open_rs.interrupt import paid, poll
from open_rs.problems import Problem
from open_rs.prompts import Prompter, ServerPrompter
from open_rs.recipe import OpenAIEngineSpec, load_recipe
from open_rs.rollout.build import evaluation_params, open_sampler, with_search
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.protocol import SamplingParams
from open_rs.runs import Ledger, RunFolder, append_jsonl, read_log
from open_rs.text import redact_all

Row = dict[str, Any]


class HeldOut:
    """A set of problems that models are scored on."""

    def __init__(self, label: str, problems: Sequence[Problem], benchmark: str | None) -> None:
        self.label, self.benchmark = label, benchmark
        self.problems, self.ungradable = list(problems), list[str]()
        if benchmark is not None:
            self.problems, self.ungradable = gradable(benchmark, problems)
            if self.ungradable:
                say(
                    f"{benchmark}: {len(self.ungradable)} of {len(problems)} left out, their "
                    f"published answer cannot be graded ({', '.join(self.ungradable)})"
                )
        self.content = problems_hash(self.problems)


def open_benchmark(name: str) -> HeldOut:
    """A benchmark of the table, or a file."""
    label = name if name in BENCHMARKS else Path(name).name.partition(".")[0] or "benchmark"
    problems = load_benchmark(name)
    part = label in BENCHMARKS and len(problems) != BENCHMARKS[label].num_problems
    if part or label.startswith(("test", "validation")):  # a run's own sets bear these names
        label = f"file-{label}"
    return HeldOut(label, problems, name)


def open_benchmarks(names: Sequence[str]) -> list[HeldOut]:
    sets = [open_benchmark(name) for name in names]
    labels = [one.label for one in sets]
    if len(set(labels)) < len(labels):
        raise InputError(
            f"--benchmark: {', '.join(labels)}: these go to folders of one name; give each once"
        )
    return sets


def evaluate_target(
    target: Target, sets: Sequence[HeldOut], out: Path | None, ledger: Ledger | None = None
) -> list[Row]:
    """A summary per benchmark, each written to a folder of its own: `out` for one benchmark,
    `out`/NAME for several; without `out`, inside the run of a checkpoint, else below evaluations/.
    """
    if out is None:
        folders = [folder_of(target, one) for one in sets]
    else:
        folders = [out] if len(sets) == 1 else [out / one.label for one in sets]
    return [score(target, one, folder, ledger) for one, folder in zip(sets, folders, strict=True)]


def folder_of(target: Target, held: HeldOut) -> Path:
    """Where a score goes that was given no folder."""
    if target.run is not None:
        return target.run.evaluation(f"{held.label}-{target.step:06d}")
    return target.home / held.label


def score(target: Target, held: HeldOut, out: Path, ledger: Ledger | None = None) -> Row:
    """One score; where it is of a run, the use of the test set is remembered and the time noted, in
    `ledger` or, beside a start that may be under way, in a row of its own.
    """
    if target.run is None:
        return sample_and_score(target, held, out)
    before = is_finished(out)
    poll()
    remember_use(target.run, target.step, held, out)
    ledger = ledger or Ledger(target.run.ledger, hourly_price(target.recipe))
    with ledger.phase("evaluate", target.step) as figures:
        paid_before = paid()
        try:
            summary = sample_and_score(target, held, out)
        finally:  # one that was broken off has cost, too
            figures["usd"] = (paid() - paid_before) or None
        if not before:
            figures["tokens"] = total_tokens(summary)
    return summary


def sample_and_score(target: Target, held: HeldOut, out: Path) -> Row:
    recipe, engine = target.recipe, target.recipe.rollout.engine
    endpoint = engine if isinstance(engine, OpenAIEngineSpec) else None
    spent = spent_usd(out / JOURNAL)
    with open_sampler(recipe, path=target.path, spent_usd=spent) as opened:
        sampler = with_search(opened, recipe)
        params = evaluation_params(recipe)
        if target.fitted:
            sampler, params = fitted(sampler, held, params)
        return evaluate_model(
            sampler,
            held.problems,
            params=params,
            num_samples=recipe.evaluate.num_samples,
            seed=recipe.evaluate.seed,
            out=out,
            name=out.name,
            model=endpoint.model if endpoint else target.path,
            step=target.step,
            confidence=recipe.evaluate.confidence,
            scripts=recipe.evaluate.scripts,
            completion_ids=recipe.evaluate.completion_ids,
            usd_per_hour=hourly_price(recipe),
            model_sha256=None if endpoint else weights_hash(target),
            extras=benchmark_facts(held),
            notes={"ungradable": len(held.ungradable), **training_prompt(target, sampler)},
        )


def weights_hash(target: Target) -> str:
    from open_rs.models import model_hash  # imports torch, which an endpoint does not need

    return model_hash(target.recipe.model.at(target.path))


def benchmark_facts(held: HeldOut) -> Row:
    """The benchmark's name and version; its content is in `problems` whatever its name."""
    known = None if held.benchmark is None else BENCHMARKS.get(held.benchmark)
    version = None if known is None else known.version
    return {"benchmark": {"name": held.label, "version": version}}


def training_prompt(target: Target, sampler: GradedSampler) -> Row:
    """The fingerprint of the prompt in training beside the one of the evaluation, told aloud where
    they differ.
    """
    if target.run is None:
        return {}
    prompter = sampler.prompter
    if isinstance(prompter, ServerPrompter):
        return {"training_prompt": None}
    trained = load_recipe(target.run.recipe).prompt
    fingerprint = Prompter(prompter.tokenizer, trained).fingerprint
    if fingerprint != prompter.fingerprint:
        say("the prompt is not the one of training; the summary and the report say so")
    return {"training_prompt": fingerprint}


def fitted(
    sampler: GradedSampler, held: HeldOut, params: SamplingParams
) -> tuple[GradedSampler, SamplingParams]:
    """Limits on tokens lowered to what the model's context holds: prompts to half of it, then
    completions to what the longest prompt leaves.
    """
    context = getattr(getattr(sampler.engine, "fit", None), "context", None)
    if context is None:  # no limit, or a server's own affair
        return sampler, params
    prompter = sampler.prompter
    limit = min(prompter.recipe.max_prompt_tokens, context // 2)
    if limit < prompter.recipe.max_prompt_tokens:
        narrower = prompter.recipe.model_copy(update={"max_prompt_tokens": limit})
        prompter = Prompter(prompter.tokenizer, narrower)
        sampler = GradedSampler(sampler.engine, sampler.grader, prompter)
    prompts, too_long = prompter.encode_all(held.problems)
    longest = max((len(prompt.prompt_ids) for prompt in prompts), default=0)
    most = min(params.max_completion_tokens, context - longest)
    if too_long:
        say(f"{held.label}: {len(too_long)} problems left out, their prompt is over {limit} tokens")
    if most < params.max_completion_tokens:
        say(
            f"{held.label}: completions up to {most} tokens, not {params.max_completion_tokens}: "
            f"the model's context is {context} and the longest prompt {longest}"
        )
    return sampler, replace(params, max_completion_tokens=most)


def uses_file(run: RunFolder) -> Path:
    """A row for each time that a checkpoint of the run was scored on problems that choose nothing:
    when, the step, the set and its content hash, the command.
    """
    return run.evaluation("test_uses.jsonl")


def scored_steps(run: RunFolder, held: HeldOut) -> list[int]:
    """The steps whose checkpoints were scored on these problems."""
    uses = [row for row in read_log(uses_file(run)) if row["problems"] == held.content]
    return sorted({row["step"] for row in uses} - {0})


def remember_use(run: RunFolder, step: int, held: HeldOut, out: Path) -> None:
    """Note the use before it happens; one that goes on or is read again is the same use."""
    if is_finished(out) or (out / JOURNAL).exists():
        return
    before = scored_steps(run, held)
    if step and before:
        named = ", ".join(map(str, before))
        say(
            f"{held.label}: these problems were used before, for the checkpoint of step {named}; "
            "the better of several scores on them is better by chance alone"
        )
    row = {"time": time.time(), "step": step, "set": held.label, "problems": held.content}
    append_jsonl(uses_file(run), {**row, "command": redact_all(sys.argv)})
