"""What a filter is to curation: the verdicts that it gives, and three ways of coming to them.

A filter is plain functions of problems and its own settings (`spec`, a section of
`recipe/filters.py`); `filter_stages.STAGES` names them, in one place.

    LocalStage   judge(problems, spec) -> verdicts          each row by itself
    GlobalStage  features(problems, spec) -> features       small things about each row by itself
                 decide(features, fetch, spec) -> verdicts  over all rows that are still in
    ModelStage   open(spec, setting) -> judge(problems)     answers of a model, journalled

`judge` and `features` are pure and see some rows at a time, in worker processes, in any order and
on any machine; so nothing that they return may depend on which rows come together. Where they need
something costly (a grader, an index of benchmark problems), `prepare(spec, setting)` is a context
manager that makes it once in each process, and is given to them as a third argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_rs.problems import Problem
from open_rs.recipe import Recipe

if TYPE_CHECKING:
    from open_rs.prompts import Prompter
    from open_rs.rollout.graded import GradedSampler

Row = dict[str, Any]


@dataclass(frozen=True)
class Drop:
    """Why a problem goes: `reason` is one of a few texts, which the funnel counts; `detail` is
    about this problem alone, such as the row that it copies.
    """

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True)
class Note:
    """What is said of a problem that stays; the funnel counts the reasons of notes apart."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def short(text: str, characters: int = 60) -> str:
    """`text` on one line for a detail, cut where it is longer."""
    plain = " ".join(text.split())
    return plain if len(plain) <= characters else plain[:characters] + "..."


Verdict = Drop | Note | None
Judge = Callable[[Sequence[Problem]], "list[Verdict]"]
Features = Any  # a row a problem: an array, or a list of JSON values (tuples come back as lists)
# The problems with these indices among the rows still in; cheap for many at once in rising order
Fetch = Callable[[Sequence[int]], "list[Problem]"]
OpenSampler = Callable[[Recipe], "AbstractContextManager[GradedSampler]"]
OpenPrompter = Callable[[Recipe], "Prompter"]


class Samplers:
    """The model that a stage asks: opened when it is first needed, kept while the next stage asks
    for the same one, and one at a time in memory.
    """

    def __init__(self, open_sampler: OpenSampler, open_prompter: OpenPrompter | None) -> None:
        """`open_prompter`: what gives the prompts of a recipe alone, where there is one."""
        self._open = open_sampler
        self._open_prompter = open_prompter
        self._held: tuple[Recipe, GradedSampler] | None = None
        self._stack = ExitStack()

    def get(self, recipe: Recipe) -> GradedSampler:
        """The sampler of `recipe`, whose model, engine and prompt are what a filter asks for."""
        if self._held is None or self._held[0] != recipe:
            self.close()
            self._held = recipe, self._stack.enter_context(self._open(recipe))
        return self._held[1]

    def prompter(self, recipe: Recipe) -> Prompter:
        """The prompts of `recipe`; no model is loaded for them."""
        held = self._held is not None and self._held[0] == recipe
        if held or self._open_prompter is None:
            return self.get(recipe).prompter
        return self._open_prompter(recipe)

    def close(self) -> None:
        self._held = None
        self._stack.close()


@dataclass(frozen=True)
class Setting:
    """Where a stage runs: the recipe, the output folder, which shard of how many, and the models.

    `samplers` is there for model stages alone, and so are `figures`: what they add up for the
    ledger, "tokens" and "usd".
    """

    recipe: Recipe
    folder: Path
    shard: tuple[int, int] = (1, 1)
    samplers: Samplers | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    def journal(self, name: str) -> Path:
        """The file of rows in which a model stage keeps every answer from the first on. A shard
        writes one of its own; at the end they are put together in NAME.jsonl, sorted.
        """
        number, shards = self.shard
        suffix = "" if shards == 1 else f"-{number}-of-{shards}"
        return self.folder / f"{name}{suffix}.jsonl"


Prepare = Callable[[Any, Setting], AbstractContextManager[Any]]
# What else decides the verdicts, by section of inputs.json: hashes of files, versions, a model
Inputs = Callable[[Any, Recipe], Row]


def no_inputs(spec: Any, recipe: Recipe) -> Row:
    return {}


@dataclass(frozen=True)
class LocalStage:
    """Judges each row by itself: `judge(problems, spec)`, with `prepare` a third argument."""

    judge: Callable[..., list[Verdict]]
    prepare: Prepare | None = None
    inputs: Inputs = no_inputs


@dataclass(frozen=True)
class GlobalStage:
    """Needs all rows: `features(problems, spec)`, with `prepare` a third argument, says what is to
    be known of each, and `decide(features, fetch, spec)` gives the verdicts in row order.
    """

    features: Callable[..., Features]
    decide: Callable[[Features, Fetch, Any], list[Verdict]]
    prepare: Prepare | None = None
    inputs: Inputs = no_inputs


@dataclass(frozen=True)
class ModelStage:
    """Asks a model, in the main process: `open(spec, setting)` yields `judge(problems)`, which is
    called with some hundreds of rows at a time. It journals each answer as it comes, in the file
    `setting.journal(NAME)`, and asks only for what that does not hold, so that a killed curation
    asks nothing twice; its verdicts are a pure function of the answers. `journals` are these NAMEs.
    """

    open: Callable[[Any, Setting], AbstractContextManager[Judge]]
    journals: tuple[str, ...] = ()
    inputs: Inputs = no_inputs


Stage = LocalStage | GlobalStage | ModelStage
