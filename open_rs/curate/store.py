"""The work area of a curation, `OUT/.work`: rows and verdicts in chunks, one file each.

A file is whole or absent and is never changed, so work that has its file is done, whoever did it:
a worker, a run that was killed, or a shard on another machine.

    inputs.json, recipe.json       what this is the work of
    chunks/000017.arrow            the rows of a chunk, as read from the sources
    index.json                     written when all rows are read: rows of each chunk, each source
    round-1/000017.json            the verdicts of the round's local filters
    round-1/000017.npy, .features.json   what the round's global filter wants to know of its rows
    round-1/000017.closing.json    the verdicts of the filter that closes the round
    round-1/decided                the global filter of the round has given all its verdicts
"""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from open_rs.curate.stages import Drop, Note, Row, Verdict
from open_rs.problems import Problem, ReadRow, problem_id
from open_rs.rows import BadRow
from open_rs.runs import read_json, write_bytes, write_json, write_text

CHUNK_ROWS = 2000
CHUNK_CHARACTERS = 16_000_000  # a chunk ends here too, so that rows of megabytes fit into memory
COLUMNS = ("id", "problem", "answer", "solution", "source", "where", "bad", "bad_detail")
Given = tuple[int, int, Drop | Note]  # position in the chunk, number of the stage, what it said


@dataclass(frozen=True)
class Index:
    """What was read: the rows of each chunk, and of each source its label, rows and hash."""

    chunks: list[int]
    sources: list[Row]

    @property
    def rows(self) -> int:
        return sum(self.chunks)


@dataclass(frozen=True)
class WorkArea:
    """The names of the files, and what is in them."""

    path: Path

    @property
    def inputs(self) -> Path:
        return self.path / "inputs.json"

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def index(self) -> Path:
        return self.path / "index.json"

    def chunk(self, number: int) -> Path:
        return self.path / "chunks" / f"{number:06d}.arrow"

    def local(self, round_: int, number: int) -> Path:
        return self.path / f"round-{round_}" / f"{number:06d}.json"

    def closing(self, round_: int, number: int) -> Path:
        return self.path / f"round-{round_}" / f"{number:06d}.closing.json"

    def decided(self, round_: int) -> Path:
        return self.path / f"round-{round_}" / "decided"

    def _features(self, round_: int, number: int, kind: str) -> Path:
        return self.path / f"round-{round_}" / f"{number:06d}{kind}"

    def read_index(self) -> Index:
        held = read_json(self.index)
        return Index(held["chunks"], held["sources"])

    def write_index(self, index: Index) -> None:
        write_json(self.index, {"chunks": index.chunks, "sources": index.sources})

    def write_chunk(self, number: int, rows: Sequence[ReadRow]) -> None:
        table = pa.table(
            dict(zip(COLUMNS, zip(*map(_columns, rows), strict=True), strict=True)),
            schema=pa.schema([(name, pa.string()) for name in COLUMNS]),
        )
        sink = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        write_bytes(self.chunk(number), sink.getvalue())

    def read_chunk(self, number: int) -> pa.Table:
        return pa.ipc.open_file(pa.py_buffer(self.chunk(number).read_bytes())).read_all()

    def write_verdicts(self, path: Path, given: Iterable[Given]) -> None:
        rows = [
            [
                position,
                stage,
                "drop" if isinstance(said, Drop) else "note",
                said.reason,
                said.detail,
            ]
            for position, stage, said in given
        ]
        write_text(path, json.dumps(rows, ensure_ascii=False))

    def read_verdicts(self, path: Path) -> list[Given]:
        kinds: dict[str, type[Drop] | type[Note]] = {"drop": Drop, "note": Note}
        return [
            (position, stage, kinds[kind](reason, detail))
            for position, stage, kind, reason, detail in read_json(path)
        ]

    def write_features(self, round_: int, number: int, features: Any) -> None:
        if isinstance(features, np.ndarray):
            sink = io.BytesIO()
            np.save(sink, features, allow_pickle=False)
            write_bytes(self._features(round_, number, ".npy"), sink.getvalue())
        else:
            write_text(
                self._features(round_, number, ".features.json"),
                json.dumps(features, ensure_ascii=False),
            )

    def read_features(self, round_: int, numbers: Iterable[int]) -> Any:
        """The features of all these chunks, one after the other."""
        arrays, rows = [], []
        for number in numbers:
            file = self._features(round_, number, ".npy")
            if file.exists():
                arrays.append(np.load(file, allow_pickle=False))
            else:
                rows += read_json(self._features(round_, number, ".features.json"))
        return np.concatenate(arrays) if arrays else rows


def _columns(read: ReadRow) -> tuple[str | None, ...]:
    where, row = read
    if isinstance(row, BadRow):
        return problem_id(where, row.reason), "", "", "", "", where, row.reason, row.detail
    return row.id, row.problem, row.answer, row.solution, row.source, where, None, None


def problems_at(table: pa.Table, positions: Sequence[int]) -> list[Problem]:
    """The problems at these positions of a chunk."""
    if len(positions) < len(table):
        table = table.take(pa.array(positions, type=pa.int64()))
    columns = (table.column(name).to_pylist() for name in COLUMNS[:5])
    return [Problem(*values) for values in zip(*columns, strict=True)]


def given_by(stage: int, positions: Sequence[int], verdicts: Sequence[Verdict]) -> list[Given]:
    """What stage number `stage` said of the rows at `positions`, silence left out."""
    return [
        (position, stage, verdict)
        for position, verdict in zip(positions, verdicts, strict=True)
        if verdict is not None
    ]
