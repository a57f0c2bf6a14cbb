"""The folder that curation leaves: its file names, what is in them, and when it is whole."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from open_rs.curate.rounds import Round, still_in, verdicts_before
from open_rs.curate.stages import Drop, Row
from open_rs.curate.store import Index, WorkArea, problems_at
from open_rs.errors import InputError
from open_rs.problems import Problem
from open_rs.runs import (
    different_keys,
    read_json,
    read_log,
    write_json,
    write_jsonl,
    write_text,
)


@dataclass(frozen=True)
class CuratedFolder:
    """The names of the files of an output. It is whole if `problems` is there, which comes last."""

    path: Path

    @property
    def problems(self) -> Path:
        return self.path / "problems.jsonl"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def inputs(self) -> Path:
        return self.path / "inputs.json"

    @property
    def card(self) -> Path:
        return self.path / "README.md"

    @property
    def pass_rates(self) -> Path:
        return self.path / "pass_rates.jsonl"

    @property
    def work(self) -> WorkArea:
        return WorkArea(self.path / ".work")

    def write(
        self, rounds: Sequence[Round], index: Index, summary: Row, inputs: Row, card: str
    ) -> None:
        """All of it, or none where a write fails; journals are left alone."""
        try:
            write_json(self.inputs, inputs)
            write_jsonl(self.manifest, manifest_rows(self.work, rounds, index))
            write_json(self.summary, summary)
            write_text(self.card, card)
            write_jsonl(self.problems, map(vars, kept_problems(self.work, rounds, index)))
        except BaseException:
            self.clear()
            raise
        self.remove_work()

    def clear(self) -> None:
        """Remove what a broken-off `write` may have left."""
        for file in (self.problems, self.inputs, self.manifest, self.summary, self.card):
            file.unlink(missing_ok=True)

    def remove_work(self) -> None:
        """The work area is moved away before it is removed: half of one is never found."""
        gone = self.work.path.with_name(".work-removed")
        shutil.rmtree(gone, ignore_errors=True)
        if self.work.path.exists():
            self.work.path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def finished(self, inputs: Row) -> Row | None:
        """The summary of a whole output of the same inputs, None where there is none; an output of
        other inputs is refused.
        """
        if not self.problems.exists():
            return None
        if not self.inputs.exists():
            raise InputError(
                f"{self.problems}: exists, and curate did not write it; give another folder"
            )
        held = read_json(self.inputs)
        if held != inputs:
            differing = ", ".join(sorted(different_keys(held, inputs))[:5])
            raise InputError(
                f"{self.path}: already holds a set curated from other inputs (different: "
                f"{differing}); give another folder, or remove {self.problems.name} to curate it "
                "anew with the answers of models that are journalled here"
            )
        summary: Row = read_json(self.summary)
        return summary

    def tidy_journal(self, name: str) -> None:
        """Put the answers of all shards together, in an order that is not that of asking."""
        whole = self.path / f"{name}.jsonl"
        parts = [one for one in (whole, *sorted(self.path.glob(f"{name}-*-of-*.jsonl")))]
        rows = {json.dumps(row, sort_keys=True): row for part in parts for row in read_log(part)}
        if rows:
            write_jsonl(whole, [rows[key] for key in sorted(rows)])
        for part in parts[1:]:
            part.unlink()


def manifest_rows(work: WorkArea, rounds: Sequence[Round], index: Index) -> Iterator[Row]:
    """One row per input row, in order."""
    names = {one.number: one.name for round_ in rounds for one in round_.stages}
    for number in range(len(index.chunks)):
        table = work.read_chunk(number)
        drops: dict[int, tuple[str, Drop]] = {}
        notes: dict[int, list[str]] = {}
        for position, stage, said in verdicts_before(work, rounds, number):
            if isinstance(said, Drop):
                drops[position] = names[stage], said
            else:
                notes.setdefault(position, []).append(f"{names[stage]}: {said}")
        columns = (table.column(name).to_pylist() for name in ("id", "source", "where"))
        bad = zip(
            table.column("bad").to_pylist(), table.column("bad_detail").to_pylist(), strict=True
        )
        for position, ((id_, source, where), (reason, detail)) in enumerate(
            zip(zip(*columns, strict=True), bad, strict=True)
        ):
            if reason is not None:
                drops[position] = "read", Drop(reason, detail)
            name, drop = drops.get(position, (None, None))
            yield {
                "id": id_,
                "source": source,
                "where": where,
                "kept": drop is None,
                "filter": name,
                "reason": None if drop is None else drop.reason,
                "detail": None if drop is None else drop.detail,
                "note": "; ".join(notes.get(position, ())) or None,
            }


def kept_problems(work: WorkArea, rounds: Sequence[Round], index: Index) -> Iterator[Problem]:
    for number in range(len(index.chunks)):
        table = work.read_chunk(number)
        yield from problems_at(table, still_in(work, rounds, number, table))


def refuse_repeated(work: WorkArea, rounds: Sequence[Round], index: Index) -> None:
    """One id twice among the problems that are kept is refused, as every later stage would."""
    ids = [np.empty(0, dtype="S16")]
    for number in range(len(index.chunks)):
        table = work.read_chunk(number)
        column = np.array(table.column("id").to_pylist(), dtype="S16")
        ids.append(column[still_in(work, rounds, number, table)])
    values, counts = np.unique(np.concatenate(ids), return_counts=True)
    repeated: Iterable[bytes] = values[counts > 1]
    if np.any(counts > 1):
        example = next(iter(repeated)).decode()
        raise InputError(
            f"filters: {int(np.sum(counts > 1))} problems are kept more than once (such as "
            f'{example}); add {{ type = "exact_duplicates" }} to filters'
        )
