"""Asking models in curation: by which recipe, the journal of every answer, when to give up."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_rs.curate.stages import Row, Setting
from open_rs.recipe import OpenAIEngineSpec, Recipe
from open_rs.recipe.filters import AskingFilter, ModelFilter
from open_rs.rollout.limits import Undecided
from open_rs.runs import append_jsonl, read_log

if TYPE_CHECKING:
    from open_rs.rollout.graded import GradedSampler
    from open_rs.rollout.protocol import Rollout, SamplingParams

JOURNAL = "answers"  # the file of all answers, whichever filter asked


def asking_recipe(recipe: Recipe, spec: ModelFilter) -> Recipe:
    """`recipe` with the model and the engine that a filter names for itself."""
    rollout = recipe.rollout
    if spec.engine is not None:
        rollout = rollout.model_copy(update={"engine": spec.engine})
    return recipe.model_copy(update={"rollout": rollout, "model": spec.model or recipe.model})


def answering(recipe: Recipe, params: SamplingParams) -> Row:
    """What decides a model's answers beside the prompt: weights, engine, settings, noise."""
    engine = recipe.rollout.engine
    settings = {"seed": recipe.seed, "params": asdict(params) | {"stop": list(params.stop)}}
    if isinstance(engine, OpenAIEngineSpec):
        return {"engine": engine.resolved(recipe.model.path).shaping(), **settings}
    from open_rs.models import model_hash  # torch: but this model is asked

    return {
        "engine": engine.shaping(),
        "model_sha256": model_hash(recipe.model),
        "dtype": recipe.model.dtype,
        **settings,
    }


def answers_key(*parts: Any) -> str:
    """Identifies a way of asking (16 hex digits)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Answers:
    """The answers under one key that the journal of a folder holds, and those to come.

    A row is appended as its answer comes in, so that a killed curation asks nothing twice. Answers
    under other keys stay in the file and are not used. What did not come in (an endpoint's failure)
    is not journalled: it is asked for again.

        {"problem_id": ..., "sample": ..., "sampling": key, "tokens": ..., "usd": ..., ...}
    """

    def __init__(self, setting: Setting, key: str) -> None:
        self.path: Path = setting.journal(JOURNAL)
        self.key = key
        self.figures = setting.figures
        self.rows: dict[str, dict[int, Row]] = {}
        self.errors: dict[str, str] = {}  # by problem id: why its last failure has no answer
        self.spent_usd = 0.0
        for path in dict.fromkeys((setting.folder / f"{JOURNAL}.jsonl", self.path)):
            for row in read_log(path):
                if row["sampling"] == key:
                    self.rows.setdefault(row["problem_id"], {})[row["sample"]] = row
                    self.spent_usd += row["usd"] or 0.0

    def __contains__(self, key: object) -> bool:
        """Whether the answer (problem id, sample) is known."""
        return isinstance(key, tuple) and key[1] in self.rows.get(key[0], ())

    def of(self, problem_id: str) -> dict[int, Row]:
        """The known answers about a problem by sample."""
        return self.rows.get(problem_id, {})

    def add(self, problem_id: str, rollout: Rollout, **found: Any) -> None:
        """Keep what was `found` in a rollout; one without a completion only costs."""
        for name, cost in (("tokens", rollout.num_tokens), ("usd", rollout.usd)):
            if cost is not None:
                self.figures[name] = self.figures.get(name, 0) + cost
        if rollout.error is not None:
            self.errors[problem_id] = rollout.error
            return
        row = {
            "problem_id": problem_id,
            "sample": rollout.sample,
            "sampling": self.key,
            "tokens": rollout.num_tokens,
            "usd": rollout.usd,
            **found,
        }
        self.rows.setdefault(problem_id, {})[rollout.sample] = row
        append_jsonl(self.path, row)

    def open(self, sampler: GradedSampler) -> None:
        """Let what was spent before count towards the cap of an endpoint."""
        from open_rs.rollout.endpoint import EndpointEngine

        if isinstance(sampler.engine, EndpointEngine):
            sampler.engine.budget.spent_usd = self.spent_usd


def undecided_rows(spec: AskingFilter) -> Undecided:
    """Counts rows that no answer decided."""
    return Undecided(
        spec.max_undecided,
        where=f"filter {getattr(spec, 'type', '')}",
        what="rows are undecided",
        cure="mend the cause or raise it, and start again",
    )
