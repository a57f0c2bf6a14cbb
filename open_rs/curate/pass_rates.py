"""How often the model solves each problem, sampled through the rollout engine and journalled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from open_rs.console import progress
from open_rs.curate.filters import PassRate, grading_inputs, pass_rate
from open_rs.curate.stages import Drop, Judge, Row, Setting, Verdict
from open_rs.problems import Problem
from open_rs.recipe import PassRateFilter, Recipe
from open_rs.recipe.filters import PromptLimitFilter
from open_rs.runs import append_jsonl, read_log

if TYPE_CHECKING:
    from open_rs.prompts import Prompter
    from open_rs.rollout.graded import GradedSampler
    from open_rs.rollout.protocol import Prompt, Rollout

STREAM = -1  # the noise stream of curation, apart from evaluation's (0) and training's (from 1)
PROMPTS_AT_ONCE = 256  # whose completions are in memory together


@contextmanager
def open_pass_rate(spec: PassRateFilter, setting: Setting) -> Iterator[Judge]:
    """Measures what the journal does not hold yet, then keeps the band of `spec`."""
    assert setting.samplers is not None
    sampler = setting.samplers.get(setting.recipe)
    journal = PassRateJournal(setting.journal("pass_rates"))

    def judge(problems: Sequence[Problem]) -> list[Verdict]:
        rates = journal.measure(problems, sampler, setting.recipe, spec.num_samples)
        return pass_rate(problems, rates, above=spec.above, below=spec.below)

    yield judge


@contextmanager
def open_prompt_limit(spec: PromptLimitFilter, setting: Setting) -> Iterator[Judge]:
    assert setting.samplers is not None
    prompter = setting.samplers.get(setting.recipe).prompter
    yield lambda problems: prompt_limit(problems, prompter)


def prompt_limit(problems: Sequence[Problem], prompter: Prompter) -> list[Verdict]:
    """Drops problems whose prompt is over the limit: a prompt is never cut."""
    limit = prompter.recipe.max_prompt_tokens
    lengths = [len(prompter.encode(problem).prompt_ids) for problem in problems]
    return [
        Drop(f"prompt over {limit} tokens", f"{length} tokens") if length > limit else None
        for length in lengths
    ]


class PassRateJournal:
    """The pass rates in the file `path`, a row per problem, appended as its last sample is graded.

    A killed curation goes on where it was. What comes out does not depend on where that was: the
    noise of a sample is a function of (seed, step, problem, sample) alone. Each row carries the key
    of how it was sampled, and rows under another key are not used. The thresholds are not part of
    it, so they can be changed without sampling again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[tuple[str, int], dict[str, PassRate]] = {}

    def measure(
        self, problems: Sequence[Problem], sampler: GradedSampler, recipe: Recipe, num_samples: int
    ) -> dict[str, PassRate]:
        """The pass rate of each problem by id; samples only what the file does not hold yet."""
        sampling = sampling_key(recipe, sampler.prompter.fingerprint)
        way = sampling, num_samples
        if way not in self._known:
            self._known[way] = self.read(*way)
        known = self._known[way]
        todo = {one.id: one for one in problems if one.id not in known}

        def ended(problem_id: str, rate: PassRate) -> None:
            known[problem_id] = rate
            append_jsonl(self.path, _row(problem_id, rate, sampling))

        if todo:
            sample_pass_rates(list(todo.values()), sampler, recipe, num_samples, ended)
        return {one.id: known[one.id] for one in problems}

    def read(self, sampling: str, num_samples: int) -> dict[str, PassRate]:
        """What the file holds by problem id for this way of sampling; empty without a file."""
        return {
            row["problem_id"]: PassRate(row["correct"], row["decided"], row["num_samples"])
            for row in read_log(self.path)
            if row["sampling"] == sampling and row["num_samples"] == num_samples
        }


def sample_pass_rates(
    problems: Sequence[Problem],
    sampler: GradedSampler,
    recipe: Recipe,
    num_samples: int,
    on_ended: Callable[[str, PassRate], None],
) -> None:
    """Draw and grade `num_samples` completions per problem as in training; `on_ended` gets each
    problem id and its pass rate as the last of them is graded.
    """
    from open_rs.rollout.build import training_params

    decisions: dict[str, list[bool | None]] = {}  # correct or not; None: undecided
    prompts = [sampler.prompter.encode(problem) for problem in problems]
    with progress("pass rate", len(prompts) * num_samples) as advance:

        def graded(prompt: Prompt, rollout: Rollout) -> None:
            grade = rollout.grade
            assert grade is not None
            made = decisions.setdefault(prompt.problem.id, [])
            made.append(grade.correct if grade.decided else None)
            if len(made) == num_samples:
                on_ended(prompt.problem.id, pass_rate_of(made))
            advance(1)

        for start in range(0, len(prompts), PROMPTS_AT_ONCE):
            sampler.sample(
                prompts[start : start + PROMPTS_AT_ONCE],
                group_size=num_samples,
                params=training_params(recipe),
                seed=recipe.seed,
                step=STREAM,
                on_graded=graded,
            )


def pass_rate_of(decisions: Sequence[bool | None]) -> PassRate:
    """Counts of samples that are correct or not, None where that is undecided."""
    decided = [one for one in decisions if one is not None]
    return PassRate(correct=sum(decided), decided=len(decided), num_samples=len(decisions))


def _row(problem_id: str, rate: PassRate, sampling: str) -> Row:
    return {"problem_id": problem_id, **asdict(rate), "sampling": sampling}


def prompt_inputs(spec: PromptLimitFilter, recipe: Recipe) -> Row:
    return {
        "prompt": recipe.prompt.model_dump(mode="json"),
        "model": {"path": recipe.model.path, "revision": recipe.model.revision},
    }


def sampling_inputs(spec: PassRateFilter, recipe: Recipe) -> Row:
    """What decides a pass rate."""
    return {
        **grading_inputs(spec, recipe),
        "prompt": recipe.prompt.model_dump(mode="json"),
        "sampling": sampling_settings(recipe),
    }


def sampling_settings(recipe: Recipe) -> Row:
    """What decides the completions of a pass-rate filter beside the prompt: weights and noise."""
    from open_rs.models import model_hash  # torch: but a pass rate needs it anyway

    rollout = recipe.rollout.model_dump(
        mode="json", exclude={"max_slots", "prompts_per_step", "group_size"}
    )
    return {
        "model_sha256": model_hash(recipe.model),
        "revision": recipe.model.revision,
        "dtype": recipe.model.dtype,
        "seed": recipe.seed,
        "rollout": rollout,
    }


def sampling_key(recipe: Recipe, prompt_fingerprint: str) -> str:
    """Identifies how pass rates were sampled and graded, thresholds apart (16 hex digits)."""
    grading = grading_inputs(None, recipe)["grade"]
    parts = [sampling_settings(recipe), grading, prompt_fingerprint]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
