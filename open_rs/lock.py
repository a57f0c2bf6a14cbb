"""One writer to a folder at a time.

The kernel's lock on FOLDER/.lock keeps others out and goes with its owner, however that one ends.
FOLDER/.owner.json says who it is, to whoever is refused. Where that file was left behind, its owner
was killed: on this machine the folder is taken over, aloud. What another machine left is refused,
because not every shared file system carries locks from machine to machine and no clock tells a
dead process from one that hangs; it is taken over where the user says so (`take_over`), or where
a scheduler has started the same job again: it holds the process before for gone.
"""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.runs import RunFolder, make_folder, unwritable, write_json

LOCK, OWNER = ".lock", ".owner.json"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

_held: set[int] = set()  # descriptors of this process


def _let_go() -> None:
    """In a child that was forked: it would hold the lock of a parent that is killed."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


@dataclass(frozen=True)
class Owner:
    """Who writes to a folder; `started` for people, `life` to tell a process from a later one that
    has its number.
    """

    pid: int
    host: str
    started: str
    life: str | None
    job: str | None = None  # of a scheduler that starts it again elsewhere when its host is gone
    attempt: int | None = None  # of that job, where the scheduler counts them

    @property
    def text(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}"

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; asked on its own host only."""
        return life_of(self.pid) is not None and life_of(self.pid) == self.life

    def is_restarted_as(self, later: "Owner") -> bool:
        """Whether a scheduler has given the job of this process to a later one."""
        if self.job is None or self.job != later.job:
            return False
        if self.attempt is None or later.attempt is None:
            return True
        return self.attempt < later.attempt


@contextmanager
def lock_folder(folder: Path, *, take_over: bool = False) -> Iterator[None]:
    """Be the only writer to `folder`, which is made where it is missing. InputError where another
    process writes there. `take_over`: the owner that another host left there is gone.
    """
    make_folder(folder)
    lock = kernel_lock(folder)
    try:
        _refuse_or_take_over(folder, take_over, locked=lock is not None)
        ours = write_owner(folder)
        try:
            yield
        finally:
            if _read_owner(folder) == ours:  # and not of one that took it over
                (folder / OWNER).unlink(missing_ok=True)
    finally:
        release(lock)


def refusal_of(folder: Path) -> InputError | None:
    """Why this process could not write to `folder` now, None where it could. The lock is held for
    as long as it takes to see that it can be had.
    """
    try:
        lock = kernel_lock(folder)
    except InputError as error:
        return error
    release(lock)
    owner = _read_owner(folder)
    return None if owner is None or _why_gone(owner) else _refusal(folder, owner)


def kernel_lock(folder: Path) -> int | None:
    """The descriptor that holds the kernel's lock; None on a file system without locks, which is
    said.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise _refusal(folder, _read_owner(folder), holds=True) from None
        if error.errno not in NO_LOCKS:
            raise unwritable(folder, error) from error
        say(f"{folder}: its file system has no locks; {OWNER} alone keeps a second writer out")
        return None
    _held.add(descriptor)
    return descriptor


def release(lock: int | None) -> None:
    """Give back what `kernel_lock` took, unless a fork has done so in this process."""
    if lock in _held:
        _held.discard(lock)
        os.close(lock)


def _refuse_or_take_over(folder: Path, take_over: bool, *, locked: bool) -> None:
    """Deal with an owner file that stands there although no lock of the kernel kept us out."""
    if not (folder / OWNER).exists():
        return
    owner = _read_owner(folder)
    if owner is None:
        if not (locked or take_over):
            raise InputError(
                f"{folder / OWNER}: does not say who writes there; make sure that nobody does and "
                "give --take-over, or give another --out"
            )
    elif why := _why_gone(owner):
        say(f"{folder}: taken over from {owner.text}{why}")
    elif take_over and owner.host != socket.gethostname():
        say(f"{folder}: taken over from {owner.text}, as --take-over says")
    else:
        raise _refusal(folder, owner)
    _remove(folder, owner)


def _why_gone(owner: Owner) -> str:
    """How we know that an owner whose name is left writes no more; empty where we do not."""
    if owner.host == socket.gethostname():
        return "" if owner.is_alive else ", which was killed"
    return f": {owner.job} was started again" if owner.is_restarted_as(ourselves()) else ""


def _remove(folder: Path, owner: Owner | None) -> None:
    """Take away the name of this owner, and of no other who came meanwhile."""
    aside = folder / f".{OWNER}.{os.getpid()}.old.tmp"
    with suppress(FileNotFoundError):  # somebody else has taken it over
        (folder / OWNER).rename(aside)
        found = _read_owner(folder, aside.name)
        if found != owner:
            aside.replace(folder / OWNER)
            raise _refusal(folder, found)
        aside.unlink()


def _refusal(folder: Path, owner: Owner | None, *, holds: bool = False) -> InputError:
    """`holds`: the kernel's lock, so it is alive wherever it is."""
    if owner is None:
        return InputError(f"{folder}: another process writes there; wait for it, or give --out")
    if holds or owner.host == socket.gethostname():
        return InputError(
            f"{folder}: {owner.text}, writes there; wait for it, end it, or give another --out"
        )
    return InputError(
        f"{folder}: {owner.text}, writes there or was killed there (last sign of life "
        f"{silent_minutes(folder):.0f} min ago); end it, make sure that it is gone and give "
        "--take-over, or give another --out"
    )


