"""The run folder: its file names, writes that are whole or absent, and readers that bear a torn
last line.
"""

import errno
import gzip
import hashlib
import json
import os
import shutil
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.recipe import Recipe, Source, recipe_from_dict
from open_rs.text import redact_all


@dataclass(frozen=True)
class RunFolder:
    """The names of everything below runs/NAME: the interface between the stages."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def heartbeat(self) -> Path:
        """What a start that runs has spent, for the case that it is killed."""
        return self.path / ".heartbeat"

    @property
    def decisions(self) -> Path:
        """What the sentinel decided: roll-backs, pauses, stops."""
        return self.path / "decisions.json"

    def rolled_back(self, number: int) -> Path:
        """What a roll-back, counted from 1, took away."""
        return self.path / "rolled_back" / f"{number:03d}"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def curated(self) -> Path:
        return self.path / "curated"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"{step:06d}"

    def rollouts(self, step: int) -> Path:
        return self.path / "rollouts" / f"{step:06d}.jsonl.gz"

    def evaluation(self, name: str) -> Path:
        return self.path / "evaluations" / name


def open_run(path: Path, recipe: Recipe) -> RunFolder:
    """The run folder at `path` for `recipe`; one in which another recipe was trained is refused.

    Until training starts a recipe can still be corrected: the new one and a new plan take the place
    of the old ones. What curation wrote checks for itself whether it still fits.
    """
    run = RunFolder(path)
    resolved = recipe.model_dump(mode="json")
    if run.recipe.exists():
        if read_json(run.recipe) == resolved:
            return run
        refuse_other_recipe(run, recipe)
        if recipe_in(run.recipe) != resolved:
            run.plan.unlink(missing_ok=True)
    make_folder(path)
    write_json(run.recipe, resolved)
    return run


def refuse_other_recipe(run: RunFolder, recipe: Recipe) -> None:
    """Refuse a folder in which another recipe was trained."""
    if not run.recipe.exists() or not run.metrics.exists():
        return
    held, resolved = recipe_in(run.recipe), recipe.model_dump(mode="json")
    if held != resolved:
        differing = ", ".join(sorted(different_keys(held, resolved))[:5])
        raise InputError(
            f"{run.path}: already holds a run of another recipe (different: {differing}); "
            "give another name or --out, or remove the folder"
        )


def recipe_in(path: Path) -> Any:
    """The resolved recipe that a file holds. A key that it lacks came with a later version and has
    its default; what this version cannot read stays as it is written.
    """
    held = read_json(path)
    try:
        return recipe_from_dict(held).model_dump(mode="json")
    except InputError:
        return held


def training_source(recipe: Recipe, run: RunFolder) -> Source:
    """`data.train`, or what curation wrote into the run."""
    if recipe.data.train is not None:
        return recipe.data.train
    if not (run.curated / "problems.jsonl").is_file():
        raise InputError(
            f"data.train is not set and {run.curated} holds no problems.jsonl; run open-rs curate "
            "first, or name a set as data.train"
        )
    return Source(path=str(run.curated))


def different_keys(left: Any, right: Any, prefix: str = "") -> Iterator[str]:
    """The dotted paths at which two resolved recipes differ; a missing key is not a null one."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in left.keys() | right.keys():
            path = f"{prefix}.{key}" if prefix else key
            if key in left and key in right:
                yield from different_keys(left[key], right[key], path)
            else:
                yield path
    elif left != right:
        yield prefix


def make_folder(path: Path) -> None:
    """A folder that only its owner can enter (0700, less what the umask takes), which hides all
    that lies in it. Folders above it are made in the usual mode; one that exists keeps its own.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> InputError:
    """What to tell of a file or folder that cannot be written, and the cure."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cure = "free space, then go on" if full else "name a folder that can be written"
    return InputError(f"{path}: cannot be written ({error.strerror}); {cure}")


