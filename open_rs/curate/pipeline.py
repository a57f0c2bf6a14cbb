"""`curate`: the filters of a recipe in their order, and the folder that they leave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_rs.console import say
from open_rs.curate.filter_stages import STAGES
from open_rs.curate.inputs import curation_inputs
from open_rs.curate.output import CuratedFolder
from open_rs.curate.stages import (
    Drop,
    LocalStage,
    ModelStage,
    Note,
    OpenSampler,
    Row,
    Samplers,
    Setting,
    Stage,
    Verdict,
)
from open_rs.errors import InputError
from open_rs.problems import Problem, load_problems, problem_id
from open_rs.recipe import Recipe
from open_rs.recipe.filters import PromptLimitFilter
from open_rs.runs import read_log, write_jsonl

if TYPE_CHECKING:
    from open_rs.rollout.graded import GradedSampler


def curate(
    recipe: Recipe,
    out: Path,
    *,
    open_sampler: OpenSampler | None = None,
) -> Row:
    """Curate the sources of `recipe` into the folder `out`; returns the summary that it writes.

    `open_sampler` (the recipe's model where none is given) is entered where a filter asks a model;
    without such a filter no model is loaded. A whole output of the same inputs is reused; an output
    is written whole or not at all.
    """
    if not recipe.sources:
        raise InputError("sources is empty; add [[sources]] with path, hub or task to the recipe")
    folder = CuratedFolder(out)
    stages = stages_of(recipe)
    inputs = curation_inputs(recipe, stages)
    done = folder.finished(inputs)
    if done is not None:
        say(f"curate: {folder.problems} is complete: {done['kept']} of {done['input']} rows kept")
        return done
    funnel = Funnel(*read_sources(recipe))
    samplers = Samplers(open_sampler or model_sampler)
    setting = Setting(recipe, out, samplers=samplers)
    try:
        for name, stage, spec in stages:
            if not funnel.kept:
                break
            funnel.apply(name, run_stage(stage, funnel.kept, spec, setting))
    finally:
        samplers.close()
    refuse_unusable(funnel)
    for _, stage, _ in stages:
        if isinstance(stage, ModelStage) and stage.journal is not None:
            tidy_journal(out, stage.journal)
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


def tidy_journal(folder: Path, name: str) -> None:
    """Put the answers of all shards together, in an order that is not that of asking."""
    parts = sorted(folder.glob(f"{name}*.jsonl"))
    rows = {json.dumps(row, sort_keys=True): row for part in parts for row in read_log(part)}
    if rows:
        write_jsonl(folder / f"{name}.jsonl", [rows[key] for key in sorted(rows)])
    for part in parts:
        if part.name != f"{name}.jsonl":
            part.unlink()


PROMPT_LIMIT = "prompt_limit"  # the stage that drops prompts over prompt.max_prompt_tokens


class Funnel:
    """All input rows, those still in, and why each other one left."""

    def __init__(self, problems: Sequence[Problem], sources: dict[str, int]) -> None:
        self.problems = problems
        self.sources = sources
        self.dropped: dict[int, tuple[str, Drop]] = {}  # by input row: filter and drop
        self.notes: dict[int, list[str]] = {}
        self.stages: list[Row] = []

    @property
    def kept(self) -> list[Problem]:
        return [one for row, one in enumerate(self.problems) if row not in self.dropped]

    def apply(self, name: str, verdicts: Sequence[Verdict]) -> None:
        """Take out the rows of `kept` that have a `Drop` in `verdicts`."""
        rows = [row for row in range(len(self.problems)) if row not in self.dropped]
        reasons: Counter[str] = Counter()
        noted: Counter[str] = Counter()
        for row, verdict in zip(rows, verdicts, strict=True):
            if isinstance(verdict, Note):
                noted[verdict.reason] += 1
                self.notes.setdefault(row, []).append(f"{name}: {verdict}")
            elif verdict is not None:
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
                "noted": dict(noted.most_common()),
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
                    "reason": None if drop is None else drop.reason,
                    "detail": None if drop is None else drop.detail,
                    "note": "; ".join(self.notes.get(number, [])) or None,
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


def stages_of(recipe: Recipe) -> list[tuple[str, Stage, Any]]:
    """(name, stage, settings) of each filter in turn. The prompt limit comes before the first pass
    rate where the recipe puts it nowhere.
    """
    specs: list[Any] = list(recipe.filters)
    kinds = [one.type for one in specs]
    if "pass_rate" in kinds and PROMPT_LIMIT not in kinds:
        specs.insert(kinds.index("pass_rate"), PromptLimitFilter())
    return [(getattr(one, "function", one.type), STAGES[one.type], one) for one in specs]


def run_stage(stage: Stage, problems: list[Problem], spec: Any, setting: Setting) -> list[Verdict]:
    """What a filter says about each problem."""
    with ExitStack() as stack:
        if isinstance(stage, ModelStage):
            return stack.enter_context(stage.open(spec, setting))(problems)
        prepared = []
        if stage.prepare is not None:
            prepared.append(stack.enter_context(stage.prepare(spec, setting)))
        if isinstance(stage, LocalStage):
            return stage.judge(problems, spec, *prepared)
        features = stage.features(problems, spec, *prepared)
        return stage.decide(features, lambda rows: [problems[row] for row in rows], spec)


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
