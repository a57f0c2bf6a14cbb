"""The sets of problems that a recipe names, as far as they lie here: their first rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from open_rs.errors import InputError
from open_rs.problems import Problem, ReadRow, read_source
from open_rs.recipe import Recipe, Source
from open_rs.rows import BadRow
from open_rs.runs import RunFolder

ROWS = 2_000  # of a set that are looked at


@dataclass(frozen=True)
class Sample:
    """The first rows of a set, `complete` where they are all; `raw`: curation comes before its use.
    `error`: why there are none.
    """

    source: Source
    raw: bool
    rows: list[ReadRow]
    complete: bool
    error: str | None = None

    @property
    def problems(self) -> list[Problem]:
        return [row for _, row in self.rows if isinstance(row, Problem)]

    @property
    def bad(self) -> list[tuple[str, BadRow]]:
        return [(where, row) for where, row in self.rows if isinstance(row, BadRow)]


def sources_of(recipe: Recipe, run: RunFolder) -> Iterator[tuple[str, Source, bool]]:
    """(key, source, whether it is raw) of the sets that lie here, the training set first.

    The raw sources stand for a training set that curation has still to make.
    """
    if recipe.data.train is not None:
        yield from _local("data.train", recipe.data.train)
    elif (run.curated / "problems.jsonl").is_file():
        yield "curated", Source(path=str(run.curated)), False
    else:
        for number, source in enumerate(recipe.sources):
            for key, one, _ in _local(f"sources.{number}", source):
                yield key, one, True
    for name, source in recipe.data.held_out.items():
        yield from _local(f"data.{name}", source)


def _local(key: str, source: Source) -> Iterator[tuple[str, Source, bool]]:
    if source.hub is None or Path(source.hub).is_dir():
        yield key, source, False


def read_sample(source: Source, *, raw: bool) -> Sample:
    """The first ROWS rows; a source that cannot be read at all says why."""
    try:
        rows = list(islice(read_source(source), ROWS + 1))
    except InputError as error:
        return Sample(source, raw, [], False, str(error))
    return Sample(source, raw, rows[:ROWS], len(rows) <= ROWS)