def write_bytes(path: Path, content: bytes) -> None:
    """Write whole or not at all: a temporary neighbour, fsync, rename."""
    write_chunks(path, [content])


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """`write_bytes` of what need not be in memory at one time."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            rename(temporary, path)
        except BaseException:  # an interrupt, too, leaves nothing behind
            temporary.unlink(missing_ok=True)
            raise
        fsync_path(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def rename(old: Path, new: Path) -> None:
    """`os.replace`, also where NFS did it, lost its answer, was asked again and found nothing."""
    moved = old.stat().st_ino
    try:
        os.replace(old, new)
    except FileNotFoundError:
        if not new.exists() or new.stat().st_ino != moved:
            raise


def fsync_path(path: Path) -> None:
    """Make what a file holds, or a rename inside a folder, survive a power cut. Some file systems
    have no fsync of folders (EINVAL): their renames are as durable as they make them.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """JSON Lines, one row in memory at a time; gzipped, all of them, if the name ends in .gz,
    without a time: same rows, same bytes.
    """
    lines = (json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n" for row in rows)
    if path.suffix == ".gz":
        write_bytes(path, gzip.compress(b"".join(lines), compresslevel=5, mtime=0))
    else:
        write_chunks(path, lines)


_appending = threading.Lock()  # of one line after the other, whichever thread it comes from


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """One more line; a torn one before it (a kill in mid-write) is cut off first."""
    line = json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _appending, path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(0, os.SEEK_END)
            size = file.tell()
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.truncate(path.read_bytes().rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.write(line)
    except OSError as error:
        raise unwritable(path, error) from error


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is this a run folder of open-rs?") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def log_lines(path: Path) -> list[bytes]:
    """The lines of a file that a run appends to; none where it is missing.

    What follows the last newline was torn by a kill and is left out, as `append_jsonl` cuts it off.
    """
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).split(b"\n")[:-1]
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); restore or remove it") from None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of `log_lines`."""
    rows = []
    for number, line in enumerate(log_lines(path), start=1):
        try:
            if line:
                rows.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise InputError(
                f"{path}, line {number}: not valid JSON; the file was changed by hand?"
            ) from None
    return rows


def json_object(line: bytes) -> dict[str, Any] | None:
    """The row that a line holds, None where it holds none: for those who bear damage."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def read_metrics(run: RunFolder) -> list[dict[str, Any]]:
    """metrics.jsonl with one row a step: a validation score is a line of its own, written after the
    checkpoint that it belongs to, and is put together here with the step's other figures.
    """
    steps: dict[int, dict[str, Any]] = {}
    for row in read_log(run.metrics):
        steps.setdefault(row["step"], {}).update(row)
    return list(steps.values())


def truncate_log(path: Path, step: int) -> None:
    """Keep the rows of a log up to `step`: what a resumed run will write again is taken back."""
    rows = read_log(path)
    kept = [row for row in rows if row.get("step", 0) <= step]
    if len(kept) < len(rows):
        write_jsonl(path, kept)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(path: Path) -> int:
    """Free space on the device of `path`, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


class Ledger:
    """Device seconds by phase, appended as each phase ends (failures too). Dollars are null without
    a price; what an endpoint has cost (`usd` among the figures) comes on top of the machine's time.
    A phase inside another is its own time, not the other's.

    `start` names the process that pays, in each of its rows; `entered` is what they count so far,
    `paid` the dollars of endpoints among it.
    """

    def __init__(
        self, path: Path, usd_per_hour: float | None = None, start: str | None = None
    ) -> None:
        self.path, self.usd_per_hour, self.start = path, usd_per_hour, start
        self.entered = self.paid = 0.0
        self._inside = [0.0]  # seconds of the phases inside each one that is open

    @contextmanager
    def phase(self, name: str, step: int = 0) -> Iterator[dict[str, Any]]:
        """Time what happens inside; the dict handed out takes further figures such as tokens."""
        figures: dict[str, Any] = {}
        start = time.perf_counter()
        self._inside.append(0.0)
        stop: BaseException | None = None
        try:
            yield figures
        except BaseException as error:
            stop = error
            raise
        finally:
            whole = time.perf_counter() - start
            figures["seconds"] = whole - self._inside.pop()
            self._inside[-1] += whole
            try:
                self.enter(name, step, **figures)
            except InputError as full:  # a full disk must not hide why the phase ended
                if stop is None:
                    raise
                say(str(full))

    def enter(self, phase: str, step: int, seconds: float, **figures: Any) -> None:
        """A row of so many seconds."""
        rented = None if self.usd_per_hour is None else seconds / 3600 * self.usd_per_hour
        asked = figures.pop("usd", None)
        costs = [one for one in (rented, asked) if one is not None]
        row = {"phase": phase, "step": step, **figures, "seconds": seconds}
        row["usd"] = sum(costs) if costs else None
        append_jsonl(self.path, row if self.start is None else row | {"start": self.start})
        self.entered += seconds
        self.paid += asked or 0.0


def log_event(run: RunFolder, event: str, step: int = 0, **details: Any) -> None:
    """A line of the run's diary. What libraries and the user's functions say goes there without the
    keys and tokens that it may repeat.
    """
    row = {"event": event, "step": step, "time": time.time(), **redact_all(details)}
    append_jsonl(run.events, row)
