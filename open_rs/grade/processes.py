"""Processes that are not left behind: the one above a worker that ends what the worker started.

    caller -> guard -> supervisor -> child -> whatever a served function starts

The guard runs nobody's code. When the caller closes its pipe, asks for it or dies, or when the
supervisor is gone, the guard kills what is below it. On Linux a process whose parent died becomes a
child of the guard, in whatever process group or session it is, so that nothing is missed.
"""

import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def fork_under_guard(below: Callable[[], int], lifeline: int, kept: Collection[int]) -> None:
    """Fork: the child calls `below` and exits with what it returns; this process becomes its guard
    and exits when that one is gone, or when the pipe `lifeline` has no writer any more.

    `kept`: descriptors of the child that the guard closes. SIGUSR1 is passed on to the child.
    """
    caller = os.getppid()
    adopt_orphans()
    signal_at_parents_death(signal.SIGHUP)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    child = fork_and_exit(below)
    for descriptor in kept:
        os.close(descriptor)
    ended = _Ended()
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(child, signal.SIGUSR1))
    for number in (signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # it has to wake the guard, no more
    signal.signal(signal.SIGTERM, ended.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business
    poll = select.poll()
    poll.register(lifeline, 0)  # POLLHUP alone
    poll.register(woken, select.POLLIN)
    status = 0
    while not ended.now and os.getppid() == caller:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            break
        for descriptor, _ in poll.poll():
            if descriptor == lifeline:
                ended.set()
            else:
                os.read(woken, 1 << 10)
    end_children()
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


class _Ended:
    """Whether the guard has been asked to end; a signal handler sets it."""

    now = False

    def set(self, *_: object) -> None:
        self.now = True


def fork_and_exit(work: Callable[[], int]) -> int:
    """The pid of a child that does `work`, exits with what it returns (1 if it raises) and dies
    with this process.
    """
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal_at_parents_death(signal.SIGKILL)
        if os.getppid() == parent:  # it did not die before we had asked to be told
            code = work()
    finally:
        os._exit(code)


def signal_at_parents_death(number: signal.Signals) -> None:
    """On Linux the kernel sends `number` when the parent (its thread, to be exact) dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """On Linux: from now on whoever below this process loses its parent becomes our child."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_group(leader: int) -> None:
    """Kill a process group at once; nothing where it is gone."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return


def end_children(spared: Collection[int] = ()) -> None:
    """Kill and reap every child but the spared, and those that become ours by it."""
    while pids := children() - set(spared):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):  # reaped by a handler of the user's
                continue


def children() -> set[int]:
    """The children of this process, those that ended among them; empty where there is no /proc."""
    found, own = set(), str(os.getpid())
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        except OSError:  # it ended while we looked
            continue
        if parent == own:
            found.add(int(entry.name))
    return found
