"""From the sources of a recipe to chunks of rows in the work area, one row in memory at a time."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from open_rs.console import say
from open_rs.curate.stages import Row
from open_rs.curate.store import CHUNK_CHARACTERS, Index, WorkArea
from open_rs.errors import InputError
from open_rs.interrupt import at_once
from open_rs.problems import Problem, ReadRow, problem_id, read_source
from open_rs.recipe import Recipe, Source
from open_rs.rows import BadRow


def read_rows(
    work: WorkArea, recipe: Recipe, chunk_rows: int, mine: Callable[[int], bool]
) -> Index:
    """Write the chunks that are `mine` and not there yet; the index of all of them.

    Where a chunk ends is a function of the rows alone, so shards that each read everything agree.
    """
    if work.index.exists():
        index = work.read_index()
        if all(work.chunk(one).exists() for one in range(len(index.chunks)) if mine(one)):
            return index
    writer = ChunkWriter(work, chunk_rows, mine)
    with at_once():
        sources = [_read(source, writer) for source in recipe.sources]
    writer.close()
    index = Index(writer.sizes, sources)
    say(f"curate: {index.rows} rows read")
    work.write_index(index)
    return index


class ChunkWriter:
    """Cuts a stream of rows into chunks."""

    def __init__(self, work: WorkArea, chunk_rows: int, mine: Callable[[int], bool]) -> None:
        self.sizes: list[int] = []
        self._work, self._chunk_rows, self._mine = work, chunk_rows, mine
        self._rows: list[ReadRow] = []
        self._size = self._characters = 0

    def add(self, where: str, row: Problem | BadRow) -> None:
        number = len(self.sizes)
        if not self._size:
            self._keep = self._mine(number) and not self._work.chunk(number).exists()
        if self._keep:
            self._rows.append((where, row))
        self._size += 1
        if isinstance(row, Problem):
            self._characters += len(row.problem) + len(row.answer) + len(row.solution)
        if self._size == self._chunk_rows or self._characters > CHUNK_CHARACTERS:
            self.close()

    def close(self) -> None:
        """End the chunk that was begun."""
        if self._rows:
            self._work.write_chunk(len(self.sizes), self._rows)
        if self._size:
            self.sizes.append(self._size)
        self._rows, self._size, self._characters = [], 0, 0


def _read(source: Source, writer: ChunkWriter) -> Row:
    """All rows of a source; what the data card says of it. In curation an id is the content hash,
    so that one id is one problem in all sources and on all machines.
    """
    contents = hashlib.sha256()
    rows = bad = 0
    first_bad = ""
    for where, row in read_source(source):
        rows += 1
        if isinstance(row, BadRow):
            if source.bad_rows == "refuse":
                raise InputError(
                    f'{where}: {row}, or set bad_rows = "drop" on the source to leave such rows out'
                )
            bad += 1
            first_bad = first_bad or f"{where}: {row}"
        else:
            row = replace(row, id=problem_id(row.problem, row.answer))
            contents.update(row.id.encode())
        writer.add(where, row)
    if rows == bad:
        what = f"no row can be read ({first_bad})" if rows else "holds no rows; check the source"
        raise InputError(f"{source.label}: {what}")
    return {
        "label": source.label,
        "origin": source.path or source.hub or source.task,
        "licence": source.licence,
        "rows": rows,
        "bad_rows": bad,
        "expected": source.expect,
        "content_sha256": contents.hexdigest(),
    }
