"""Rows as they stand in files, on the hub or in a task, one by one, each with where it stands.

Nothing is held beyond a row or a batch of some hundreds. A row that cannot be read comes as a
`BadRow`; what breaks a whole file is an InputError.
"""

import csv
import glob
import gzip
import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from open_rs.errors import InputError
from open_rs.recipe import Source

Row = dict[str, Any]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: the reason is one of a few texts, the detail is of this row."""

    reason: str
    cure: str
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.reason}{detail}; {self.cure}"


def cell_text(value: Any, joint: str) -> str | None:
    """Text, or a number or a list of these as text, as OlympiadBench has for answers; None for
    anything else: true, NaN, a table, nothing.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and value:
        parts = [None if isinstance(one, list) else cell_text(one, joint) for one in value]
        if all(part is not None for part in parts):
            return joint.join(str(part).strip() for part in parts)
    return None


Found = tuple[str, "Row | BadRow"]  # where it stands, and the row
FORMATS = (".jsonl", ".csv", ".tsv", ".parquet", ".arrow")
PACKED = (".gz", ".zst")
BATCH = 500  # rows of a column file that are read at once
MAX_CSV_FIELD = 1 << 27


def source_rows(source: Source) -> Iterator[Found]:
    """The rows of a source in order, not yet cut to its count."""
    if source.path is not None:
        for file in files_of(source.path):
            yield from file_rows(file)
        return
    rows = hub_rows(source) if source.hub is not None else task_rows(source)
    for number, row in enumerate(rows, start=1):
        yield f"{source.hub or source.task}, row {number}", row


def files_of(path: str) -> list[Path]:
    """The files that a path, a pattern or a folder stands for, by name."""
    place = Path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        whole = place / "problems.jsonl"
        files = (
            [whole] if whole.is_file() else sorted(one for one in place.rglob("*") if _kind(one))
        )
    else:
        files = sorted(Path(one) for one in glob.glob(path, recursive=True) if _kind(Path(one)))
    if not files and not place.is_dir() and not glob.has_magic(path):
        raise InputError(
            f"{path}: no such file; check the path in the recipe or on the command line"
        )
    if not files:
        raise InputError(
            f"{path}: holds no problems.jsonl and no other file that can be read "
            f"({', '.join(FORMATS)}); check the path in the recipe"
        )
    return files


def _kind(path: Path) -> str | None:
    """The format of a file by its name, None for one that is not read."""
    suffixes = path.suffixes
    if suffixes and suffixes[-1] in PACKED:
        suffixes = suffixes[:-1]
    kind = suffixes[-1] if suffixes else ""
    return kind if kind in FORMATS and not path.name.startswith(".") else None


def file_rows(path: Path) -> Iterator[Found]:
    """The rows of one file in whatever format its name says; JSON Lines where it says none."""
    kind = _kind(path)
    try:
        if kind in (".parquet", ".arrow"):
            yield from _column_rows(path, kind)
        elif kind in (".csv", ".tsv"):
            yield from _csv_rows(path, "\t" if kind == ".tsv" else ",")
        else:
            yield from _json_rows(path)
    except (OSError, EOFError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the file") from None


def open_bytes(path: Path) -> IO[bytes]:
    """A file to read, unpacked where its name says that it is packed."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path))
    if path.suffix == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(path, compression="zstd"))
    return path.open("rb")


NOT_UTF8 = BadRow("not valid UTF-8", "save the file as UTF-8")


def _json_rows(path: Path) -> Iterator[Found]:
    """A row for each line that is not blank, decoded by itself: what is broken in one line is not
    met in another.
    """
    with open_bytes(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{path}, line {number}", _json_row(line)


def _json_row(line: bytes) -> Row | BadRow:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return NOT_UTF8
    except (json.JSONDecodeError, RecursionError) as error:
        detail = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        return BadRow("not valid JSON", "mend or remove it", detail)
    if isinstance(row, dict):
        return row
    return BadRow(f"a JSON object is needed, got {type(row).__name__}", "mend or remove it")


def _csv_rows(path: Path, delimiter: str) -> Iterator[Found]:
    csv.field_size_limit(MAX_CSV_FIELD)
    with open_bytes(path) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.DictReader(text, delimiter=delimiter, restkey=None, restval=None)
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if row.pop(None, None) is not None:
                yield where, BadRow("more fields than columns", "quote what holds the delimiter")
            elif any(
                "\udc80" <= sign <= "\udcff" for value in row.values() for sign in value or ""
            ):
                yield where, NOT_UTF8
            else:
                yield where, row


def _column_rows(path: Path, kind: str) -> Iterator[Found]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        if kind == ".parquet":
            batches: Iterable[Any] = pq.ParquetFile(path).iter_batches(batch_size=BATCH)
        else:
            batches = _arrow_batches(path)
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                for row in batch.slice(start, BATCH).to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except pa.ArrowException as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{path}, after row {number}: cannot be read ({reason}); check the file"
        ) from None


def _arrow_batches(path: Path) -> Iterator[Any]:
    """Record batches of an Arrow file, or of a stream, which is what `datasets` saves."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as memory:
        try:
            reader = pa.ipc.open_file(memory)
        except pa.ArrowInvalid:
            memory.seek(0)
            yield from pa.ipc.open_stream(memory)
            return
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def hub_rows(source: Source) -> Iterable[Row]:
    import datasets  # a second to import, and needed for hub sets alone

    try:
        return datasets.load_dataset(
            source.hub, source.config, split=source.split, revision=source.revision
        )
    except Exception as error:  # whatever the library raises, the cure is the same
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"data set {source.hub}: cannot be loaded ({reason}); download it where there is a "
            "network (hf download --repo-type dataset) and give its folder as hub, or its files "
            "as path"
        ) from error


def task_rows(source: Source) -> Iterable[Row]:
    from open_rs.tasks import task_rows

    return task_rows(source)


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number, row) of each line that is not blank; a malformed line is an InputError with its
    number.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; check the path in the recipe or on the command line"
        )
    try:
        for where, row in _json_rows(path):
            if isinstance(row, BadRow):
                raise InputError(f"{where}: {row}")
            yield int(where.rpartition(" ")[2]), row
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the file") from None
