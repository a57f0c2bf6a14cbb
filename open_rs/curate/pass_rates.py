"""How often the model solves each problem, sampled through the rollout engine and journalled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from open_rs.console import progress
from open_rs.curate.filters import PassRate
from open_rs.curate.output import Row, sampling_key
from open_rs.problems import Problem
from open_rs.recipe import Recipe
from open_rs.runs import append_jsonl, read_log, write_jsonl

if TYPE_CHECKING:
    from open_rs.rollout.graded import GradedSampler
    from open_rs.rollout.protocol import Prompt, Rollout

STREAM = -1  # the noise stream of curation, apart from evaluation's (0) and training's (from 1)
PROMPTS_AT_ONCE = 256  # whose completions are in memory together


class PassRateJournal:
    """The pass rates in the file `path`, a row per problem, appended as its last sample is graded.

    A killed curation goes on where it was. What comes out does not depend on where that was: the
    noise of a sample is a function of (seed, step, problem, sample) alone. Each row carries the key
    of how it was sampled, and rows under another key are not used. The thresholds are not part of
    it, so they can be changed without sampling again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used: list[Row] = []

    def measure(
        self, problems: Sequence[Problem], sampler: GradedSampler, recipe: Recipe, num_samples: int
    ) -> dict[str, PassRate]:
        """The pass rate of each problem by id; samples only what the file does not hold yet."""
        sampling = sampling_key(recipe, sampler.prompter.fingerprint)
        known = self.read(sampling, num_samples)
        todo = {one.id: one for one in problems if one.id not in known}

        def ended(problem_id: str, rate: PassRate) -> None:
            known[problem_id] = rate
            append_jsonl(self.path, _row(problem_id, rate, sampling))

        sample_pass_rates(list(todo.values()), sampler, recipe, num_samples, ended)
        rates = {one.id: known[one.id] for one in problems}
        self.used += [_row(problem_id, rate, sampling) for problem_id, rate in rates.items()]
        return rates

    def read(self, sampling: str, num_samples: int) -> dict[str, PassRate]:
        """What the file holds by problem id for this way of sampling; empty without a file."""
        return {
            row["problem_id"]: PassRate(row["correct"], row["decided"], row["num_samples"])
            for row in read_log(self.path)
            if row["sampling"] == sampling and row["num_samples"] == num_samples
        }

    def tidy(self) -> None:
        """The rows that were used, in the order of the problems, whatever the order of sampling."""
        if self.used:
            write_jsonl(self.path, self.used)


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
