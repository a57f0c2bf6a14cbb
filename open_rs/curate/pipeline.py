"""`curate`: the rounds of a recipe over chunks of rows, alone, in shards, and after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_rs.console import progress, say
from open_rs.curate.card import data_card
from open_rs.curate.funnel import Funnel, dropped_by
from open_rs.curate.inputs import curation_inputs
from open_rs.curate.output import CuratedFolder, refuse_repeated
from open_rs.curate.reading import read_rows
from open_rs.curate.rounds import (
    Prepared,
    Round,
    ask_model,
    decide_round,
    judge_chunk,
    rounds_of,
    stages_of,
)
from open_rs.curate.stages import ModelStage, OpenSampler, Row, Samplers, Setting
from open_rs.curate.store import CHUNK_ROWS, Index
from open_rs.curate.workers import Workers
from open_rs.errors import InputError
from open_rs.recipe import Recipe
from open_rs.runs import different_keys, read_json, write_json

if TYPE_CHECKING:
    from open_rs.prompts import Prompter
    from open_rs.rollout.graded import GradedSampler

Shard = tuple[int, int]  # number, from 1, and how many there are
MERGE = (0, 1)  # the shard that has no chunks
MERGE_NEXT = "this shard's part is done; when all are, --merge"


def curate(
    recipe: Recipe,
    out: Path,
    *,
    open_sampler: OpenSampler | None = None,
    workers: int = 1,
    chunk_rows: int = CHUNK_ROWS,
    figures: Row | None = None,
) -> Row:
    """Curate the sources of `recipe` into the folder `out`; returns the summary that it writes.

    `open_sampler` (the recipe's model where none is given) is entered where a filter asks a model;
    without such a filter no model is loaded. `workers` processes judge rows by themselves; neither
    they nor `chunk_rows` change a byte. `figures` takes what models cost. A whole output of the
    same inputs is reused; one that a kill broke off is gone on with; an output of other inputs is
    refused.
    """
    with Curation(recipe, out, open_sampler, workers, chunk_rows, figures) as run:
        done = run.begin()
        if done is not None:
            return done
        index = run.read()
        funnel = Funnel(index, recipe)
        chunks = range(len(index.chunks))
        funnel.count_read(run.work, chunks)
        for round_ in run.rounds:
            if not funnel.kept:
                break
            run.judge(round_, chunks)
            run.close_round(round_, index, chunks)
            funnel.count_round(run.work, round_, chunks)
        return run.finish(funnel)


def curate_shard(
    recipe: Recipe,
    out: Path,
    shard: Shard,
    *,
    open_sampler: OpenSampler | None = None,
    workers: int = 1,
    chunk_rows: int = CHUNK_ROWS,
    figures: Row | None = None,
) -> Row:
    """This shard's part, up to the next filter that needs the rows of all shards; returns what
    is to be done next.
    """
    with Curation(recipe, out, open_sampler, workers, chunk_rows, figures, shard) as run:
        done = run.begin()
        if done is not None:
            return _progress(run, run.rounds[-1], "the set is finished")
        index = run.read()
        chunks = [number for number in range(len(index.chunks)) if run.mine(number)]
        for round_ in run.rounds:
            run.judge(round_, chunks)
            if round_.waits_for_all and not run.work.decided(round_.number).exists():
                return _progress(run, round_, MERGE_NEXT)
            run.close_round(round_, index, chunks)
        return _progress(run, run.rounds[-1], MERGE_NEXT)


def merge_shards(recipe: Recipe, out: Path, *, chunk_rows: int = CHUNK_ROWS) -> Row:
    """Decide what needs the rows of all shards. After the last round it returns the summary of the
    output that it writes; before, what is to be done next.
    """
    run = Curation(recipe, out, None, 1, chunk_rows, None, MERGE)
    done = run.begin()
    if done is not None:
        return done
    if not run.work.index.exists():
        raise InputError(f"{out}: no shard has run; give --shard 1/N first")
    index = run.work.read_index()
    funnel = Funnel(index, recipe)
    chunks = range(len(index.chunks))
    decided_now = False
    for round_ in run.rounds:
        missing = [number for number in chunks if not run.is_done(round_, number)]
        if missing and decided_now:
            return _progress(run, round_, "run every shard again, then --merge")
        if missing:
            raise InputError(
                f"{out}: round {round_.number} of {len(run.rounds)} is not done for "
                f"{len(missing)} of {len(chunks)} chunks (such as {missing[0]}); run the shards "
                "again, then --merge"
            )
        if round_.waits_for_all and not run.work.decided(round_.number).exists():
            run.close_round(round_, index, chunks)
            decided_now = True
        if round_.number == 1:
            funnel.count_read(run.work, chunks)
        funnel.count_round(run.work, round_, chunks)
    return run.finish(funnel)


def _progress(run: Curation, round_: Round, what_next: str) -> Row:
    return {
        "finished": False,
        "round": round_.number,
        "rounds": len(run.rounds),
        "next": what_next,
    }


def model_sampler(recipe: Recipe) -> AbstractContextManager[GradedSampler]:
    from open_rs.rollout.build import open_sampler

    return open_sampler(recipe)


def model_prompter(recipe: Recipe) -> Prompter:
    from open_rs.rollout.build import open_prompter

    return open_prompter(recipe)


class Curation:
    """What the three ways of curating have in common."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        open_sampler: OpenSampler | None,
        workers: int,
        chunk_rows: int,
        figures: Row | None,
        shard: Shard = (1, 1),
    ) -> None:
        if not recipe.sources:
            raise InputError(
                "sources is empty; add [[sources]] with path, hub or task to the recipe"
            )
        self.recipe = recipe
        self.folder = CuratedFolder(out)
        self.work = self.folder.work
        self.shard = shard
        self.workers = workers
        self.chunk_rows = chunk_rows
        self.figures = {} if figures is None else figures
        self.stages = stages_of(recipe)
        self.rounds = rounds_of(self.stages)
        self.inputs = curation_inputs(recipe, self.stages)
        self._samplers = Samplers(
            open_sampler or model_sampler, model_prompter if open_sampler is None else None
        )
        self._workers: Workers | None = None  # started when there are chunks enough
        self._stack = ExitStack()

    def __enter__(self) -> Curation:
        self._stack.callback(self._samplers.close)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def mine(self, chunk: int) -> bool:
        number, shards = self.shard
        return chunk % shards == number - 1

    def begin(self) -> Row | None:
        """The summary of a whole output of the same inputs; else the work area is made ready."""
        done = self.folder.finished(self.inputs)
        if done is not None:
            self.folder.remove_work()
            say(
                f"curate: {self.folder.problems} is complete: {done['kept']} of {done['input']} "
                "rows kept"
            )
            return done
        ours = {"inputs": self.inputs, "chunk_rows": self.chunk_rows}
        if self.work.inputs.exists():
            held = read_json(self.work.inputs)
            if held == ours:
                return None
            differing = ", ".join(sorted(different_keys(held, ours))[:5])
            if self.shard != (1, 1):
                raise InputError(
                    f"{self.folder.path}: other shards work on other inputs here (different: "
                    f"{differing}); give all shards the same recipe, or another folder"
                )
            say(f"curate: unfinished work on other inputs is removed (different: {differing})")
            self.folder.remove_work()
        write_json(self.work.recipe, self.recipe.model_dump(mode="json"))
        write_json(self.work.inputs, ours)
        return None

    def read(self) -> Index:
        return read_rows(self.work, self.recipe, self.chunk_rows, self.mine)

    def judge(self, round_: Round, chunks: Sequence[int]) -> None:
        """The local filters of a round, and the features that its global filter wants."""
        todo = [one for one in chunks if not self.work.local(round_.number, one).exists()]
        if not todo:
            return
        rounds = self.rounds[: round_.number]
        if len(todo) == 1 or self.workers == 1:
            with Prepared(Setting(self.recipe, self.folder.path, self.shard)) as prepared:
                for number in todo:
                    judge_chunk(self.work, rounds, number, prepared)
            return
        if self._workers is None:
            workers = Workers(self.workers, self.folder.path, self.shard)
            self._workers = self._stack.enter_context(workers)
        title = f"round {round_.number} of {len(self.rounds)}, chunks"
        with progress(title, len(todo)) as advance:
            self._workers.judge(round_.number, todo, lambda _: advance(1))

    def close_round(self, round_: Round, index: Index, chunks: Sequence[int]) -> None:
        """What closes a round: a global filter over all chunks, or a model over these."""
        rounds = self.rounds[: round_.number]
        if round_.waits_for_all:
            if not self.work.decided(round_.number).exists():
                decide_round(self.work, rounds, index)
        elif round_.closing is not None:
            place = self.folder.path
            setting = Setting(self.recipe, place, self.shard, self._samplers, self.figures)
            ask_model(self.work, rounds, chunks, setting)

    def is_done(self, round_: Round, number: int) -> bool:
        """Whether a chunk is judged in a round, by the model that closes it too."""
        if not self.work.local(round_.number, number).exists():
            return False
        asks = round_.closing is not None and not round_.waits_for_all
        return not asks or self.work.closing(round_.number, number).exists()

    def finish(self, funnel: Funnel) -> Row:
        """The output, whole, and no work area any more."""
        try:
            if not funnel.kept:
                raise InputError(
                    f"filters: no problem is left of {funnel.index.rows} (dropped by "
                    f"{dropped_by(funnel.stages)}); loosen these filters or add sources"
                )
            refuse_repeated(self.work, self.rounds, funnel.index)
        except InputError:  # other filters are needed, so this work is of no use
            self.folder.remove_work()
            raise
        for one in self.stages:
            for name in one.stage.journals if isinstance(one.stage, ModelStage) else ():
                self.folder.tidy_journal(name)
        summary = funnel.summary()
        card = data_card(self.recipe, summary, funnel.index.sources, self.inputs)
        self.folder.write(self.rounds, funnel.index, summary, self.inputs, card)
        return summary
