"""One writer to a folder at a time.

The kernel's lock on FOLDER/.lock keeps others out and goes with its owner, however that one ends.
FOLDER/.owner.json says who it is, to whoever is refused. Where that file was left behind, its owner
was killed: on this machine the folder is taken over, aloud; what another machine left is refused,
because not every shared file system carries locks from machine to machine.
"""

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from open_rs.console import say
from open_rs.errors import InputError
from open_rs.runs import make_folder, unwritable

LOCK, OWNER = ".lock", ".owner.json"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True)
class Owner:
    """Who writes to a folder; `started` for people, `life` to tell a process from a later one that
    has its number.
    """

    pid: int
    host: str
    started: str
    life: str | None

    @property
    def text(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}"

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; asked on its own host only."""
        return life_of(self.pid) is not None and life_of(self.pid) == self.life


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Be the only writer to `folder`, which is made where it is missing. InputError where another
    process writes there.
    """
    make_folder(folder)
    lock = kernel_lock(folder)
    try:
        _refuse_or_take_over(folder)
        write_owner(folder)
        try:
            yield
        finally:
            (folder / OWNER).unlink(missing_ok=True)
    finally:
        if lock is not None:
            lock.release()


def refusal_of(folder: Path) -> InputError | None:
    """Why this process could not write to `folder` now, None where it could. Nothing is taken."""
    try:
        lock = kernel_lock(folder)
    except InputError as error:
        return error
    if lock is not None:
        lock.release()
    owner = _read_owner(folder)
    if owner is None or (owner.host == socket.gethostname() and not owner.is_alive):
        return None
    return _refusal(folder, owner)


def kernel_lock(folder: Path) -> BaseFileLock | None:
    """The kernel's lock, taken; None on a file system without locks, which is said."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _refusal(folder, _read_owner(folder)) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise unwritable(folder, error) from error
        say(f"{folder}: its file system has no locks; {OWNER} alone keeps a second writer out")
        return None
    return lock


def _refuse_or_take_over(folder: Path) -> None:
    """Deal with an owner file that stands there although no lock of the kernel kept us out."""
    file = folder / OWNER
    if not file.exists():
        return
    owner = _read_owner(folder)
    if owner is not None and (owner.host != socket.gethostname() or owner.is_alive):
        raise _refusal(folder, owner)
    if owner is not None:
        say(f"{folder}: taken over from {owner.text}, which was killed")
    file.unlink(missing_ok=True)


def _refusal(folder: Path, owner: Owner | None) -> InputError:
    if owner is None:
        return InputError(f"{folder}: another process writes there; wait for it, or give --out")
    if owner.host == socket.gethostname():
        return InputError(
            f"{folder}: {owner.text}, writes there; wait for it, end it, or give another --out"
        )
    return InputError(
        f"{folder}: {owner.text}, writes there or was killed there; end it, make sure that it is "
        f"gone and remove {folder / OWNER}, or give another --out"
    )


def _read_owner(folder: Path) -> Owner | None:
    """The owner that the folder names; None where it names none or the file was torn."""
    try:
        return Owner(**json.loads((folder / OWNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_owner(folder: Path) -> None:
    """Name ourselves; where somebody was faster, which only happens without locks, we are late."""
    try:
        with (folder / OWNER).open("x", encoding="utf-8") as file:
            json.dump(asdict(ourselves()), file)
    except FileExistsError:
        raise _refusal(folder, _read_owner(folder)) from None
    except OSError as error:
        (folder / OWNER).unlink(missing_ok=True)
        raise unwritable(folder / OWNER, error) from error


def ourselves() -> Owner:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(os.getpid(), socket.gethostname(), started, life_of(os.getpid()))


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
