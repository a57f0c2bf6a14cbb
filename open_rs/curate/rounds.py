"""The filters of a recipe as rounds, and what is done with a chunk in a round.

A round is the local filters up to the next filter that is not local, which closes it. The local
ones and the features of a global one are taken chunk by chunk, in any order, by whatever process;
only a global filter has to wait until all chunks of the round are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from open_rs.curate.filter_stages import STAGES
from open_rs.curate.stages import (
    Drop,
    GlobalStage,
    LocalStage,
    ModelStage,
    Setting,
    Stage,
)
from open_rs.curate.store import Given, Index, WorkArea, given_by, problems_at
from open_rs.interrupt import poll
from open_rs.problems import Problem
from open_rs.recipe import Recipe
from open_rs.recipe.filters import PromptLimitFilter

PROMPT_LIMIT = "prompt_limit"  # the filter that drops prompts over prompt.max_prompt_tokens
CLOSING_ROWS = 2048  # rows that a model stage is given at once, at least
CHUNKS_IN_MEMORY = 16
ROWS_AT_ONCE = 512  # that a filter is given between two looks at whether a stop was asked for


@dataclass(frozen=True)
class NamedStage:
    """A filter of the recipe: its place in the order, its name in the funnel, its settings."""

    number: int
    name: str
    stage: Stage
    spec: Any


@dataclass(frozen=True)
class Round:
    number: int
    local: tuple[NamedStage, ...]
    closing: NamedStage | None

    @property
    def stages(self) -> tuple[NamedStage, ...]:
        return self.local if self.closing is None else (*self.local, self.closing)

    @property
    def waits_for_all(self) -> bool:
        return self.closing is not None and isinstance(self.closing.stage, GlobalStage)


def stages_of(recipe: Recipe) -> list[NamedStage]:
    """The filters in turn. The prompt limit comes before the first pass rate, by that one's model,
    where the recipe puts it nowhere.
    """
    specs: list[Any] = list(recipe.filters)
    kinds = [one.type for one in specs]
    if "pass_rate" in kinds and PROMPT_LIMIT not in kinds:
        place = kinds.index("pass_rate")
        asking = specs[place]
        specs.insert(place, PromptLimitFilter(engine=asking.engine, model=asking.model))
    return [
        NamedStage(number, getattr(one, "function", one.type), STAGES[one.type], one)
        for number, one in enumerate(specs)
    ]


def rounds_of(stages: Sequence[NamedStage]) -> list[Round]:
    rounds: list[Round] = []
    local: list[NamedStage] = []
    for one in stages:
        if isinstance(one.stage, LocalStage):
            local.append(one)
        else:
            rounds.append(Round(len(rounds) + 1, tuple(local), one))
            local = []
    if local or not rounds:
        rounds.append(Round(len(rounds) + 1, tuple(local), None))
    return rounds


class Prepared:
    """What stages prepare once in a process; a context manager that ends it."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._stack = ExitStack()
        self._made: dict[int, Any] = {}

    def call(
        self, one: NamedStage, function: Callable[..., Any], problems: Sequence[Problem]
    ) -> Any:
        """`function(problems, spec)`, with what the stage prepares as a third argument."""
        assert isinstance(one.stage, LocalStage | GlobalStage)
        prepared = []
        if one.stage.prepare is not None:
            if one.number not in self._made:
                made = one.stage.prepare(one.spec, self._setting)
                self._made[one.number] = self._stack.enter_context(made)
            prepared = [self._made[one.number]]
        parts = []
        for start in range(0, len(problems), ROWS_AT_ONCE):
            poll()
            parts.append(function(problems[start : start + ROWS_AT_ONCE], one.spec, *prepared))
        if isinstance(parts[0], np.ndarray):
            return np.concatenate(parts)
        return [said for part in parts for said in part]

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._made.clear()
        self._stack.__exit__(*raised)


def dropped(given: Iterable[Given]) -> set[int]:
    return {position for position, _, said in given if isinstance(said, Drop)}


def verdicts_before(work: WorkArea, rounds: Sequence[Round], number: int) -> list[Given]:
    """What the filters of these rounds said of the rows of a chunk. The verdicts of a global filter
    count when it has given all of them: until then a kill may have left some.
    """
    given: list[Given] = []
    for round_ in rounds:
        if work.local(round_.number, number).exists():
            given += work.read_verdicts(work.local(round_.number, number))
        closing = work.closing(round_.number, number)
        if closing.exists() and (not round_.waits_for_all or work.decided(round_.number).exists()):
            given += work.read_verdicts(closing)
    return given


def still_in(
    work: WorkArea, rounds: Sequence[Round], number: int, table: pa.Table | None = None
) -> list[int]:
    """The positions of a chunk that were read well and that no filter of these rounds dropped."""
    table = work.read_chunk(number) if table is None else table
    gone = dropped(verdicts_before(work, rounds, number))
    bad = table.column("bad").is_valid().to_pylist()
    return [position for position in range(len(bad)) if not bad[position] and position not in gone]


