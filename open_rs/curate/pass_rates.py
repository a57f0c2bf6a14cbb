"""How often a model solves each problem, sampled through the rollout engine and journalled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from open_rs.console import progress
from open_rs.curate.answers import (
    Answers,
    answering,
    answers_key,
    asking_recipe,
    undecided_rows,
)
from open_rs.curate.filters import grading_inputs
from open_rs.curate.stages import Drop, Judge, Note, Row, Setting, Verdict
from open_rs.problems import Problem
from open_rs.recipe import PassRateFilter, PromptLimitFilter, Recipe
from open_rs.rollout.limits import Undecided
from open_rs.runs import append_jsonl, read_log, write_jsonl

if TYPE_CHECKING:
    from open_rs.prompts import Prompter
    from open_rs.rollout.graded import GradedSampler
    from open_rs.rollout.protocol import Prompt, Rollout

STREAM = -1  # the noise stream of curation, apart from evaluation's (0) and training's (from 1)
PROMPTS_AT_ONCE = 256  # between two looks at how many rows are undecided


@dataclass(frozen=True)
class PassRate:
    """How often a model solved a problem: `correct` of the `decided` of `num_samples` samples."""

    correct: int
    decided: int
    num_samples: int


@contextmanager
def open_pass_rate(spec: PassRateFilter, setting: Setting) -> Iterator[Judge]:
    """Samples what the journal does not hold yet, then keeps the band of `spec`."""
    assert setting.samplers is not None
    recipe = asking_recipe(setting.recipe, spec)
    sampler = setting.samplers.get(recipe)
    key = sampling_key(recipe, sampler.prompter.fingerprint)
    answers = Answers(setting, key)
    answers.open(sampler)
    table = RateTable(setting.journal("pass_rates"))
    undecided = undecided_rows(spec)

    def judge(problems: Sequence[Problem]) -> list[Verdict]:
        rates = measure(problems, sampler, recipe, spec.num_samples, answers, undecided)
        table.put(problems, rates, key)
        return pass_rate(problems, rates, spec, answers.errors)

    yield judge


def measure(
    problems: Sequence[Problem],
    sampler: GradedSampler,
    recipe: Recipe,
    num_samples: int,
    answers: Answers,
    undecided: Undecided,
) -> dict[str, PassRate]:
    """The pass rate of each problem by id; draws and grades only samples that are not known, as in
    training.
    """
    from open_rs.rollout.build import training_params

    distinct = list({one.id: one for one in problems}.values())
    todo = sum((one.id, sample) not in answers for one in distinct for sample in range(num_samples))
    rates: dict[str, PassRate] = {}
    with progress("pass rate", todo) as advance:

        def graded(prompt: Prompt, rollout: Rollout) -> None:
            grade = rollout.grade
            assert grade is not None
            correct = grade.correct if grade.decided else None
            answers.add(prompt.problem.id, rollout, correct=correct, outcome=grade.outcome)
            advance(1)

        for start in range(0, len(distinct), PROMPTS_AT_ONCE):
            together = distinct[start : start + PROMPTS_AT_ONCE]
            sampler.sample(
                [sampler.prompter.encode(one) for one in together],
                group_size=num_samples,
                params=training_params(recipe),
                seed=recipe.seed,
                step=STREAM,
                on_graded=graded,
                skip=answers,
                keep=False,
            )
            for one in together:
                rates[one.id] = pass_rate_of(answers.of(one.id), num_samples)
                decided = rates[one.id].decided
                undecided.count(None if decided else answers.errors.get(one.id, "not graded"))
            undecided.check()
    undecided.check(ended=True)
    return rates


def pass_rate_of(samples: Mapping[int, Row], num_samples: int) -> PassRate:
    """Counts of the first `num_samples` samples: a missing one, or a null, is undecided."""
    found = [samples[sample]["correct"] for sample in range(num_samples) if sample in samples]
    decided = [one for one in found if one is not None]
    return PassRate(correct=sum(decided), decided=len(decided), num_samples=num_samples)


def pass_rate(
    problems: Sequence[Problem],
    rates: Mapping[str, PassRate],
    spec: PassRateFilter,
    errors: Mapping[str, str],
) -> list[Verdict]:
    """Keeps problems with above < correct / decided < below; `rates` and `errors` by problem id.

    Samples without a grade count neither way; what becomes of a problem without a graded one is
    `spec.undecided`.
    """

    def verdict(problem: Problem) -> Verdict:
        rate = rates[problem.id]
        if rate.decided == 0:
            why = errors.get(problem.id)
            detail = f"none of {rate.num_samples} samples was graded" + (f": {why}" if why else "")
            return (Drop if spec.undecided == "drop" else Note)("pass rate undecided", detail)
        detail = f"{rate.correct} of {rate.decided} correct"
        if rate.correct / rate.decided <= spec.above:
            return Drop(f"pass rate not above {spec.above:g}", detail)
        if rate.correct / rate.decided >= spec.below:
            return Drop(f"pass rate not below {spec.below:g}", detail)
        return None

    return [verdict(problem) for problem in problems]


class RateTable:
    """pass_rates.jsonl: counts and 95 % interval (Wilson) of each problem and way of sampling."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = {(row["problem_id"], row["sampling"]): row for row in read_log(path)}

    def put(
        self, problems: Sequence[Problem], rates: Mapping[str, PassRate], sampling: str
    ) -> None:
        """A row per problem; one that is there already gives way to it."""
        rows = [rate_row(id_, rates[id_], sampling) for id_ in {one.id: 0 for one in problems}]
        new = {(row["problem_id"], sampling): row for row in rows}
        unknown = [row for key, row in new.items() if key not in self.rows]
        stale = any(self.rows.get(key, row) != row for key, row in new.items())
        self.rows |= new
        if stale:
            write_jsonl(self.path, self.rows.values())
            return
        for row in unknown:
            append_jsonl(self.path, row)


