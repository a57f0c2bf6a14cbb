"""Starts of `open-rs train --resume RUN` in processes of their own, for perf/kills.py.

`start` forks one from a process that has everything imported: the command itself, from its
arguments to its exit status, without the seconds that imports take. `start_cold` is a new
interpreter. Both note every rollout that they draw on the `Board`, memory that a kill leaves whole
and a full disk does not reach. This module imports the package only where it is needed, so that a
cold process meets its imports where any other meets them.
"""

import mmap
import os
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_rs.runs import RunFolder

# Where a process can be, and the function of the package that is that phase.
PHASES: list[tuple[str, str, str]] = [
    ("open", "open_rs.train.loop", "open_training"),
    ("resume", "open_rs.train.setup", "start_or_resume"),
    ("evaluate", "open_rs.train.loop", "evaluate_model"),
    ("rollout", "open_rs.train.loop", "scored_groups"),
    ("journal", "open_rs.train.journal.RolloutJournal", "add"),
    ("reward", "open_rs.train.loop", "score"),
    ("record", "open_rs.train.loop", "write_rollouts"),
    ("batches", "open_rs.train.loop", "training_batches"),
    ("update", "open_rs.train.loop", "update"),
    ("optimizer", "open_rs.train.update", "step_optimizer"),
    ("metrics", "open_rs.train.loop", "append_jsonl"),
    ("snapshot", "open_rs.train.loop", "take_snapshot"),
    ("write", "open_rs.train.saver", "write_snapshot"),  # in the saver's thread
    ("weights", "open_rs.train.checkpoint", "_write_parts"),
    ("fsync", "open_rs.train.checkpoint", "_fsync_tree"),
    ("save_event", "open_rs.train.saver", "log_event"),
    ("retire", "open_rs.train.saver", "retire"),
    ("trigger", "open_rs.train.loop", "pull_triggers"),
    ("roll_back", "open_rs.train.guard", "roll_back"),
    ("move_away", "open_rs.train.guard", "complete_roll_back"),
]
NAMES = [name for name, _, _ in PHASES]
HOLD_S = 0.01
GIVE_UP_S = 1800.0  # a loaded machine may halt a process for minutes
NOTES_AT, NOTES_BYTES = 8 * (len(NAMES) + 3), 1 << 20

Drawn = tuple[int, int, str, int]  # roll-backs before it, step, problem, sample