def judge_chunk(work: WorkArea, rounds: Sequence[Round], number: int, prepared: Prepared) -> None:
    """Do the last of `rounds` for a chunk: its local filters, and the features that its global
    filter wants. The verdicts are written last, so a chunk with verdicts is done.
    """
    *before, round_ = rounds
    table = work.read_chunk(number)
    positions = still_in(work, before, number, table)
    problems = problems_at(table, positions)
    given: list[Given] = []
    for one in round_.local:
        if not problems:
            break
        assert isinstance(one.stage, LocalStage)
        said = given_by(one.number, positions, prepared.call(one, one.stage.judge, problems))
        given += said
        gone = dropped(said)
        if gone:
            staying = [place for place, row in enumerate(positions) if row not in gone]
            positions = [positions[place] for place in staying]
            problems = [problems[place] for place in staying]
    closing = round_.closing
    if closing is not None and isinstance(closing.stage, GlobalStage):
        features = prepared.call(closing, closing.stage.features, problems) if problems else []
        if len(features) != len(problems):
            raise ValueError(
                f"filter {closing.name}: {len(features)} features of {len(problems)} rows"
            )
        work.write_features(round_.number, number, features)
    work.write_verdicts(work.local(round_.number, number), given)


class StillIn:
    """The rows that are in when a global filter decides, numbered in order over all chunks."""

    def __init__(self, work: WorkArea, rounds: Sequence[Round], index: Index) -> None:
        self.work = work
        self.positions = [
            np.array(still_in(work, rounds, number), dtype=np.int64)
            for number in range(len(index.chunks))
        ]
        self.ends = np.cumsum([len(one) for one in self.positions])
        self.table = lru_cache(CHUNKS_IN_MEMORY)(work.read_chunk)

    def fetch(self, rows: Sequence[int]) -> list[Problem]:
        """The problems with these numbers; each chunk is read once for all of its rows."""
        poll()
        wanted = np.asarray(rows, dtype=np.int64)
        chunks = np.searchsorted(self.ends, wanted, side="right")
        problems: list[Problem | None] = [None] * len(wanted)
        for number in np.unique(chunks).tolist():
            places = np.flatnonzero(chunks == number)
            start = self.ends[number] - len(self.positions[number])
            positions = self.positions[number][wanted[places] - start].tolist()
            found = problems_at(self.table(number).take(pa.array(positions)), range(len(positions)))
            for place, problem in zip(places.tolist(), found, strict=True):
                problems[place] = problem
        return [one for one in problems if one is not None]


def decide_round(work: WorkArea, rounds: Sequence[Round], index: Index) -> None:
    """Have the global filter that closes the last of `rounds` decide, over all chunks."""
    round_ = rounds[-1]
    assert round_.closing is not None and isinstance(round_.closing.stage, GlobalStage)
    rows = StillIn(work, rounds, index)
    total = int(rows.ends[-1]) if len(rows.ends) else 0
    features = work.read_features(round_.number, range(len(index.chunks)))
    verdicts = (
        round_.closing.stage.decide(features, rows.fetch, round_.closing.spec) if total else []
    )
    if len(verdicts) != total:
        raise ValueError(f"filter {round_.closing.name}: {len(verdicts)} verdicts of {total} rows")
    for number, positions in enumerate(rows.positions):
        end = int(rows.ends[number])
        said = verdicts[end - len(positions) : end]
        given = given_by(round_.closing.number, positions.tolist(), said)
        work.write_verdicts(work.closing(round_.number, number), given)
    work.write_verdicts(work.decided(round_.number), [])


def ask_model(
    work: WorkArea, rounds: Sequence[Round], numbers: Iterable[int], setting: Setting
) -> None:
    """Have the model stage that closes the last of `rounds` judge the chunks it has not judged.

    It gets the rows of several chunks together, so that an engine is kept busy; it is opened only
    where there are rows.
    """
    round_ = rounds[-1]
    closing = round_.closing
    assert closing is not None and isinstance(closing.stage, ModelStage)
    todo = [one for one in numbers if not work.closing(round_.number, one).exists()]
    with ExitStack() as stack:
        judge = None
        for together in _groups(work, rounds, todo):
            problems = [one for _, _, found in together for one in found]
            if problems and judge is None:
                judge = stack.enter_context(closing.stage.open(closing.spec, setting))
            verdicts = judge(problems) if judge is not None and problems else []
            start = 0
            for number, positions, found in together:
                said = verdicts[start : start + len(found)]
                start += len(found)
                given = given_by(closing.number, positions, said)
                work.write_verdicts(work.closing(round_.number, number), given)


def _groups(
    work: WorkArea, rounds: Sequence[Round], numbers: Iterable[int]
) -> Iterator[list[tuple[int, list[int], list[Problem]]]]:
    """(chunk, positions, problems) of some chunks at a time, with CLOSING_ROWS rows or more."""
    together: list[tuple[int, list[int], list[Problem]]] = []
    for number in numbers:
        table = work.read_chunk(number)
        positions = still_in(work, rounds, number, table)
        together.append((number, positions, problems_at(table, positions)))
        if sum(len(found) for _, _, found in together) >= CLOSING_ROWS:
            yield together
            together = []
    if together:
        yield together
