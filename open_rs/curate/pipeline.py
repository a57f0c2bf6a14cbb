"""`curate`: the filters of a recipe in their order, and the folder that they leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from open_rs.console import say
from open_rs.curate import filters
from open_rs.curate.filters import Drop, Verdict
from open_rs.curate.output import CuratedFolder, Row, curation_inputs, held_out_source
from open_rs.curate.pass_rates import PassRateJournal
from open_rs.errors import InputError
from open_rs.grade import Grader
from open_rs.plugins import load_function
from open_rs.problems import Problem, load_problems, problem_id
from open_rs.recipe import (
    BoxedFilter,
    ContaminationFilter,
    CustomFilter,
    ExactDuplicatesFilter,
    GoldFilter,
    PassRateFilter,
    Recipe,
)

if TYPE_CHECKING:
    from open_rs.prompts import Prompter
    from open_rs.rollout.graded import GradedSampler

ModelFreeSpec = (
    BoxedFilter | GoldFilter | ExactDuplicatesFilter | ContaminationFilter | CustomFilter
)
OpenSampler = Callable[[], "AbstractContextManager[GradedSampler]"]


def curate(
    recipe: Recipe,
    out: Path,
    *,
    open_sampler: OpenSampler | None = None,
    prompter: Prompter | None = None,
) -> Row:
    """Curate the sources of `recipe` into the folder `out`; returns the summary that it writes.

    `open_sampler` (the recipe's model where none is given) is entered where a `pass_rate` filter is
    reached, and left after it; without such a filter no model is loaded. `prompter`, or else that
    sampler's, drops prompts over the limit. A whole output of the same inputs is reused; an output
    is written whole or not at all.
    """
    if not recipe.sources:
        raise InputError("sources is empty; add [[sources]] with path, hub or task to the recipe")
    folder = CuratedFolder(out)
    inputs = curation_inputs(recipe, limited=prompter is not None)
    done = folder.finished(inputs)
    if done is not None:
        say(f"curate: {folder.problems} is complete: {done['kept']} of {done['input']} rows kept")
        return done
    funnel = Funnel(*read_sources(recipe))
    journal = PassRateJournal(folder.pass_rates)
    run_filters(recipe, funnel, journal, open_sampler or partial(model_sampler, recipe), prompter)
    refuse_unusable(funnel)
    journal.tidy()
    folder.write(funnel.kept, funnel.manifest(), funnel.summary(), inputs)
    return funnel.summary()


def model_sampler(recipe: Recipe) -> AbstractContextManager[GradedSampler]:
    from open_rs.rollout.build import open_sampler

    return open_sampler(recipe)


def read_sources(recipe: Recipe) -> tuple[list[Problem], dict[str, int]]:
    """The raw rows of all sources in order, and how many came from each.

    Where one id stands for different problems (two files that both count from 0), all of these get
    their content hash as id, so that an id names one problem throughout the output.
    """
    problems: list[Problem] = []
    counts: Counter[str] = Counter()
    for source in recipe.sources:
        rows = load_problems(source, raw=True)
        problems += rows
        counts[source.label] += len(rows)
    contents: dict[str, set[tuple[str, str]]] = {}
    for one in problems:
        contents.setdefault(one.id, set()).add((one.problem, one.answer))
    return [
        replace(one, id=problem_id(one.problem, one.answer)) if len(contents[one.id]) > 1 else one
        for one in problems
    ], dict(counts)


PROMPT_LIMIT = "prompt_limit"  # the stage that drops prompts over prompt.max_prompt_tokens


class Funnel:
    """All input rows, those still in, and why each other one left."""

    def __init__(self, problems: Sequence[Problem], sources: dict[str, int]) -> None:
        self.problems = problems
        self.sources = sources
        self.dropped: dict[int, tuple[str, Drop]] = {}  # by input row: filter and drop
        self.stages: list[Row] = []

    @property
    def kept(self) -> list[Problem]:
        return [one for row, one in enumerate(self.problems) if row not in self.dropped]

    def apply(self, name: str, verdicts: Sequence[Verdict]) -> None:
        """Take out the rows of `kept` that have a `Drop` in `verdicts`."""
        rows = [row for row in range(len(self.problems)) if row not in self.dropped]
        reasons: Counter[str] = Counter()
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict is not None:
                self.dropped[row] = (name, verdict)
                reasons[verdict.reason] += 1
        dropped = reasons.total()
        kept = len(rows) - dropped
        self.stages.append(
            {
                "filter": name,
                "input": len(rows),
                "dropped": dropped,
                "kept": kept,
                "reasons": dict(reasons.most_common()),
            }
        )
        say(f"curate: {name}: {len(rows)} -> {kept}" + _reasons_text(reasons))

    def manifest(self) -> list[Row]:
        """One row per input row, in order."""
        rows: list[Row] = []
        for number, problem in enumerate(self.problems):
            name, drop = self.dropped.get(number, (None, None))
            rows.append(
                {
                    "id": problem.id,
                    "source": problem.source,
                    "kept": drop is None,
                    "filter": name,
                    "reason": None if drop is None else str(drop),
                }
            )
        return rows

    def summary(self) -> Row:
        return {
            "input": len(self.problems),
            "kept": len(self.problems) - len(self.dropped),
            "funnel": self.stages,
            "sources": self.sources,
            "too_long": sum(name == PROMPT_LIMIT for name, _ in self.dropped.values()),
        }


def _reasons_text(reasons: Counter[str]) -> str:
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(5))
    return f" ({listed})" if listed else ""


def run_filters(
    recipe: Recipe,
    funnel: Funnel,
    journal: PassRateJournal,
    open_sampler: OpenSampler,
    prompter: Prompter | None,
) -> None:
    """Each filter in turn. The prompt limit comes before the first pass rate, else at the end."""
    limited = False
    for spec in recipe.filters:
        if not funnel.kept:
            return
        if not isinstance(spec, PassRateFilter):
            name = spec.function if isinstance(spec, CustomFilter) else spec.type
            funnel.apply(name, verdicts(funnel.kept, spec, recipe))
            continue
        with open_sampler() as sampler:
            if not limited:
                funnel.apply(PROMPT_LIMIT, prompt_limit(funnel.kept, sampler.prompter))
                limited = True
            rates = journal.measure(funnel.kept, sampler, recipe, spec.num_samples)
        verdict = filters.pass_rate(funnel.kept, rates, above=spec.above, below=spec.below)
        funnel.apply(spec.type, verdict)
    if prompter is not None and not limited:
        funnel.apply(PROMPT_LIMIT, prompt_limit(funnel.kept, prompter))


def verdicts(problems: Sequence[Problem], spec: ModelFreeSpec, recipe: Recipe) -> list[Verdict]:
    """What the filter of `spec` says about each problem."""
    match spec:
        case BoxedFilter():
            return filters.boxed(problems)
        case GoldFilter():
            with Grader(workers=recipe.grade.workers, timeout_s=recipe.grade.timeout_s) as grader:
                return filters.gold(problems, grader.check_gold)
        case ExactDuplicatesFilter():
            return filters.exact_duplicates(problems)
        case ContaminationFilter():
            held_out = {
                name: load_problems(held_out_source(recipe, name), raw=True)
                for name in spec.against
            }
            return filters.contamination(problems, held_out)
        case CustomFilter():
            return filters.custom(problems, load_function(spec.function), spec.function)
        case _:
            assert_never(spec)


def prompt_limit(problems: Sequence[Problem], prompter: Prompter) -> list[Verdict]:
    """Drops problems whose prompt is over the limit: a prompt is never cut."""
    limit = prompter.recipe.max_prompt_tokens
    lengths = [len(prompter.encode(problem).prompt_ids) for problem in problems]
    return [
        Drop(f"prompt over {limit} tokens", f"{length} tokens") if length > limit else None
        for length in lengths
    ]


def refuse_unusable(funnel: Funnel) -> None:
    """Nothing left, or one id twice, which every later stage refuses."""
    if not funnel.kept:
        stages = ", ".join(
            f"{stage['filter']} {stage['dropped']}" for stage in funnel.stages if stage["dropped"]
        )
        raise InputError(
            f"filters: no problem is left of {len(funnel.problems)} (dropped by {stages}); "
            "loosen these filters or add sources"
        )
    repeated = [id_ for id_, times in Counter(one.id for one in funnel.kept).items() if times > 1]
    if repeated:
        raise InputError(
            f"filters: {len(repeated)} problems are kept more than once (such as {repeated[0]}); "
            'add { type = "exact_duplicates" } to filters'
        )