class Board:
    """Shared with the processes of a run: how often one entered each phase, in which it is, at
    which entry it shall hold on for HOLD_S, so that what takes microseconds is met as well, and the
    rollouts that it drew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(NOTES_AT + 8 + NOTES_BYTES))
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)

    def clear(self) -> None:
        self.memory[: NOTES_AT + 8] = bytes(NOTES_AT + 8)

    def hold(self, phase: int, entry: int) -> None:
        struct.pack_into("qq", self.memory, 8 * (len(NAMES) + 1), phase, entry)

    def holds(self, phase: int) -> bool:
        wanted = struct.unpack_from("qq", self.memory, 8 * (len(NAMES) + 1))
        return bool(wanted == (phase, self.entered(phase)))

    def entered(self, phase: int) -> int:
        return int(struct.unpack_from("q", self.memory, 8 * phase)[0])

    def enter(self, phase: int) -> None:
        struct.pack_into("q", self.memory, 8 * phase, self.entered(phase) + 1)
        self.now(phase + 1)

    def now(self, phase: int) -> None:
        struct.pack_into("q", self.memory, 8 * len(NAMES), phase)

    @property
    def current(self) -> str:
        place = int(struct.unpack_from("q", self.memory, 8 * len(NAMES))[0])
        return NAMES[place - 1] if place else "between"

    def note(self, drawn: Drawn) -> None:
        [used] = struct.unpack_from("q", self.memory, NOTES_AT)
        line, place = (" ".join(map(str, drawn)) + "\n").encode(), NOTES_AT + 8 + used
        self.memory[place : place + len(line)] = line
        struct.pack_into("q", self.memory, NOTES_AT, used + len(line))

    def drawn(self) -> list[Drawn]:
        """What the last start drew, in its order."""
        [used] = struct.unpack_from("q", self.memory, NOTES_AT)
        text = self.memory[NOTES_AT + 8 : NOTES_AT + 8 + used].decode()
        rows = [line.split(" ") for line in text.splitlines()]
        return [(int(epoch), int(step), one, int(sample)) for epoch, step, one, sample in rows]


# --- what a started process does beside its work ---


def note_drawn(board: Board) -> None:
    """Each rollout that the engine drew is noted as it goes to the journal."""
    from open_rs.train.decisions import held_decisions, roll_backs
    from open_rs.train.journal import RolloutJournal

    plain = RolloutJournal.add

    def add(self: RolloutJournal, step: int, prompt: Any, rollout: Any) -> None:
        epoch = len(roll_backs(held_decisions(self.run)))
        board.note((epoch, step, prompt.problem.id, rollout.sample))
        plain(self, step, prompt, rollout)

    RolloutJournal.add = add  # type: ignore[method-assign]


def watch_phases(board: Board) -> None:
    """Every phase tells the board when it begins and ends."""
    from pkgutil import resolve_name

    for number, (_, owner, name) in enumerate(PHASES):
        place = resolve_name(owner)
        setattr(place, name, told(board, number, getattr(place, name)))


def told(board: Board, number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before = struct.unpack_from("q", board.memory, 8 * len(NAMES))[0]
        board.enter(number)
        if board.holds(number):
            time.sleep(HOLD_S)
        try:
            return function(*args, **kwargs)
        finally:
            board.now(before)

    return wrapped


def cold(board_path: str) -> None:
    """The command, with its arguments in sys.argv; rollouts are noted once training begins."""
    from open_rs import cli
    from open_rs.commands import train

    plain = train.train_stage

    def noted(*args: Any, **kwargs: Any) -> None:
        note_drawn(Board(Path(board_path)))
        plain(*args, **kwargs)

    train.train_stage = noted
    cli.main()


# --- starts ---


@dataclass
class Child:
    """One start of a run, in a process of its own."""

    pid: int
    pipe: int
    status: int | None = None
    said: str = ""
    used: float = 0.0  # CPU seconds of one that was waited for

    def ended(self) -> bool:
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.used = usage.ru_utime + usage.ru_stime
                self.status = os.waitstatus_to_exitcode(status)
                self.said = os.read(self.pipe, 1 << 16).decode(errors="replace")
                os.close(self.pipe)
        return self.status is not None

    def wait(self) -> int:
        until = time.monotonic() + GIVE_UP_S
        while not self.ended():
            assert time.monotonic() < until, f"no end in sight after {GIVE_UP_S} s"
            time.sleep(0.002)
        assert self.status is not None
        return self.status

    def destroy(self) -> None:
        """Whatever it does, it does no more."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def cpu_seconds(self) -> float:
        """What it has used of the CPU, which other work on the machine does not move."""
        used = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime

    @property
    def sentence(self) -> str:
        """The last line that it said."""
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else ""


def words(run: "RunFolder", accept: bool) -> list[str]:
    return ["train", "--resume", str(run.path), *(["--accept-changes"] if accept else [])]


def start(run: "RunFolder", board: Board, *, accept: bool = False, phases: bool = False) -> Child:
    """Fork a process that runs the command; with `phases` it tells the board where it is."""
    from open_rs import cli

    board.clear()
    sys.stdout.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return Child(pid, reader)
    status = 1
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        note_drawn(board)
        if phases:
            watch_phases(board)
        sys.argv = ["open-rs", *words(run, accept)]
        cli.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def start_cold(run: "RunFolder", board: Board, *, accept: bool = False) -> Child:
    """The same in an interpreter of its own, imports included."""
    board.clear()
    reader, writer = os.pipe()
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += f"from kill_starts import cold; cold({str(board.path)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words(run, accept)], stdout=writer, stderr=writer
    )
    os.close(writer)
    process.returncode = 0  # `Child` waits for it, Popen need not
    return Child(process.pid, reader)
