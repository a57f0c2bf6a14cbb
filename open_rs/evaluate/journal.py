"""The journal of an evaluation under way: every graded sample, appended as it ends."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from open_rs.errors import InputError
from open_rs.runs import different_keys, make_folder, read_log, unwritable

JOURNAL = "journal.jsonl"

Row = dict[str, Any]
Key = tuple[str, int]  # problem id, sample


def spent_usd(path: Path) -> float:
    """What the samples of the journal at `path` have cost; 0 without one."""
    return sum(row.get("usd") or 0.0 for row in read_log(path))


class Journal:
    """Samples of one evaluation in the order in which they ended; killed anywhere, it goes on.
    `open_rs.lock` keeps a second writer out.

    Its first line says of which evaluation (`identity`: weights and fingerprint), and that of
    another one is refused. A line that a kill tore is cut off. Rows stay on disk: what is held in
    memory is where each begins.

        {"evaluation": {...}}                                  once
        {"session": 0}                                         as each process begins
        {"problem_id": ..., "sample": ..., ..., "elapsed": s}  a sample; s of its session

    Attributes:
        places: byte offset of each sample's line.
        seconds: what earlier sessions took, up to their last sample.
    """

    def __init__(self, path: Path, identity: Row) -> None:
        self.path = path
        self.places: dict[Key, int] = {}
        self.seconds = 0.0
        make_folder(path.parent)
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            self._read(identity)
            self._append({"session": len(self.places)})
        except BaseException:
            self._file.close()
            raise
        self._started = time.perf_counter()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, row: Row) -> None:
        """One more sample, on disk when this returns."""
        place = self._append({**row, "elapsed": round(time.perf_counter() - self._started, 3)})
        self.places[row["problem_id"], row["sample"]] = place

    def rows(self, keys: Sequence[Key]) -> Iterator[Row]:
        """The samples of these keys, one at a time, as `add` was given them."""
        with self.path.open("rb") as file:
            for key in keys:
                file.seek(self.places[key])
                row = json.loads(file.readline())
                del row["elapsed"]
                yield row

    @property
    def elapsed(self) -> float:
        """Seconds of all sessions."""
        return self.seconds + time.perf_counter() - self._started

    def remove(self) -> None:
        """The evaluation is complete: its records have taken the journal's place."""
        self.path.unlink()

    def _append(self, row: Row) -> int:
        """Write one line and return its offset."""
        place = self._file.seek(0, os.SEEK_END)
        line = json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(28, "no space left for the whole line")
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); free space, then give the "
                "same command again"
            ) from error
        return place

    def _read(self, identity: Row) -> None:
        """Take up what an earlier process left; begin where there is nothing."""
        place, last = 0, 0.0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):  # torn by a kill
                    break
                try:
                    row = json.loads(line)
                    if number == 1:
                        self._refuse_other(row["evaluation"], identity)
                    elif "session" in row:
                        self.seconds, last = self.seconds + last, 0.0
                    else:
                        self.places[row["problem_id"], row["sample"]] = place
                        last = float(row["elapsed"])
                except (ValueError, KeyError, TypeError):
                    raise InputError(
                        f"{self.path}, line {number}: is no line of an evaluation; the file was "
                        "changed by hand? Remove the line, or the folder to start anew"
                    ) from None
                place += len(line)
        self.seconds += last
        self._file.truncate(place)
        if place == 0:
            self._append({"evaluation": identity})

    def _refuse_other(self, held: Row, identity: Row) -> None:
        differing = sorted(different_keys(held, identity))
        if differing:
            raise InputError(
                f"{self.path.parent}: another evaluation was begun here (different: "
                f"{', '.join(differing[:5])}); go on with that one, remove the folder, or write "
                "to another one"
            )