def silent_minutes(folder: Path) -> float:
    """Since the owner of a folder last beat, or came, by the clock of its file system alone: those
    of two hosts need not agree.
    """
    try:
        os.utime(folder / LOCK)
        now = (folder / LOCK).stat().st_mtime
    except OSError:
        return 0.0
    signs = (folder / OWNER, RunFolder(folder).heartbeat)
    last = max((one.stat().st_mtime for one in signs if one.exists()), default=now)
    return max(now - last, 0.0) / 60


def _read_owner(folder: Path, name: str = OWNER) -> Owner | None:
    """The owner that the folder names; None where it names none or the file was torn."""
    try:
        return Owner(**json.loads((folder / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_owner(folder: Path) -> Owner:
    """Name ourselves, in a file that is whole from its first moment on; where somebody was faster,
    which only happens without locks, we are late.
    """
    ours = ourselves()
    whole = folder / f".{OWNER}.{os.getpid()}.tmp"
    try:
        write_json(whole, asdict(ours))
        put_in_place(whole, folder / OWNER)
    except FileExistsError:
        raise _refusal(folder, _read_owner(folder)) from None
    except OSError as error:
        raise unwritable(folder / OWNER, error) from error
    finally:
        whole.unlink(missing_ok=True)
    return ours


def put_in_place(whole: Path, final: Path) -> None:
    """Give a file a second name, which must be new: FileExistsError. A link whose answer NFS lost
    counts; a file system without links has the file created there and written at once.
    """
    try:
        os.link(whole, final)
    except FileExistsError:
        if final.stat().st_ino != whole.stat().st_ino:
            raise
    except OSError as error:
        if error.errno not in (*NO_LOCKS, errno.EPERM, errno.EMLINK):
            raise
        with final.open("xb", buffering=0) as file:
            file.write(whole.read_bytes())


def ourselves() -> Owner:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(os.getpid(), socket.gethostname(), started, life_of(os.getpid()), *job_of())


def job_of() -> tuple[str | None, int | None]:
    """(the job that a scheduler has started this process for, which attempt at it): the job keeps
    its name when it is started again after its machine was lost.
    """
    if number := os.environ.get("SLURM_JOB_ID"):
        return f"Slurm job {number}", int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if task := os.environ.get("SKYPILOT_TASK_ID"):
        node = os.environ.get("SKYPILOT_NODE_RANK", "0")
        return f"SkyPilot task {task}, node {node}", None
    return None, None


def life_of(pid: int) -> str | None:
    """What names this life of a process number: the boot and the tick in which it started. None
    where there is no such process; "unknown" for one on a system without /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] == "Z" else f"{boot} {fields[19]}"
    except OSError:
        return "unknown" if not Path("/proc/self/stat").exists() and _exists(pid) else None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