def rate_row(problem_id: str, rate: PassRate, sampling: str) -> Row:
    low, high = wilson(rate.correct, rate.decided)
    return {
        "problem_id": problem_id,
        **asdict(rate),
        "low": low,
        "high": high,
        "sampling": sampling,
    }


@cache
def wilson(correct: int, decided: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a pass rate; (0, 1) where nothing is known."""
    if decided == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest  # a second to import

    interval = binomtest(correct, decided).proportion_ci(0.95, method="wilson")
    return round(float(interval.low), 4), round(float(interval.high), 4)


@contextmanager
def open_prompt_limit(spec: PromptLimitFilter, setting: Setting) -> Iterator[Judge]:
    assert setting.samplers is not None
    prompter = setting.samplers.prompter(asking_recipe(setting.recipe, spec))
    yield lambda problems: prompt_limit(problems, prompter)


def prompt_limit(problems: Sequence[Problem], prompter: Prompter) -> list[Verdict]:
    """Drops problems whose prompt is over the limit: a prompt is never cut."""
    limit = prompter.recipe.max_prompt_tokens
    lengths = [len(prompter.encode(problem).prompt_ids) for problem in problems]
    return [
        Drop(f"prompt over {limit} tokens", f"{length} tokens") if length > limit else None
        for length in lengths
    ]


def prompt_inputs(spec: PromptLimitFilter, recipe: Recipe) -> Row:
    model = asking_recipe(recipe, spec).model
    return {
        "prompt": recipe.prompt.model_dump(mode="json"),
        "model": {"path": model.path, "revision": model.revision},
    }


def sampling_inputs(spec: PassRateFilter, recipe: Recipe) -> Row:
    """What decides a pass rate."""
    settings = sampling_settings(asking_recipe(recipe, spec))
    return {
        **grading_inputs(spec, recipe),
        "prompt": recipe.prompt.model_dump(mode="json"),
        "answers": {answers_key(settings): settings},
    }


def sampling_settings(recipe: Recipe) -> Row:
    from open_rs.rollout.build import training_params

    return answering(recipe, training_params(recipe))


def sampling_key(recipe: Recipe, prompt_fingerprint: str) -> str:
    """Identifies how pass rates were sampled and graded, thresholds and number of samples apart."""
    grading = grading_inputs(None, recipe)["grade"]
    return answers_key(sampling_settings(recipe), grading, prompt_fingerprint)
